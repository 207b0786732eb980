// Mouse, touch and keys on the page; what they do stands in page.js. Loads the model last.

"use strict";

function press(part) {
  const at = Number(part.dataset.position);
  if (active.holes.has(at)) {
    active.selected = at;
    draw();
    if (active.holes.get(at).open) card.querySelector("input")?.focus();
    return;
  }
  active.hideWord(at);
  active.selected = at;
  active.heat.clear();
  guess();
  focus(at);
}

// Arrows go from word to word, up and down from hole to hole; where is right depends on the script.
function target(root, key) {
  const all = [...root.querySelectorAll("[role=button]")], here = all.indexOf(document.activeElement);
  const turned = getComputedStyle(root).direction === "rtl" ? -1 : 1;
  const holes = all.filter((part) => part.dataset.hole);
  switch (key) {
    case "ArrowRight": return all[here + turned];
    case "ArrowLeft": return all[here - turned];
    case "ArrowDown": return holes.find((part) => all.indexOf(part) > here) ?? holes[0];
    case "ArrowUp": return holes.findLast((part) => all.indexOf(part) < here) ?? holes.at(-1);
    case "Home": return all[0];
    case "End": return all.at(-1);
    default: return null;
  }
}

function take(root) {
  active = panes.find((pane) => pane.root === root);
  panes.forEach((pane) => { if (pane !== active) pane.selected = -1; });
}

document.addEventListener("click", ({ target: clicked }) => {
  const part = clicked.closest(".passage [role=button]"), button = clicked.closest("button");
  if (part) {
    take(part.closest(".passage"));
    press(part);
  } else if (button?.dataset.choice) {
    choose(Number(button.dataset.choice));
  } else if (button?.dataset.do) {
    controls[button.dataset.do]();
  }
});

document.addEventListener("keydown", (event) => {
  const { key, target: on } = event, root = on.closest(".passage");
  if (event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
  const typing = on.matches("input, textarea");
  if (key === "Escape" && active.selected >= 0) {
    controls.close();
  } else if (on === box && key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    reader.requestSubmit();
  } else if (!typing && /^[1-5]$/.test(key)) {
    choose(Number(key) - 1);
  } else if (root && (key === "Enter" || key === " ")) {
    event.preventDefault();
    take(root);
    press(on);
  } else if (root) {
    const to = target(root, key);
    if (!to) return;
    event.preventDefault();
    root.querySelectorAll("[role=button]").forEach((part) => { part.tabIndex = part === to ? 0 : -1; });
    to.focus();
    take(root);
    const at = Number(to.dataset.position);
    active.selected = active.holes.has(at) ? at : -1;
    draw();
  }
});

reader.addEventListener("submit", (event) => {
  event.preventDefault();
  read(box.value);
});

card.addEventListener("submit", (event) => {
  event.preventDefault();
  settle(card.querySelector("input").value);
});

addEventListener("resize", place);

async function start() {
  const model = find("#model");
  const load = call({ load: model.textContent });
  model.remove();
  try {
    const { loaded } = await load;
    panes = [...document.querySelectorAll(".passage")].map((root) => new Passage(root, call, loaded.mask));
    [active] = panes;
    await (PUZZLES.length ? next(false) : read(FIRST));
  } catch ({ message }) {
    say(message);
  }
}

start();
