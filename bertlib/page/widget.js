// The page in a notebook: the kernel answers (bertlib/widget.py). BODY and STYLE are put before this
// file. A shadow root keeps its names and looks apart from JupyterLab's.

const GONE = "The kernel that answered here has stopped: run the cell again.";

// Each question to the kernel gets its answer, or an Error of one sentence.
function asker(model) {
  const waiting = new Map();
  let asked = Math.floor(Math.random() * 2 ** 40), gone = false;  // apart from other views' numbers
  const lose = () => {
    gone = true;
    waiting.forEach(({ reject }) => reject(new Error(GONE)));
    waiting.clear();
  };
  const answered = (data) => {
    const { resolve, reject } = waiting.get(data.number) ?? {};
    if (!waiting.delete(data.number)) return;  // of another view
    if (data.error) reject(new Error(data.error));
    else resolve(data);
  };
  const call = (message) => new Promise((resolve, reject) => {
    if (gone) return reject(new Error(GONE));
    const number = asked++;
    waiting.set(number, { resolve, reject });
    try {
      model.send({ number, ...message });
    } catch {  // after a crash there is no connection to send on
      lose();
    }
  });
  return { call, answered, lose };
}

// The next puzzle: a chunk that the kernel draws, or a passage that Python handed over.
function dealer(call, passages) {
  let dealt = -1;
  return async (pane) => {
    if (!passages.length) return call({ deal: true });
    dealt++;
    const [message, text, seed] = passages[dealt % passages.length];
    return { ...await pane.ask(text), message,
      seed: seed + 100 * Math.floor(dealt / passages.length) };
  };
}

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
  const { call, answered, lose } = asker(model);
  const page = new Instrument(root, call, { ...facts, style: STYLE,
    puzzle: dealer(call, facts.passages) });
  const gone = () => {
    lose();
    page.say(GONE);
  };
  page.find("#where").textContent = "Python answers, as long as its kernel runs.";
  model.on("msg:custom", answered);
  model.on("comm_live_update", gone);  // Jupyter never brings a connection back to life
  if (el.classList.contains("jupyter-widgets-disconnected")) lose();  // drawn anew after the end
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
