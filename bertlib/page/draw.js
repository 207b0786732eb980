// Facts to DOM, and nothing else: no engine, no state, no listener. Whoever has guesses, in a worker
// or in a kernel, passes them here.
//
//     drawPassage(element, { words, holes, selected });  drawCard(element, hole);
//
// words: [{ key, after, wide, parts: [{ position, end, pieces, hole, heat, read }] }], chunks of a
//     text between spaces. pieces: texts; hole: an index of holes, or -1; heat: { step: 1..5,
//     figure } or null; read: { share, figure } or null, what a head reads there, the figure empty
//     where it is little. position: -1 for what cannot be hidden, such as a comma.
// holes: [{ position, number, guesses: [[token, share], ...], truth: { text, rank, share } or null,
//     right: true, false or null, blank, placed, yours, revealed, other }]. blank: the model's guess
//     is not told yet. placed: a guess that was put into the text. yours: { text, right } or null.
//     other: { name, guesses, right } of a second model, or null.
// Text is only ever set by textContent, so that no token becomes markup.

"use strict";

const MARKS = { true: "✓", false: "✗", null: "" };
const TOLD = { true: ", right", false: ", wrong", null: "" };

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

// Only what differs is touched: an untouched element keeps focus and selection.
function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
}

// As `percent` in bertlib/plumbing/page.py.
function percent(share) {
  return share < 0.0005 ? "under 0.1%" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
}

const plain = (token) => token.replace(/^##(?=.)/, "");

// The children of `parent` become `items`, each in the element that it had before, found by key.
function keyed(parent, items, keyOf, draw) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let last = null;
  items.forEach((item) => {
    const key = keyOf(item);
    let element = before.get(key);
    before.delete(key);
    element = draw(item, element) ?? element;
    element.dataset.key = key;
    const next = last ? last.nextSibling : parent.firstChild;
    if (element !== next) parent.insertBefore(element, next);
    last = element;
  });
  before.forEach((element) => element.remove());
}

// What a slot says to those who do not see it.
function said(hole) {
  const { number, blank, guesses, placed, truth, right, yours, revealed, other } = hole;
  const [first] = guesses;
  const own = yours ? `, you said ${yours.text}${TOLD[yours.right]}` : "";
  if (placed !== null) return `hole ${number}, you put ${plain(placed)} here`;
  if (blank || !first) return `hole ${number}, to be guessed${own}`;
  const told = truth && revealed ? `, the true word is ${truth.text}` : "";
  const second = other ? `, ${other.name}: ${plain(other.guesses[0][0])} `
    + `${percent(other.guesses[0][1])}${TOLD[other.right]}` : "";
  return `hole ${number}${own}, guess ${plain(first[0])} ${percent(first[1])}${TOLD[right]}`
    + `${second}${told}`;
}

// What a word or a slot says to those who do not see it, or null where its text says all.
function label({ pieces, heat, read }, hole) {
  const told = [hole ? said(hole) : pieces.join(""), ...(!hole && heat ? [heat.figure] : []),
    ...(read?.figure ? [`read ${read.figure}`] : [])];
  return hole || told.length > 1 ? told.join(", ") : null;
}

// The line below a slot: what you said, and the truth once it is told.
function under({ truth, right, yours, revealed }) {
  const own = yours ? [`you: ${yours.text} ${MARKS[yours.right]}`] : [];
  const known = truth && revealed && !right ? [truth.text] : [];
  return [...own, ...known].join(" · ");
}

// A guess, its share, a bar as long as that; the line and the mark tell right from wrong, so that no
// colour has to.
function drawGuess([token, share], right) {
  return [
    make("span", { class: "guess" }, plain(token)),
    make("span", { class: "figure" }, MARKS[right] ? `${percent(share)} ${MARKS[right]}` : percent(share)),
    make("span", { class: "track" },
      make("span", { class: "bar", style: `width: ${(100 * share).toFixed(1)}%` })),
  ];
}

// A hole: its guess, or your own; below it that of a second model, and the truth.
function drawSlot(hole) {
  const { number, blank, guesses: [first], placed, right, other } = hole;
  const below = under(hole), own = (word, figure) => [
    make("span", { class: "guess" }, word), make("span", { class: "figure" }, figure)];
  return [
    ...(placed !== null ? own(plain(placed), "✎") : blank || !first
      ? own("\u2003\u2003", String(number)) : drawGuess(first, right)),
    ...(other && !blank && placed === null ? [make("span", {
      class: ["other", { true: "right", false: "wrong", null: "" }[other.right]].join(" ") },
    ...drawGuess(other.guesses[0], other.right))] : []),
    ...(below ? [make("span", { class: "truth" }, below)] : []),
  ];
}

// What a head reads here: a stroke as strong as that, and the figure where it is not empty.
function drawRead({ read }) {
  return read ? [make("span", { class: "read", style: `--read: ${read.share.toFixed(3)}` },
    make("span", {}, read.figure))] : [];
}

// One word that can be hidden, one hole, or signs that are neither; `old` is drawn over if given.
function drawPart(part, hole, selected, old) {
  const element = old ?? make("span");
  const kinds = ["part"];
  let key, children;
  if (hole) {
    const told = !hole.blank && hole.placed === null;  // the model's guess stands there
    kinds.push("hole", told && { true: "right", false: "wrong", null: "" }[hole.right],
      (hole.blank || !hole.guesses.length) && "open", hole.placed !== null && "placed",
      selected && "selected", told && hole.other && "two");
    key = JSON.stringify([hole, part.read]);
    children = () => [...drawSlot(hole), ...drawRead(part)];
  } else {
    kinds.push(part.position >= 0 && "word", part.heat && `heat heat-${part.heat.step}`);
    key = JSON.stringify([part.pieces, part.heat, part.read]);
    children = () => [
      ...part.pieces.map((text) => make("span", { class: "piece" }, text)),
      ...(part.heat ? [make("span", { class: "figure" }, part.heat.figure)] : []),
      ...drawRead(part),
    ];
  }
  const can = hole || part.position >= 0;
  set(element, {
    class: kinds.filter(Boolean).join(" "), role: can ? "button" : null,
    tabindex: can ? element.getAttribute("tabindex") ?? "-1" : null,
    "data-position": can ? part.position : null, "data-hole": hole ? hole.number : null,
    "data-below": hole ? under(hole) || null : null,  // as wide as that the slot has to be
    "aria-pressed": can ? String(Boolean(hole)) : null, dir: hole ? "auto" : null,
    "aria-label": label(part, hole),
  });
  if (element.drawn !== key) {
    element.drawn = key;
    element.replaceChildren(...children());
  }
  return element;
}

// The passage as prose. One part of it can be reached by Tab, the arrow keys do the rest.
function drawPassage(root, { words, holes, selected = -1 }) {
  keyed(root, words, (word) => word.key, (word, old) => {
    const element = old ?? make("span");
    set(element, { class: word.wide ? "chunk wide" : "chunk" });
    if (!element.firstChild) element.append(make("span", { class: "parts" }), word.after);
    keyed(element.firstChild, word.parts, (part) => `${part.position}:${part.at}`, (part, was) => {
      const hole = part.hole < 0 ? null : holes[part.hole];
      return drawPart(part, hole, part.hole >= 0 && part.hole === selected, was);
    });
    return element;
  });
  const kinds = ["passage", holes.some((hole) => hole.yours || hole.revealed) && "told",
    holes.some((hole) => hole.other) && "two"];
  set(root, { class: kinds.filter(Boolean).join(" ") });
  const parts = [...root.querySelectorAll("[role=button]")];
  const stop = parts.find((part) => part.tabIndex === 0);
  const wanted = root.querySelector(".selected") ?? stop ?? root.querySelector(".hole") ?? parts[0];
  parts.forEach((part) => set(part, { tabindex: part === wanted ? 0 : -1 }));
}

// Five guesses as numbered bars, and the true word with its rank. Each row carries data-choice,
// so that one listener serves all.
function drawCard(root, hole) {
  const { guesses, truth, revealed, number, placed, other } = hole;
  set(root, { "aria-label": `Guesses for hole ${number}` });
  const row = ([token, share], rank) => make("li", {}, make("button", {
    type: "button", "data-choice": rank, "aria-pressed": String(token === placed),
  }, make("kbd", { "aria-hidden": "true" }, String(rank + 1)),
  make("span", { class: "token" }, plain(token)),
  make("span", { class: "share" }, percent(share)),
  make("span", { class: "track" },
    make("span", { class: "bar", style: `width: ${(100 * share).toFixed(1)}%` }))));
  const pinned = truth && make("p", { class: "pinned" }, "true word ",
    revealed ? make("b", {}, truth.text) : "hidden",
    ` · rank ${truth.rank.toLocaleString("en")} · ${percent(truth.share)}`);
  root.replaceChildren(
    make("h2", {}, `Hole ${number}`),
    make("ol", {}, ...guesses.map(row)),
    ...(pinned ? [pinned] : []),
    ...(other ? [make("p", { class: "pinned" }, `${other.name}: ${other.guesses.map(
      ([token, share]) => `${plain(token)} ${percent(share)}`).join(", ")}`)] : []),
    make("p", { class: "acts" },
      ...(truth && !revealed ? [make("button", { type: "button", "data-do": "tell" }, "reveal")] : []),
      ...(placed !== null ? [make("button", { type: "button", "data-do": "lift" }, "take back")] : []),
      ...(truth ? [make("button", { type: "button", "data-do": "show" }, "show the word")] : []),
      make("button", { type: "button", "data-do": "close" }, "close")));
}

// The card of a hole whose guesses are not told yet: you first.
function drawTurn(root, hole) {
  set(root, { "aria-label": `Your guess for hole ${hole.number}` });
  root.replaceChildren(
    make("h2", {}, `Hole ${hole.number}: you first`),
    make("form", {},
      make("label", {}, "Your word ", make("input", {
        name: "word", autocomplete: "off", autocapitalize: "none", spellcheck: "false",
        maxlength: 60 })),
      make("button", {}, "guess")),
    make("p", { class: "acts" },
      make("button", { type: "button", "data-do": "pass" }, "pass"),
      make("button", { type: "button", "data-do": "reveal" }, "give up"),
      make("button", { type: "button", "data-do": "close" }, "close")));
}
