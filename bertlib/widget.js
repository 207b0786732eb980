// The page of bertlib.widget: draws `state`, sends commands, keeps nothing else.
// Text is only ever set by textContent, so that no token becomes markup.

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
};

function controls(state, send) {
  const text = make("input", { type: "text", "aria-label": "A sentence", class: "bl-text", spellcheck: "false" });
  text.value = state.text;
  const read = () => send({ do: "read", text: text.value });
  text.addEventListener("keydown", (event) => event.key === "Enter" && read());
  const pick = choice("Pick a sentence", ["", ...state.examples], "", (value) => value && send({ do: "read", text: value }));
  const button = (label, command, name = "") =>
    make("button", { type: "button", "data-key": label, text: label, title: name, onclick: () => send(command) });
  const head = (layer, number) => send({ do: "attend", layer, head: number, index: state.selected });
  const numbers = (count) => ["", ...Array.from({ length: count }, (_, n) => String(n))];
  const [layer, number] = state.head;
  return make("div", { class: "bl-controls" },
    make("div", { class: "bl-line" }, text, make("button", { type: "button", "data-key": "Read", text: "Read", onclick: read }), pick),
    make("div", { class: "bl-line" },
      button("Mask 15% for me", { do: "mask" }), button("Show all", { do: "clear" }),
      button("Score every word", { do: "score" }, "Each word hidden in turn"),
      ...(state.has_puzzles ? [button("New puzzle", { do: "puzzle" }, "A text that was never trained on")] : [])),
    make("div", { class: "bl-line" },
      ...(state.models.length > 1
        ? [choice("Compare with", ["", ...state.models.slice(1)], state.compared, (name) => send({ do: "compare", name }))] : []),
      choice("Attention: layer", numbers(state.layers), layer ?? "", (value) => head(value === "" ? -1 : Number(value), number ?? 0)),
      choice("head", numbers(state.heads), number ?? "", (value) => head(value === "" ? -1 : layer ?? 0, Number(value))),
      button("Save as HTML", { do: "export", format: "html" }), button("Save as PNG", { do: "export", format: "png" })));
}

function choice(label, values, chosen, onchoose) {
  const select = make("select", { "data-key": label, onchange: () => onchoose(select.value) },
    ...values.map((value) => make("option", { value, text: value === "" ? "none" : value })));
  select.value = String(chosen);
  if (values[0] === "" && label.startsWith("Pick")) select.options[0].textContent = "…";
  return make("label", {}, label + " ", select);
}

// What stands under a token: the first guess, its score, or how much it is read.
function note(state, index, hole) {
  if (state.reads.length) return state.reads[index] >= 0.005 ? `${Math.round(100 * state.reads[index])}%` : "";
  if (hole >= 0) {
    const { right, guesses: [first] } = state.columns[0].holes[hole];
    return `${right === null ? "" : right ? "✓ " : "✗ "}${first.token} ${first.percent}`;
  }
  return state.scores.length && state.maskable.includes(index) ? state.percents[index] : "";
}

function tokenButton(state, index, hole, send) {
  const token = state.tokens[index];
  const hidden = hole >= 0, may = state.maskable.includes(index);
  const below = note(state, index, hole);
  const { right, guesses: [first] } = hidden ? state.columns[0].holes[hole] : { guesses: [] };
  const said = hidden ? `hole ${hole + 1}, first guess ${first.word} ${first.percent}, ${right === null ? "true word unknown" : right ? "right" : "wrong"}`
    : `${token}${below ? `, ${below}` : ""}`;
  const kind = [hidden && "bl-hidden", token.startsWith("##") && "bl-piece", !may && "bl-special",
    index === state.selected && state.head.length && "bl-selected",
    right === true && "bl-right", right === false && "bl-wrong"];
  const shown = hidden ? "[MASK]" : token.replace(/^##(?=.)/, "");
  return make("button", {
    type: "button", class: ["bl-token", ...kind.filter(Boolean)].join(" "), "data-index": index,
    "aria-pressed": may ? String(hidden) : undefined, "aria-label": said, "aria-disabled": may ? undefined : "true",
    tabindex: index === state.selected ? "0" : "-1",
    onclick: () => may && send({ do: "toggle", index }),
    onfocus: () => state.head.length && index !== state.selected
      && send({ do: "attend", layer: state.head[0], head: state.head[1], index }),
  }, make(hidden ? "b" : "span", { text: shown }), make("small", { text: below || "\u00a0" }));
}

function tokens(state, send) {
  const holes = new Map(state.masked.map((position, hole) => [position, hole]));
  const box = make("div", { class: "bl-tokens", role: "toolbar", "aria-label": "Words: press one to hide it or to show it; arrow keys move" });
  state.tokens.forEach((token, index) => token !== "[PAD]"
    && box.append(tokenButton(state, index, holes.get(index) ?? -1, send)));
  box.addEventListener("keydown", (event) => {
    const all = [...box.querySelectorAll("button")], here = all.indexOf(document.activeElement);
    const next = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: all.length - 1 }[event.key];
    if (next === undefined || !all[next]) return;
    event.preventDefault();
    all.forEach((button) => button.setAttribute("tabindex", "-1"));
    all[next].setAttribute("tabindex", "0");
    all[next].focus();
  });
  return box;
}

// Arcs from the selected token to those that its head reads most.
function arcs(box, state) {
  box.querySelector("svg")?.remove();
  if (!state.reads.length) return;
  const place = (index) => {
    const button = box.querySelector(`[data-index="${index}"]`);
    return button && { x: button.offsetLeft + button.offsetWidth / 2, y: button.offsetTop };
  };
  const from = place(state.selected);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  state.reads.forEach((share, index) => {
    const to = place(index);
    if (share < 0.02 || !to || !from || index === state.selected) return;
    const arc = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const high = Math.min(from.y, to.y) - Math.min(18, 6 + Math.abs(to.x - from.x) / 8);
    arc.setAttribute("d", `M${from.x},${from.y} C${from.x},${high} ${to.x},${high} ${to.x},${to.y}`);
    arc.setAttribute("stroke-width", String(Math.max(1, 8 * share)));
    svg.append(arc);
  });
  box.append(svg);
}

function table(column, several) {
  const head = make("tr", {}, ...column.headings.map((text) => make("th", { scope: "col", text })));
  const body = column.rows.map((row) => make("tr", {}, ...row.map((text, n) =>
    n ? make("td", { text }) : make("th", { scope: "row", text }))));
  const count = make("p", { class: "bl-count", text: (several ? column.name + ": " : "") + column.summary });
  if (!column.rows.length) return make("div", {}, count);
  const caption = make("caption", { text: several ? `Guesses of ${column.name}` : "Guesses" });
  return make("div", { class: "bl-table" }, count, make("table", {}, caption, make("thead", {}, head), make("tbody", {}, ...body)));
}

function saveFile({ name, kind, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const link = make("a", { href: URL.createObjectURL(new Blob([bytes], { type: kind })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

const GONE = "The kernel that answered here has stopped: run the cell again.";

function render({ model, el }) {
  // data-lm-suppress-shortcuts: letters and arrows are for this page, not for JupyterLab
  const root = make("div", { class: "bl-root", role: "group", "aria-label": "Hide words and see what the model guesses", "data-lm-suppress-shortcuts": "true" });
  const status = make("div", { role: "status", class: "bl-status" });
  const parts = make("div", {});
  root.append(parts, status);
  el.append(root);
  const say = (message, unseen = "") => status.replaceChildren(
    make("span", { text: message + " " }), make("span", { class: "bl-unseen", text: unseen }));
  const gone = () => say(GONE);
  const send = (command) => {
    try {
      model.send(command);
    } catch { // after a crash there is no connection to send on
      gone();
    }
  };
  let drawn = null; // the text that the page last showed: what differs is being typed
  const draw = () => {
    const state = model.get("state"), typed = parts.querySelector(".bl-text")?.value;
    const old = document.activeElement;
    const inside = parts.contains(old);
    const key = inside && (old.dataset.index !== undefined ? `[data-index="${old.dataset.index}"]`
      : old.dataset.key !== undefined ? `[data-key="${old.dataset.key}"]` : ".bl-text");
    const box = tokens(state, send), several = state.columns.length > 1;
    parts.replaceChildren(controls(state, send), box,
      make("div", { class: "bl-columns" }, ...state.columns.map((column) => table(column, several))));
    const place = state.puzzle >= 0 ? `Puzzle ${state.puzzle}. ` : "";
    // the count is seen above: for ears only
    say(place + state.message, state.columns.map((column) => column.summary).join(" "));
    if (drawn !== null && drawn === state.text && typed !== drawn) parts.querySelector(".bl-text").value = typed;
    if (key) parts.querySelector(key)?.focus({ preventScroll: true });
    arcs(box, state);
    drawn = state.text;
  };
  model.on("change:state", draw);
  model.on("comm_live_update", gone); // Jupyter never brings a connection back to life
  model.on("msg:custom", saveFile);
  const watch = new ResizeObserver(() => { const box = parts.querySelector(".bl-tokens"); if (box) arcs(box, model.get("state")); });
  watch.observe(root);
  draw();
  if (el.classList.contains("jupyter-widgets-disconnected")) gone(); // drawn anew after the end
  return () => { model.off("change:state", draw); model.off("comm_live_update", gone); model.off("msg:custom", saveFile); watch.disconnect(); };
}

export default { render };
