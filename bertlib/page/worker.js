// Answers questions beside the page, so that it stays quick. A message may carry a `number`, which
// its answer then carries, too; what is wrong comes back as { number, error: "One sentence." }.
//
//     { load: base64 }  ->  { loaded: { words, longest, mask, layers, heads } }
//     { guess: text or ids, positions, top, layer, row, truths }
//         ->  { guesses: [[[token, probability], ...], ...], choices, ranks, positions, ids, tokens,
//               offsets, attention }
//
// load: the bytes of `bertlib.page.pack`. guess: without positions, every [MASK] is asked. For each
// position come the `top` (5) best tokens; choices: the ids of these. ranks: of the ids in `truths`,
// one or null for each position, [rank, probability], where rank 1 is the best. offsets: the letters
// [start, end] of each token in a text. attention: the weights [H, T, T] of a `layer` if one is
// named, rows that sum to 1; of one `row` only, [H, T], if that is named, too.

let model = null, wordPiece = null;

const integer = (value, low, high) => Number.isInteger(value) && value >= low && value < high;

function check(good, sentence) {
  if (!good) throw new Error(sentence);
}

function load(base64) {
  model = null;
  const letters = atob(base64), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  const read = new Bert(bytes.buffer), { config, rules, vocab } = read.about;
  wordPiece = new WordPiece(vocab, rules);
  model = read;
  return { loaded: {
    words: vocab.length, longest: config.seq_len, mask: wordPiece.ids.get("[MASK]"),
    layers: config.n_layer, heads: config.n_head,
  } };
}

// The ids of the `top` largest of the shares [V], best first.
function best(shares, top) {
  return Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a]).slice(0, top);
}

// Which place `id` takes among the shares [V], and its share.
function rank(shares, id) {
  return [1 + shares.reduce((count, share) => count + (share > shares[id]), 0), shares[id]];
}

// The weights [H, T, T] of one reader: [H, T].
function rowOf(attention, row, T) {
  const heads = attention.length / T / T;
  return Float32Array.from({ length: heads * T },
    (_, n) => attention[(Math.floor(n / T) * T + row) * T + n % T]);
}

function guess({ guess: asked, positions, top = 5, layer = -1, row = null, truths = [] }) {
  check(model, "There is no model yet; load one first.");
  const { seq_len: longest, n_layer: layers } = model.about.config, V = wordPiece.vocab.length;
  const typed = typeof asked === "string";
  check(typed || (Array.isArray(asked) && asked.every((id) => integer(id, 0, V))),
    `What is asked is neither text nor a list of ids below ${V}.`);
  const { ids, offsets } = typed ? wordPiece.encode(asked) : { ids: asked, offsets: [] };
  const T = ids.length, mask = wordPiece.ids.get("[MASK]");
  check(T && T <= longest, `The text has ${T} tokens, the model reads 1 to ${longest} of them.`);
  positions ??= [...ids.keys()].filter((place) => ids[place] === mask);
  check(Array.isArray(positions) && positions.every((place) => integer(place, 0, T)),
    `A position is none of the text's, which are 0 to ${T - 1}.`);
  check(integer(top, 1, V + 1), `The number of guesses must lie between 1 and ${V}.`);
  check(integer(layer, -1, layers), `The layers are 0 to ${layers - 1}.`);
  check(Array.isArray(truths) && truths.every((id) => id === null || integer(id, 0, V)),
    `A true word is no id below ${V}.`);
  check(row === null || integer(row, 0, T), `The row is none of the text's, which are 0 to ${T - 1}.`);
  const { logits, attention: weights } = model.forward(ids, positions, layer);
  const attention = weights && row !== null ? rowOf(weights, row, T) : weights;
  const shares = positions.map((_, k) => softmax(logits.subarray(k * V, (k + 1) * V)));
  const choices = shares.map((row) => best(row, top));
  const guesses = choices.map((order, k) => order.map((id) => [wordPiece.vocab[id], shares[k][id]]));
  const ranks = shares.map((row, k) => Number.isInteger(truths[k]) ? rank(row, truths[k]) : null);
  const tokens = ids.map((id) => wordPiece.vocab[id]);
  return { guesses, choices, ranks, positions, ids, tokens, offsets, attention };
}

self.onmessage = ({ data }) => {
  const { number } = data;
  try {
    self.postMessage({ number, ...("load" in data ? load(data.load) : guess(data)) });
  } catch ({ message }) {  // a sentence of ours, or the browser's words, such as those of no memory
    const told = "load" in data ? `The model cannot be read (${message}); make the page again.`
      : message.endsWith(".") ? message : `The guess failed (${message}); load the page again.`;
    self.postMessage({ number, error: told });
  }
};
