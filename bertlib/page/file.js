// The page as a file: the model is inside of it, a worker (worker.js) computes.

"use strict";

const PUZZLES = JSON.parse(document.querySelector("#puzzles").textContent);
const FIRST = "the king went to the [MASK] .";

async function start() {
  const status = document.querySelector("[role=status]"), model = document.querySelector("#model");
  const say = (text) => { status.textContent = text; };
  const source = new Blob([document.querySelector("#worker").textContent], { type: "text/javascript" });
  const worker = new Worker(URL.createObjectURL(source));
  const { call, answered } = asker((message) => worker.postMessage(message));
  worker.onmessage = ({ data }) => answered(data);
  worker.onerror = () => say("This browser cannot compute the model.");
  document.querySelector("#where").textContent = "The model is inside this file: it works offline, "
    + "and nothing that you write leaves it.";
  document.querySelector("h1").textContent = document.title;
  const load = call({ load: model.textContent });
  model.remove();
  try {
    const { loaded } = await load;
    const page = new Instrument(document, call, { ...loaded, title: document.title,
      style: document.querySelector("#style").textContent, puzzle: dealer(PUZZLES) });
    listen(page);
    await (PUZZLES.length ? page.next(false) : page.read(FIRST));
  } catch ({ message }) {
    say(message);
  }
}

start();
