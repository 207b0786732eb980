// The instrument: controls and the game around passages (passage.js), drawn by draw.js. It knows
// neither the worker of a file (file.js) nor the kernel of a notebook (widget.js): what it asks goes
// through `call`, which returns a promise, or fails with an Error of one sentence.
//
//     const page = new Instrument(root, call, { title, style, mask, layers, heads, models, puzzle });
//     listen(page);  await page.begin(answer);
//
// root: the document or a shadow root around body.html. puzzle: makes the next puzzle, an answer to
// a text with the places that are hidden. models: names, of which the first is asked.

"use strict";

// Each question that `send` takes gets its answer, or an Error of one sentence. `answered` hands
// answers in; after `lose` there will be none.
function asker(send) {
  const waiting = new Map();
  let asked = Math.floor(Math.random() * 2 ** 40), lost = null;  // apart from other views' numbers
  const lose = (sentence) => {
    lost = new Error(sentence);
    waiting.forEach(({ reject }) => reject(lost));
    waiting.clear();
  };
  const answered = (data) => {
    const { resolve, reject } = waiting.get(data.number) ?? {};
    if (!waiting.delete(data.number)) return;  // of another view
    if (data.error) reject(new Error(data.error));
    else resolve(data);
  };
  const call = (message) => new Promise((resolve, reject) => {
    if (lost) return reject(lost);
    const number = asked++;
    waiting.set(number, { resolve, reject });
    send({ number, ...message });
  });
  return { call, answered, lose };
}

class Instrument {
  constructor(root, call, { title, style, mask, layers, heads, models = [], puzzle }) {
    Object.assign(this, { root, call, title, style, models, puzzle });
    this.find = (selector) => root.querySelector(selector);
    [this.status, this.card, this.reader, this.box] =
      ["[role=status]", "#card", "#reader", "#text"].map(this.find);
    this.score = { you: 0, bert: 0, rounds: 0 };
    this.panes = [...root.querySelectorAll(".passage")].map((pane) => new Passage(pane, call, mask));
    [this.active] = this.panes;  // the passage that controls speak of
    this.find("h1").textContent = title;
    const pairs = Array.from({ length: layers * heads }, (_, n) => [Math.floor(n / heads), n % heads]);
    this.find("#head").append(...pairs.map(([layer, head]) =>
      make("option", { value: `${layer} ${head}` }, `layer ${layer}, head ${head}`)));
    this.find("#rival").append(...models.slice(1).map((name) => make("option", { value: name }, name)));
    this.find("#rival").parentElement.hidden = models.length < 2;
  }

  // -- what is seen ----------------------------------------------------------------------------

  say(text, busy = false) {
    this.status.textContent = text;
    this.status.className = busy ? "busy" : "";
  }

  draw() {
    this.panes.forEach((pane) => pane.ids.length && pane.draw());
    const { holes, selected } = this.active.facts(), hole = holes[selected];
    this.find(".legend").hidden = !this.panes.some((pane) => pane.heat.size);
    this.find("#line [data-do=reveal]").hidden = !this.untold().some((hole) => !hole.open);
    this.find("#score").hidden = !this.score.rounds;
    this.find("#score").textContent = this.points();
    this.card.hidden = !hole || !(hole.blank || hole.guesses.length);
    this.find(".page").style.minHeight = "";
    if (this.card.hidden) return;
    const focused = this.root.activeElement?.dataset.choice;  // a redrawn button keeps the focus
    (hole.blank ? drawTurn : drawCard)(this.card, hole);
    if (focused !== undefined) this.card.querySelector(`[data-choice="${focused}"]`)?.focus();
    this.place();
  }

  // The holes whose true word is known to the page and not told yet.
  untold() {
    return this.panes.flatMap((pane) => pane.list()).filter((hole) => hole.rank && !hole.told);
  }

  points() {
    return `you ${this.score.you} : BERT ${this.score.bert}`;
  }

  // The card stands beside the passage, or below its slot where there is no room beside; the page
  // is long enough for it.
  place() {
    const slot = this.active.root.querySelector(".selected");
    const [desk, sheets] = ["#desk", "#sheets"].map((id) => this.find(id).getBoundingClientRect());
    if (!slot || this.card.hidden) return;
    const at = slot.getBoundingClientRect(), room = desk.width - sheets.width > 320;
    const left = room ? sheets.width + 40 : Math.min(at.left - desk.left, desk.width - 300);
    this.card.style.left = `${Math.max(0, left)}px`;
    this.card.style.top = `${at.top - desk.top + (room ? -20 : at.height + 24)}px`;
    const page = this.find(".page"), { bottom } = this.card.getBoundingClientRect();
    const fixed = getComputedStyle(this.card).position === "fixed";  // what holds the page may cut it
    page.style.minHeight = fixed ? "" : `${bottom - page.getBoundingClientRect().top + 16}px`;
  }

  // How the passage stands, in one line.
  told() {
    const holes = this.active.list();
    if (!holes.length) return "The text has no [MASK] and no hidden word; click one.";
    const open = holes.filter((hole) => hole.open).length;
    if (open) return `You first: ${open} ${open === 1 ? "word" : "words"} to guess.`;
    const known = holes.filter((hole) => hole.rank && hole.placed === null);
    if (this.active.game) return `You ${this.score.you} : BERT ${this.score.bert}. Next puzzle?`;
    const count = (which) => known.filter((hole) => which(hole)).length;
    const first = count((hole) => hole.rank[0] === 1), { rival } = this.active;
    if (!known.length) return "";
    return rival && known[0].other
      ? `Of ${known.length}, ${this.models[0]} (above) has ${first} right, ${rival} (below) `
        + `${count((hole) => hole.other.right)}.`
      : `BERT has ${first} of ${known.length} right.`;
  }

  // Runs what takes a moment: busy is shown, an error is one sentence, and all is drawn at the end.
  async during(text, work) {
    const pane = this.active;
    this.say(text, true);
    pane.root.setAttribute("aria-busy", "true");
    try {
      const done = await work(pane);
      if (done !== false) this.say(typeof done === "string" ? done : this.told());
    } catch ({ message }) {
      this.say(message);
    }
    pane.root.removeAttribute("aria-busy");
    this.draw();
  }

  guess() {
    this.draw();
    return this.during("Guessing.", (pane) => pane.guess());
  }

  read(text) {
    return this.during("Guessing.", async (pane) => this.take(pane, await pane.ask(text)));
  }

  begin(answer) {
    return this.during("Guessing.", (pane) => this.take(pane, answer));
  }

  // A passage takes an answer to its text, and what there is to say of it; then it is guessed.
  take(pane, answer) {
    pane.take(answer);
    pane.root.parentElement.querySelector(".source").textContent = answer.message ?? "";
    return pane.guess();
  }

  // The underlay: how much the chosen head reads of each word, for the word or slot that is chosen.
  async attend() {
    const pane = this.active, [layer, head] = this.find("#head").value.split(" ").map(Number);
    if (this.find("#head").value === "") {
      this.panes.forEach((each) => each.reads.clear());
      return this.draw();
    }
    return this.during("Reading.", async () => {
      const ends = await pane.attend(layer, head);
      return ends !== false && `Layer ${layer}, head ${head} reads for “${pane.spelled(pane.reading)}”; `
        + `${percent(ends)} of it is at the two ends of the text.`;
    });
  }

  // -- the game ----------------------------------------------------------------------------------

  async next(game = true) {
    if (this.dealing) return;  // a second press while a text is being read
    this.dealing = true;
    await this.during("Guessing.", async (pane) => {
      const guessed = this.take(pane, await this.puzzle(pane));
      if (game) {
        pane.play();
        this.score.rounds++;
      }
      return guessed;
    });
    this.dealing = false;
    if (game) this.turn();
  }

  // On to the next hole that waits for a guess; its field has the focus.
  turn() {
    const hole = this.active.list().find(({ open }) => open);
    this.active.selected = hole ? hole.position : -1;
    this.draw();
    if (hole) this.card.querySelector("input")?.focus({ preventScroll: true });
    else this.find("[data-do=next]").focus();
  }

  settle(text) {
    const pane = this.active, hole = pane.holes.get(pane.selected);
    const same = (word) => word.trim().toLowerCase();
    if (!hole.rank) return;
    const right = same(text) === same(pane.truth(hole));
    const yours = text.trim() ? { text: text.trim(), right } : null;
    Object.assign(hole, { open: false, told: true, yours });
    this.score.you += right;
    this.score.bert += hole.rank[0] === 1;
    this.say(`It was ${pane.truth(hole)}. ${this.told()}`);
    this.turn();
  }

  focus(at) {
    this.active.root.querySelector(`[data-position="${at}"]`)?.focus();
  }

  choose(choice) {
    const hole = this.active.holes.get(this.active.selected);
    if (hole && !hole.open && this.active.place(hole, choice)) this.guess();
  }

  press(part) {
    const pane = this.active, at = Number(part.dataset.position);
    pane.reading = at;
    if (pane.holes.has(at)) {
      pane.selected = at;
      this.draw();
      if (pane.holes.get(at).open) this.card.querySelector("input")?.focus();
      this.follow();
    } else {
      pane.hideWord(at);
      pane.selected = at;
      pane.heat.clear();
      this.guess().then(() => this.follow());
      this.focus(at);
    }
  }

  // The underlay goes along with what is chosen.
  follow() {
    if (this.find("#head").value !== "") this.attend();
  }

  select(at) {
    this.active.reading = at;
    this.active.selected = this.active.holes.has(at) ? at : -1;
    this.draw();
    this.follow();
  }

  // The passage in which a word was chosen is the one that controls speak of.
  enter(root) {
    this.active = this.panes.find((pane) => pane.root === root);
    this.panes.forEach((pane) => { if (pane !== this.active) pane.selected = -1; });
  }
}
