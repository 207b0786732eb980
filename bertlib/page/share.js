// What leaves the page: a picture, a file, words. All of it is made here, from the same facts, and
// holds no address, no number of a person and nothing that could ask for anything.

"use strict";

const SIZE = [1200, 630];  // what messengers show whole

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);  // after the browser has read it
}

// The pieces of a passage as a picture sets them: { text, hole, glue }, glue: no space before.
function runs({ words, holes }) {
  return words.flatMap(({ parts }) => parts.map((part, n) => {
    const hole = part.hole < 0 ? null : holes[part.hole], glue = n > 0;
    if (!hole) return { text: part.pieces.join(""), hole, glue };
    const [first] = hole.guesses;
    const word = hole.placed !== null ? plain(hole.placed)
      : hole.blank || !first ? `  ${hole.number}  ` : plain(first[0]);
    const mark = hole.blank || hole.placed !== null ? "" : MARKS[hole.right];
    return { text: word + (mark && ` ${mark}`), hole, glue };
  }));
}

// Lines of runs with their places, as wide as `width`; a word that is wider is cut short.
function setLines(pen, pieces, width) {
  const space = pen.measureText(" ").width, lines = [[]];
  let x = 0;
  for (const piece of pieces) {
    let { text } = piece, wide = pen.measureText(text).width;
    while (wide > width - 40 && text.length > 1) {
      text = `${text.slice(0, Math.floor(text.length * 0.8) - 1)}…`;
      wide = pen.measureText(text).width;
    }
    wide += piece.hole ? 24 : 0;
    const from = x && !piece.glue ? x + space : x;
    if (x && from + wide > width) {
      lines.push([]);
      x = 0;
    } else {
      x = from;
    }
    lines.at(-1).push({ ...piece, text, x, wide });
    x += wide;
  }
  return lines;
}

function drawHole(pen, { hole, x, wide }, y, size, color) {
  const own = hole.blank || hole.placed !== null ? color.line
    : hole.right === true ? color.right : hole.right === false ? color.wrong : color.line;
  pen.fillStyle = color.slot;
  pen.strokeStyle = own;
  pen.lineWidth = 2;
  pen.setLineDash(hole.right === false && !hole.blank ? [7, 5] : []);
  pen.beginPath();
  pen.roundRect(x, y - size, wide, size * 1.34, 9);
  pen.fill();
  pen.stroke();
  const share = hole.blank || hole.placed !== null ? 0 : hole.guesses[0]?.[1] ?? 0;
  pen.lineWidth = 5;
  pen.beginPath();
  pen.moveTo(x + 8, y + size * 0.24);
  pen.lineTo(x + 8 + (wide - 16) * share, y + size * 0.24);
  if (share) pen.stroke();
  pen.setLineDash([]);
}

// A picture to share: the passage, the score, and where it comes from.
function picture(facts, { heading, score, style, rtl }) {
  const canvas = make("canvas", { width: SIZE[0], height: SIZE[1] });
  const pen = canvas.getContext("2d"), [width, height] = SIZE;
  const color = Object.fromEntries(["paper", "ink", "soft", "line", "slot", "right", "wrong"].map(
    (name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  const serif = style.getPropertyValue("--serif");
  pen.fillStyle = color.paper;
  pen.fillRect(0, 0, width, height);
  const write = (text, x, y, font, fill, most) => {
    Object.assign(pen, { font, fillStyle: fill });
    pen.fillText(text, x, y, most);
  };
  write(heading, 80, 86, "26px system-ui, sans-serif", color.soft, 1040);
  let size = 54, lines;
  do {  // the largest letters with which all fits
    size -= 2;
    pen.font = `${size}px ${serif}`;
    lines = setLines(pen, runs(facts), width - 160);
  } while (lines.length * size * 1.62 > 390 && size > 16);
  const most = Math.floor(390 / (size * 1.62));
  lines.slice(0, most).forEach((line, row) => line.forEach((piece) => {
    const y = 112 + size + row * size * 1.62, x = rtl ? width - 80 - piece.x - piece.wide : 80 + piece.x;
    if (piece.hole) drawHole(pen, { ...piece, x }, y, size, color);
    write(piece.text, x + (piece.hole ? 12 : 0), y, `${size}px ${serif}`, color.ink);
  }));
  write(score, 80, 570, "bold 44px system-ui, sans-serif", color.ink, 700);
  pen.textAlign = "right";
  write("BERT from scratch", 1120, 570, "26px system-ui, sans-serif", color.soft);
  return canvas;
}

// The passage as a page of its own, without scripts: `css` is the style of this page.
function exported(root, facts, css, title) {
  const page = document.implementation.createHTMLDocument(title);
  const policy = page.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "default-src 'none'; style-src 'unsafe-inline'";
  const charset = page.createElement("meta");
  charset.setAttribute("charset", "utf-8");
  page.head.prepend(charset, policy);
  page.head.append(page.importNode(make("style", {}, css), true));
  page.documentElement.lang = "en";
  const copy = root.cloneNode(true);
  for (const part of copy.querySelectorAll("[role]")) {  // nothing can be pressed there
    for (const name of ["role", "tabindex", "aria-pressed", "aria-label"]) part.removeAttribute(name);
  }
  const list = make("ol", { class: "list" }, ...facts.holes.map((hole) => make("li", {},
    hole.blank ? "not guessed yet"
      : hole.guesses.map(([token, share]) => `${plain(token)} ${percent(share)}`).join(", "))));
  const main = make("main", { class: "page" }, make("h1", {}, title), copy, list);
  page.body.append(page.importNode(main, true));
  return `<!doctype html>\n${page.documentElement.outerHTML}`;
}

// The passage as words, for a message: [guess ✓], and the score.
function worded(facts, score) {
  const text = runs(facts).map(({ text, hole, glue }) =>
    (glue ? "" : " ") + (hole ? `[${text.trim()}]` : text)).join("").trim();
  return score ? `${text}\n${score}` : text;
}
