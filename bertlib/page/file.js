// The page as a file: the model is inside of it, a worker (worker.js) computes.

"use strict";

const PUZZLES = JSON.parse(document.querySelector("#puzzles").textContent);
const FIRST = "the king went to the [MASK] .";

// Each question to the worker gets its answer, or an Error of one sentence.
function asker(failed) {
  const source = new Blob([document.querySelector("#worker").textContent], { type: "text/javascript" });
  const worker = new Worker(URL.createObjectURL(source)), waiting = new Map();
  worker.onmessage = ({ data }) => {
    const { resolve, reject } = waiting.get(data.number);
    waiting.delete(data.number);
    if (data.error) reject(new Error(data.error));
    else resolve(data);
  };
  worker.onerror = failed;
  return (message) => new Promise((resolve, reject) => {
    const number = waiting.size ? Math.max(...waiting.keys()) + 1 : 1;
    waiting.set(number, { resolve, reject });
    worker.postMessage({ number, ...message });
  });
}

// The next puzzle: the same words are hidden for everybody, and others in the next round.
function dealer() {
  let dealt = -1;
  return async (pane) => {
    dealt++;
    const [message, text, seed] = PUZZLES[dealt % PUZZLES.length] ?? ["", pane.text, 0];
    const answer = await pane.ask(text), round = Math.floor(dealt / (PUZZLES.length || 1));
    return { ...answer, message, seed: seed + 100 * round };
  };
}

async function start() {
  const status = document.querySelector("[role=status]"), model = document.querySelector("#model");
  const say = (text) => { status.textContent = text; };
  const call = asker(() => say("This browser cannot compute the model."));
  document.querySelector("#where").textContent = "The model is inside this file: it works offline, "
    + "and nothing that you write leaves it.";
  document.querySelector("h1").textContent = document.title;
  const load = call({ load: model.textContent });
  model.remove();
  try {
    const { loaded } = await load;
    const page = new Instrument(document, call, { ...loaded, title: document.title,
      style: document.querySelector("#style").textContent, puzzle: dealer() });
    listen(page);
    await (PUZZLES.length ? page.next(false) : page.read(FIRST));
  } catch ({ message }) {
    say(message);
  }
}

start();
