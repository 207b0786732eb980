// The page around worker.js: one text, and the guesses for its [MASK]s as lists. Text is only ever
// set by textContent, so that no token becomes markup.

"use strict";

const find = (selector) => document.querySelector(selector);
const status = find("[role=status]");
let asked = 0;  // the number of the newest question: older answers are of no use

const source = new Blob([find("#worker").textContent], { type: "text/javascript" });
const worker = new Worker(URL.createObjectURL(source));
worker.onerror = () => { status.textContent = "This browser cannot compute the model."; };
worker.postMessage({ load: find("#model").textContent });
find("#model").remove();

function ask() {
  status.textContent = "Guessing.";
  worker.postMessage({ number: ++asked, guess: find("#text").value });
}

function make(tag, text, ...children) {
  const element = document.createElement(tag);
  element.append(text, ...children);
  return element;
}

function percent(share) {
  return share < 0.0005 ? "under 0.1%" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
}

worker.onmessage = ({ data: { number, error, loaded, guesses } }) => {
  if (error) {
    status.textContent = error;
  } else if (loaded) {
    ask();
  } else if (number === asked) {
    status.textContent = guesses.length ? "" : "The text has no [MASK]; put one where to guess.";
    find("#guesses").replaceChildren(...guesses.flatMap((best, hole) => [
      make("h2", `[MASK] ${hole + 1}`),
      make("ol", "", ...best.map(([token, share]) => make("li", `${token} ${percent(share)}`))),
    ]));
  }
};

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
