// BERT's forward pass, as published: Devlin et al. 2018, sections 3 and 3.1. The same in Python,
// part by part and by the same names: bertlib/bert.py, blocks.py and attention.py.
//
//     const model = new Bert(buffer);  // the bytes of `bertlib.page.pack`
//     const { logits, attention } = model.forward(ids, positions, layer);
//
// A tensor is a flat Float32Array, row after row, and matrices stay packed until a row is needed.
// Letters in shape comments, for one sequence at a time:
//     T  tokens     D  width     H  heads     V  words     K  positions that are asked

const KINDS = { F32: Float32Array, BF16: Uint16Array, I8: Int8Array };

// The format is that of safetensors: eight bytes that tell the length of a JSON header, the
// header, and all numbers, little-endian; the wider kinds come first, so that all are aligned.
function readTensors(buffer) {
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)));
  const about = JSON.parse(header.__metadata__.about);
  delete header.__metadata__;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(header)) {
    const Kind = KINDS[dtype];
    const data = new Kind(buffer, start + begin, (end - begin) / Kind.BYTES_PER_ELEMENT);
    tensors[name] = { shape, data };
  }
  return { about, tensors };
}

// Weights [rows, columns] as int8 with a float for each row, or as bfloat16, the upper half of a
// float's bits.
class Matrix {
  constructor({ shape: [rows, columns], data }, scale) {
    Object.assign(this, { rows, columns, data, scale: scale?.data });
    this.floats = new Float32Array(columns);
    this.bits = new Uint32Array(this.floats.buffer);
  }

  // Row r as floats [columns]; the next call writes over them.
  row(r) {
    const { columns, data, floats, bits } = this, start = r * columns;
    if (this.scale) {
      const scale = this.scale[r];
      for (let i = 0; i < columns; i++) floats[i] = data[start + i] * scale;
    } else {
      for (let i = 0; i < columns; i++) bits[i] = data[start + i] << 16;
    }
    return floats;
  }
}

// x [T, columns] times the transposed weight [rows, columns], plus the bias: [T, rows]. A row of
// weights is unpacked once for all tokens, and each of its numbers is read once for four of them.
function linear({ weight, bias }, x) {
  const { rows, columns } = weight, T = x.length / columns;
  const y = new Float32Array(T * rows);
  for (let r = 0; r < rows; r++) {
    const w = weight.row(r), b = bias[r];
    let t = 0;
    for (; t + 4 <= T; t += 4) {
      const at0 = t * columns, at1 = at0 + columns, at2 = at1 + columns, at3 = at2 + columns;
      let sum0 = b, sum1 = b, sum2 = b, sum3 = b;
      for (let i = 0; i < columns; i++) {
        const value = w[i];
        sum0 += value * x[at0 + i];
        sum1 += value * x[at1 + i];
        sum2 += value * x[at2 + i];
        sum3 += value * x[at3 + i];
      }
      y[t * rows + r] = sum0;
      y[(t + 1) * rows + r] = sum1;
      y[(t + 2) * rows + r] = sum2;
      y[(t + 3) * rows + r] = sum3;
    }
    for (; t < T; t++) {
      let sum = b;
      for (let i = 0; i < columns; i++) sum += w[i] * x[t * columns + i];
      y[t * rows + r] = sum;
    }
  }
  return y;
}

// Each row of x [T, D], in place, to mean 0 and variance 1, then times weight plus bias.
function layerNorm({ weight, bias, eps }, x) {
  const D = weight.length;
  for (let start = 0; start < x.length; start += D) {
    let mean = 0, variance = 0;
    for (let i = 0; i < D; i++) mean += x[start + i] / D;
    for (let i = 0; i < D; i++) variance += (x[start + i] - mean) ** 2 / D;
    const scale = 1 / Math.sqrt(variance + eps);
    for (let i = 0; i < D; i++) x[start + i] = (x[start + i] - mean) * scale * weight[i] + bias[i];
  }
  return x;
}

// The error function, to 1.5e-7, which is how fine a float near 1 is: Abramowitz & Stegun 7.1.26.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (
    -1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

// x times the share of a normal distribution below x, in place: Hendrycks & Gimpel 2016.
function gelu(x) {
  for (let i = 0; i < x.length; i++) x[i] *= 0.5 * (1 + erf(x[i] * Math.SQRT1_2));
  return x;
}

function add(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
  return x;
}

// Scores [.., T], in place, to shares that sum to 1.
function softmax(scores) {
  const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  let total = 0;
  for (let i = 0; i < scores.length; i++) total += scores[i] = Math.exp(scores[i] - most);
  for (let i = 0; i < scores.length; i++) scores[i] /= total;
  return scores;
}

// The rows of x [T, D] at some positions: [K, D].
function pick(x, D, positions) {
  const rows = new Float32Array(positions.length * D);
  positions.forEach((place, k) => rows.set(x.subarray(place * D, (place + 1) * D), k * D));
  return rows;
}

// Scaled dot-product attention, Vaswani et al. 2017, section 3.2: q, k, v [T, D], in which a head
// has its own D/H columns -> mixed values [T, D] and weights [H, T, T].
function attend(q, k, v, D, H) {
  const T = q.length / D, size = D / H;
  const mixed = new Float32Array(T * D), weights = new Float32Array(H * T * T);
  for (let head = 0; head < H; head++) {
    for (let i = 0; i < T; i++) {
      const row = weights.subarray((head * T + i) * T, (head * T + i + 1) * T);  // [T]
      const from = i * D + head * size;
      for (let j = 0; j < T; j++) {
        const to = j * D + head * size;
        let score = 0;
        for (let c = 0; c < size; c++) score += q[from + c] * k[to + c];
        row[j] = score / Math.sqrt(size);
      }
      softmax(row);
      for (let j = 0; j < T; j++) {
        const to = j * D + head * size;
        for (let c = 0; c < size; c++) mixed[from + c] += row[j] * v[to + c];
      }
    }
  }
  return { mixed, weights };
}

class Bert {
  constructor(buffer) {
    const { about, tensors } = readTensors(buffer);
    const { n_layer, norm_eps: eps } = about.config;
    const matrix = (name) => new Matrix(tensors[name], tensors[`${name}.scale`]);
    const bias = (name) => tensors[`${name}.bias`].data;
    const dense = (name) => ({ weight: matrix(`${name}.weight`), bias: bias(name) });
    const norm = (name) => ({ weight: tensors[`${name}.weight`].data, bias: bias(name), eps });
    this.about = about;
    this.embeddings = { norm: norm("encoder.embeddings.norm") };
    for (const table of ["token", "position", "token_type"]) {
      this.embeddings[table] = matrix(`encoder.embeddings.${table}.weight`);
    }
    this.blocks = Array.from({ length: n_layer }, (_, number) => {
      const inside = `encoder.blocks.${number}`;
      const [query, key, value, output] = ["query", "key", "value", "output"].map(
        (name) => dense(`${inside}.attention.${name}`));
      return {
        query, key, value, output, attentionNorm: norm(`${inside}.attention_norm`),
        up: dense(`${inside}.feed_forward.up`), down: dense(`${inside}.feed_forward.down`),
        ffnNorm: norm(`${inside}.ffn_norm`),
      };
    });
    const tied = !tensors["head.decoder.weight"];  // the decoder shares the token embeddings
    const weight = tied ? this.embeddings.token : matrix("head.decoder.weight");
    this.head = {
      transform: dense("head.transform"), norm: norm("head.norm"),
      decoder: { weight, bias: bias("head.decoder") },
    };
  }

  // Token + position + token type (all of type 0), normed: ids [T] -> [T, D].
  embed(ids) {
    const { token, position, token_type, norm } = this.embeddings, D = token.columns;
    const x = new Float32Array(ids.length * D);
    ids.forEach((id, t) => {
      const row = x.subarray(t * D, (t + 1) * D);
      add(add(add(row, token.row(id)), position.row(t)), token_type.row(0));
    });
    return layerNorm(norm, x);
  }

  // Ids [T] -> logits [K, V] at the asked positions, and the attention weights [H, T, T] of one
  // layer, or null. The last block drops all other positions once the values are mixed: from
  // there on each token is on its own.
  forward(ids, positions, layer = -1) {
    let x = this.embed(ids), attention = null;  // [T, D]
    const D = this.embeddings.token.columns;
    for (const [number, block] of this.blocks.entries()) {
      const [q, k, v] = [block.query, block.key, block.value].map((part) => linear(part, x));
      let { mixed, weights } = attend(q, k, v, D, this.about.config.n_head);  // [T, D], [H, T, T]
      if (number === layer) attention = weights;
      if (number === this.blocks.length - 1) {
        [x, mixed] = [pick(x, D, positions), pick(mixed, D, positions)];  // [K, D]
      }
      x = layerNorm(block.attentionNorm, add(x, linear(block.output, mixed)));
      const wide = gelu(linear(block.up, x));  // [T, d_ff]
      x = layerNorm(block.ffnNorm, add(x, linear(block.down, wide)));
    }
    const { transform, norm, decoder } = this.head;
    x = layerNorm(norm, gelu(linear(transform, x)));  // [K, D]
    return { logits: linear(decoder, x), attention };  // [K, V]
  }
}
