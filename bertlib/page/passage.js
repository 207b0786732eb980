// A text, its holes and what the model says about them. It asks a worker or a kernel through `call`
// and draws with draw.js; the only module that knows both. The answers are those of worker.js.
//
//     const passage = new Passage(element, call, mask);
//     passage.take(await passage.ask(text));  passage.hideWord(3);  await passage.guess();

"use strict";

const LETTERS = /[\p{L}\p{N}]/u;
const WIDE = 24;  // columns; a longer chunk may break, so that it cannot stretch the page
const columns = (text) => [...text].reduce(
  (sum, sign) => sum + (/[\u1100-\u11ff\u2e80-\ud7ff\uf900-\ufaff\uff00-\uffef]/.test(sign) ? 2 : 1), 0);

// Numbers 0..1 that a seed always repeats (mulberry32): a puzzle is the same for everybody.
function seeded(seed) {
  return () => {
    seed = (seed + 0x6D2B79F5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Deals [from, text, seed] one after the other: the same words are hidden for everybody, and others
// in the next round.
function dealer(passages) {
  let dealt = -1;
  return async (pane) => {
    dealt++;
    const [message, text, seed] = passages[dealt % passages.length] ?? ["", pane.text, 0];
    const round = Math.floor(dealt / (passages.length || 1));
    return { ...await pane.ask(text), message, seed: seed + 100 * round };
  };
}

class Passage {
  constructor(root, call, mask) {
    Object.assign(this, { root, call, mask, text: "", ids: [], holes: new Map(), heat: new Map(),
      reads: new Map(), selected: -1, reading: 1, rival: "", game: false, generation: 0, newest: 0,
      lastRead: 0 });
  }

  // A text in pieces. Fails with an Error of one sentence, and then all is kept.
  async ask(text) {
    return { text, ...await this.call({ guess: text, positions: [] }) };
  }

  // Takes such an answer; the holes are its [MASK]s, the places in `hidden`, and those that `seed`
  // draws.
  take({ text, ids, tokens, offsets, hidden = [], seed = null }) {
    Object.assign(this, { text, ids, tokens, offsets, game: false, selected: -1, reading: 1 });
    this.generation++;
    this.newest++;  // what was asked of the old text is of no use
    this.lastRead++;
    [this.heat, this.reads, this.holes].forEach((map) => map.clear());
    this.words = this.cut();
    ids.forEach((id, position) => id === this.mask && this.hide(position));
    hidden.forEach((position) => this.hide(position));
    if (seed !== null) this.hideSome(seeded(seed));
  }

  // You guess first.
  play() {
    this.game = true;
    this.holes.forEach((hole) => { hole.open = true; });
  }

  // Chunks between spaces, in these the words, in these the pieces. What stands between two tokens,
  // such as an accent that the model does not read, belongs to the one before.
  cut() {
    const chunks = [], last = this.ids.length - 2;
    for (let at = 1; at <= last; at++) {
      const [start, ends] = this.offsets[at];
      const next = at < last ? this.offsets[at + 1][0] : this.text.length;
      const whole = this.text.slice(at === 1 ? 0 : start, Math.max(next, ends));
      const text = whole.trim(), space = /\s+$/.test(whole);
      let chunk = chunks.at(-1);
      if (!chunk || chunk.after) chunks.push(chunk = { at, parts: [], after: "" });
      const joined = this.tokens[at].startsWith("##") && chunk.parts.length
        && start === this.offsets[at - 1][1];
      if (joined) chunk.parts.at(-1).pieces.push({ at, text });
      else chunk.parts.push({ at, pieces: [{ at, text }] });
      if (space) chunk.after = " ";
    }
    return chunks;
  }

  // The word that a position belongs to: the positions of its pieces.
  word(position) {
    return this.words.flatMap((chunk) => chunk.parts).map((part) => part.pieces.map(({ at }) => at))
      .find((places) => places.includes(position)) ?? [];
  }

  hide(position) {
    const id = this.ids[position], known = id !== this.mask;
    this.holes.set(position, { position, id: known ? id : null, guesses: [], choices: [], rank: null,
      other: null, placed: null, placedId: null, yours: null, told: false, open: this.game });
  }

  show(position) {
    for (const place of this.word(position)) {
      if (this.holes.get(place)?.id !== null) this.holes.delete(place);
    }
    if (!this.holes.has(this.selected)) this.selected = -1;
  }

  hideWord(position) {
    for (const place of this.word(position)) if (!this.holes.has(place)) this.hide(place);
  }

  // Hides about 15% of the tokens: words of one piece, none beside another.
  hideSome(random = Math.random) {
    this.heat.clear();
    for (const position of [...this.holes.keys()]) this.show(position);
    const single = this.words.flatMap((chunk) => chunk.parts).filter(({ pieces }) =>
      pieces.length === 1 && /^\p{L}[\p{L}\p{N}]+$/u.test(pieces[0].text)).map(({ at }) => at)
      .filter((at) => !this.holes.has(at));
    const order = single.map((at) => [random(), at]).sort((a, b) => a[0] - b[0]);
    const count = Math.max(1, Math.round(0.15 * (this.ids.length - 2)));
    let left = count;
    for (const [, at] of order) {
      if (!left || this.holes.has(at - 1) || this.holes.has(at + 1)) continue;
      this.hide(at);
      left--;
    }
  }

  // What the model reads: the text with its holes, and the guesses that were put into them.
  asked() {
    return this.ids.map((id, at) => {
      const hole = this.holes.get(at);
      return hole ? hole.placedId ?? this.mask : id;
    });
  }

  // Asks for all holes that are still open. False: something newer was asked meanwhile.
  async guess() {
    const number = ++this.newest;
    const holes = this.list().filter((hole) => hole.placed === null);
    const question = { guess: this.asked(), positions: holes.map((hole) => hole.position),
      truths: holes.map((hole) => hole.id) };
    const answer = await this.call(question), { rival } = this;
    const other = rival ? await this.call({ ...question, model: rival }) : null;
    if (number !== this.newest) return false;
    holes.forEach((hole, k) => Object.assign(hole, {
      guesses: answer.guesses[k], choices: answer.choices[k], rank: answer.ranks[k],
      other: other && { name: rival, guesses: other.guesses[k],
        right: other.ranks[k] ? other.ranks[k][0] === 1 : null } }));
    return true;
  }

  // How much a head reads of each word for the one at `reading`: shares, kept until the next text.
  // Returns what is left for the two ends of the text. False: something newer was asked meanwhile.
  async attend(layer, head) {
    const number = ++this.lastRead, { reading: row } = this;
    const { attention } = await this.call({ guess: this.asked(), positions: [], layer, row });
    if (number !== this.lastRead) return false;
    const T = this.ids.length, shares = attention.slice(head * T, (head + 1) * T);
    this.reads = new Map(shares.entries());
    return shares[0] + shares[T - 1];
  }

  // The text of a token, as the status line names it.
  spelled(position) {
    return this.holes.has(position) ? "[MASK]" : plain(this.tokens[position]);
  }

  // Every word hidden in turn: how probable it is. `step(done, all)` is told on the way.
  async score(step) {
    const number = ++this.newest;
    this.heat.clear();
    const places = this.words.flatMap((chunk) => chunk.parts).filter((part) => this.can(part))
      .map(({ pieces }) => pieces.map(({ at }) => at)).filter(([at]) => !this.holes.has(at));
    for (const [done, word] of places.entries()) {
      const asked = this.asked();
      word.forEach((at) => { asked[at] = this.mask; });
      const { ranks } = await this.call({ guess: asked, positions: word,
        truths: word.map((at) => this.ids[at]), top: 1 });
      if (number !== this.newest) return false;
      // the probability of a word is the mean (geometric) of its pieces', as each is hidden
      const log = ranks.reduce((sum, [, share]) => sum + Math.log(share), 0) / ranks.length;
      this.heat.set(word[0], Math.exp(log));
      step(done + 1, places.length);
    }
    return true;
  }

  can(part) {
    return part.pieces.some(({ text }) => LETTERS.test(text));
  }

  list() {
    return [...this.holes.values()].sort((a, b) => a.position - b.position);
  }

  truth(hole) {
    const [start, end] = this.offsets[hole.position];
    return this.text.slice(start, end);
  }

  // Puts guess number `choice` into the text, or takes it out again if it is there.
  place(hole, choice) {
    const token = hole.guesses[choice]?.[0];
    if (token === undefined) return false;
    const lift = hole.placed === token;
    hole.placed = lift ? null : token;
    hole.placedId = lift ? null : hole.choices[choice];
    return true;
  }

  // A hole as draw.js reads it.
  fact(hole, index) {
    const { position, guesses, rank, placed, yours, told, open, other } = hole;
    const truth = rank && { text: this.truth(hole), rank: rank[0], share: rank[1] };
    return { position, number: index + 1, guesses, truth, placed, yours, revealed: told, blank: open,
      right: rank ? rank[0] === 1 : null, other };
  }

  facts() {
    const holes = this.list(), index = new Map(holes.map((hole, k) => [hole.position, k]));
    const heat = (at) => {
      const share = this.heat.get(at);
      if (share === undefined || index.has(at)) return null;
      return { step: 1 + [0.5, 0.2, 0.05, 0.01].filter((edge) => share < edge).length,
        figure: percent(share) };
    };
    const read = (pieces) => {  // a word is read as much as its pieces together
      const share = pieces.reduce((sum, piece) => sum + (this.reads.get(piece.at) ?? 0), 0);
      return share < 0.01 ? null : { share, figure: share < 0.05 ? "" : percent(share) };
    };
    const words = this.words.map(({ at, parts, after }) => {
      const cut = parts.flatMap((part) => part.pieces.some((piece) => index.has(piece.at))
        ? part.pieces.map((piece) => ({ at: piece.at, pieces: [piece.text], position: piece.at,
          read: read([piece]) }))
        : [{ at: part.at, pieces: part.pieces.map(({ text }) => text), read: read(part.pieces),
          position: this.can(part) ? part.at : -1 }]);
      const wide = columns(parts.flatMap((p) => p.pieces).map((p) => p.text).join("")) > WIDE;
      return { key: `${this.generation}:${at}`, after, wide, parts: cut.map((part) => ({
        ...part, hole: index.get(part.at) ?? -1, heat: heat(part.at) })) };
    });
    return { words, holes: holes.map((hole, k) => this.fact(hole, k)),
      selected: index.get(this.selected) ?? -1 };
  }

  draw() {
    drawPassage(this.root, this.facts());
  }
}
