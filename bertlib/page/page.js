// The page: controls, keys and the game around passages (passage.js), drawn by draw.js.

"use strict";

const find = (selector) => document.querySelector(selector);
const [status, card, reader, box] = ["[role=status]", "#card", "#reader", "#text"].map(find);
const PUZZLES = JSON.parse(find("#puzzles").textContent);
const FIRST = "the king went to the [MASK] .";
const score = { you: 0, bert: 0, rounds: 0 };
let panes = [], active = null, puzzle = -1;  // active: the passage that controls speak of

// -- the worker: each question gets its answer, or an Error of one sentence ---------------------

const source = new Blob([find("#worker").textContent], { type: "text/javascript" });
const worker = new Worker(URL.createObjectURL(source));
const waiting = new Map();

function call(message) {
  const number = waiting.size ? Math.max(...waiting.keys()) + 1 : 1;
  return new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    worker.postMessage({ number, ...message });
  });
}

worker.onmessage = ({ data }) => {
  const { resolve, reject } = waiting.get(data.number);
  waiting.delete(data.number);
  if (data.error) reject(new Error(data.error));
  else resolve(data);
};
worker.onerror = () => say("This browser cannot compute the model.");

// -- what is seen ---------------------------------------------------------------------------------

function say(text, busy = false) {
  status.textContent = text;
  status.className = busy ? "busy" : "";
}

function draw() {
  panes.forEach((pane) => pane.ids.length && pane.draw());
  const { holes, selected } = active.facts(), hole = holes[selected];
  const heat = panes.some((pane) => pane.heat.size);
  find(".legend").hidden = !heat;
  find("[data-do=reveal]").hidden = !panes.some((pane) => pane.list().some(canTell));
  find("#score").hidden = !score.rounds;
  find("#score").textContent = `you ${score.you} : BERT ${score.bert}`;
  card.hidden = !hole || !(hole.blank || hole.guesses.length);
  if (card.hidden) return;
  const focused = document.activeElement?.dataset.choice;  // a redrawn button keeps the focus
  (hole.blank ? drawTurn : drawCard)(card, hole);
  if (focused !== undefined) card.querySelector(`[data-choice="${focused}"]`)?.focus();
  place();
}

const canTell = (hole) => hole.rank && !hole.told && !hole.open;

// The card stands beside the passage, or below its slot where there is no room beside.
function place() {
  const slot = active.root.querySelector(".selected"), desk = find("#desk").getBoundingClientRect();
  if (!slot || card.hidden) return;
  const at = slot.getBoundingClientRect(), sheets = find("#sheets").getBoundingClientRect();
  const room = desk.width - sheets.width > 320;
  const left = room ? sheets.width + 40 : Math.min(at.left - desk.left, desk.width - 300);
  card.style.left = `${Math.max(0, left)}px`;
  card.style.top = `${at.top - desk.top + (room ? -20 : at.height + 24)}px`;
}

// How the passage stands, in one line.
function told() {
  const holes = active.list();
  if (!holes.length) return "The text has no [MASK] and no hidden word; click one.";
  const open = holes.filter((hole) => hole.open).length;
  if (open) return `You first: ${open} ${open === 1 ? "word" : "words"} to guess.`;
  const known = holes.filter((hole) => hole.rank && hole.placed === null);
  const right = known.filter((hole) => hole.rank[0] === 1).length;
  if (active.game) return `You ${score.you} : BERT ${score.bert}. Next puzzle?`;
  return known.length ? `BERT has ${right} of ${known.length} right.` : "";
}

// Runs what takes a moment: busy is shown, an error is one sentence, and all is drawn at the end.
async function during(text, work) {
  say(text, true);
  active.root.setAttribute("aria-busy", "true");
  const pane = active;
  try {
    if (await work(pane) !== false) say(told());
  } catch ({ message }) {
    say(message);
  }
  pane.root.removeAttribute("aria-busy");
  draw();
}

const guess = () => {
  draw();
  return during("Guessing.", (pane) => pane.guess());
};

async function read(text, from = "") {
  await during("Guessing.", async (pane) => {
    await pane.read(text);
    pane.root.parentElement.querySelector(".source").textContent = from;
    return pane.guess();
  });
}

// -- the game ---------------------------------------------------------------------------------------

async function next(game = true) {
  puzzle++;  // the same words are hidden for everybody, and others in the next round
  const [from, text, seed] = PUZZLES[puzzle % PUZZLES.length] ?? ["", active.text, 0];
  const pane = active;
  await during("Guessing.", async () => {
    await pane.read(text);
    pane.root.parentElement.querySelector(".source").textContent = from;
    pane.game = game;
    pane.hideSome(seeded(seed + 100 * Math.floor(puzzle / (PUZZLES.length || 1))));
    if (game) score.rounds++;
    return pane.guess();
  });
  if (game) turn();
}

// On to the next hole that waits for a guess; its field has the focus.
function turn() {
  const hole = active.list().find(({ open }) => open);
  active.selected = hole ? hole.position : -1;
  draw();
  if (hole) card.querySelector("input")?.focus({ preventScroll: true });
  else find("[data-do=next]").focus();
}

function settle(text) {
  const hole = active.holes.get(active.selected), same = (word) => word.trim().toLowerCase();
  if (!hole.rank) return;
  const right = same(text) === same(active.truth(hole));
  Object.assign(hole, { open: false, told: true, yours: text.trim() && { text: text.trim(), right } });
  hole.yours ||= null;
  score.you += right;
  score.bert += hole.rank[0] === 1;
  say(`It was ${active.truth(hole)}. ${told()}`);
  turn();
}

// -- controls ---------------------------------------------------------------------------------------

function open(name, element) {
  const button = find(`[data-do=${name}]`), shown = element.hidden;
  element.hidden = !shown;
  button.setAttribute("aria-expanded", String(shown));
  return shown;
}

const kept = () => ({ facts: active.facts(),
  score: score.rounds ? `you ${score.you} : BERT ${score.bert}` : told() });

const controls = {
  text: () => {
    if (!open("text", reader)) return;
    box.value = active.text;
    box.focus();
  },
  some: () => {
    active.game = false;
    active.hideSome();
    guess();
  },
  next: () => next(),
  more: () => open("more", find("#more")),
  heat: () => during("Scoring.", (pane) => pane.score((done, all) => {
    say(`Scoring word ${done} of ${all}.`, true);
    pane.draw();
  })),
  beside: () => {
    const second = find("#sheets > section:nth-child(2)"), shown = second.hidden;
    second.hidden = !shown;
    find("#sheets").classList.toggle("two", shown);
    find("[data-do=beside]").setAttribute("aria-pressed", String(shown));
    const text = active.text;
    active = panes[shown ? 1 : 0];
    if (!shown) return draw();
    if (reader.hidden) controls.text();
    return read(text).then(() => { box.value = text; });
  },
  picture: () => picture(kept().facts, { score: kept().score, heading: document.title,
    style: getComputedStyle(document.documentElement),
    rtl: /^\P{L}*[\u0590-\u08ff\ufb1d-\ufefc]/u.test(active.text) })
    .toBlob((blob) => save(blob, "bert.png"), "image/png"),
  file: () => save(new Blob([exported(active.root, kept().facts, find("#style").textContent,
    document.title)], { type: "text/html" }), "bert-passage.html"),
  words: () => navigator.clipboard.writeText(worded(kept().facts, kept().score))
    .then(() => say("Copied."), () => say("This browser does not let a page copy; save it instead.")),
  reveal: () => {
    panes.forEach((pane) => pane.list().filter(canTell).forEach((hole) => { hole.told = true; }));
    draw();
  },
  tell: () => { active.holes.get(active.selected).told = true; draw(); back(); },
  lift: () => { const hole = active.holes.get(active.selected);
    Object.assign(hole, { placed: null, placedId: null }); back(); guess(); },
  show: () => { const at = active.selected; active.show(at); guess(); focus(at); },
  close: () => { back(); active.selected = -1; draw(); },
  pass: () => settle(""),
};

const focus = (at) => active.root.querySelector(`[data-position="${at}"]`)?.focus();
const back = () => focus(active.selected);

function choose(choice) {
  const hole = active.holes.get(active.selected);
  if (hole && !hole.open && active.place(hole, choice)) guess();
}
