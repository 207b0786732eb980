// Answers questions beside the page, so that it stays quick. A message may carry a `number`, which
// its answer then carries, too; what is wrong comes back as { number, error: "One sentence." }.
//
//     { load: base64 }  ->  { loaded: { words, longest, mask, layers, heads } }
//     { guess: text or ids, positions, top, layer }
//         ->  { guesses: [[[token, probability], ...], ...], positions, ids, tokens, offsets,
//               attention }
//
// load: the bytes of `bertlib.page.pack`. guess: without positions, every [MASK] is asked. For each
// position come the `top` (5) best tokens. offsets: the letters [start, end] of each token in a
// text. attention: the weights [H, T, T] of a `layer` if one is named, rows that sum to 1.

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

// The `top` tokens with the largest logits [V], each with its probability.
function best(logits, top) {
  const shares = softmax(logits);
  const order = Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a]);
  return order.slice(0, top).map((id) => [wordPiece.vocab[id], shares[id]]);
}

function guess({ guess: asked, positions, top = 5, layer = -1 }) {
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
  const { logits, attention } = model.forward(ids, positions, layer);
  const guesses = positions.map((_, k) => best(logits.subarray(k * V, (k + 1) * V), top));
  const tokens = ids.map((id) => wordPiece.vocab[id]);
  return { guesses, positions, ids, tokens, offsets, attention };
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
