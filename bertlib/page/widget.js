// The page in a notebook: the kernel answers (bertlib/widget.py). BODY and STYLE are put before this
// file. A shadow root keeps its names and looks apart from JupyterLab's.

const GONE = "The kernel that answered here has stopped: run the cell again.";

function render({ model, el }) {
  const facts = model.get("facts");
  const host = make("div", { class: "bl-root" }), root = host.attachShadow({ mode: "open" });
  // letters and arrows are for this page, not for JupyterLab
  set(host, { "data-lm-suppress-shortcuts": "true" });
  const style = make("style");
  root.innerHTML = BODY;
  root.prepend(style);
  el.append(host);
  const dress = () => {  // JupyterLab's theme, not the system's, says whether it is dark
    const dark = document.body.dataset.jpThemeLight === "false";
    style.textContent = STYLE.replace("(prefers-color-scheme: dark)", dark ? "all" : "not all");
    host.style.colorScheme = dark ? "dark" : "light";
  };
  dress();
  const theme = new MutationObserver(dress);
  theme.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  const { call, answered, lose } = asker((message) => {
    try {
      model.send(message);
    } catch {  // after a crash there is no connection to send on
      lose(GONE);
    }
  });
  const { passages } = facts;  // without any, the kernel draws a chunk of its puzzles
  const page = new Instrument(root, call, { ...facts, style: STYLE,
    puzzle: passages.length ? dealer(passages) : () => call({ deal: true }) });
  const gone = () => {
    lose(GONE);
    page.say(GONE);
  };
  page.find("#where").textContent = "Python answers, as long as its kernel runs.";
  model.on("msg:custom", answered);
  model.on("comm_live_update", gone);  // Jupyter never brings a connection back to life
  if (el.classList.contains("jupyter-widgets-disconnected")) lose(GONE);  // drawn anew after the end
  const still = listen(page);
  page.begin(facts.opening);
  return () => {
    model.off("msg:custom", answered);
    model.off("comm_live_update", gone);
    theme.disconnect();
    still();
  };
}

export default { render };
