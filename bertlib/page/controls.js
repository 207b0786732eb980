// What the buttons do, by their data-do, each with the instrument (page.js); and the keys, the mouse
// and touch that reach it.

"use strict";

function unfold(page, name, element) {
  const shown = element.hidden;
  element.hidden = !shown;
  page.find(`[data-do=${name}]`).setAttribute("aria-expanded", String(shown));
  return shown;
}

const kept = (page) => ({ facts: page.active.facts(),
  score: page.score.rounds ? page.points() : page.told() });

const CONTROLS = {
  text(page) {
    if (!unfold(page, "text", page.reader)) return;
    page.box.value = page.active.text;
    page.box.focus();
  },
  some(page) {
    page.active.game = false;
    page.active.hideSome();
    page.guess();
  },
  next: (page) => page.next(),
  more: (page) => unfold(page, "more", page.find("#more")),
  heat: (page) => page.during("Scoring.", (pane) => pane.score((done, all) => {
    page.say(`Scoring word ${done} of ${all}.`, true);
    pane.draw();
  })),
  beside(page) {
    const second = page.find("#sheets > section:nth-child(2)"), shown = second.hidden;
    const text = page.active.text;
    second.hidden = !shown;
    page.find("#sheets").classList.toggle("two", shown);
    page.find("[data-do=beside]").setAttribute("aria-pressed", String(shown));
    page.active = page.panes[shown ? 1 : 0];
    page.active.rival = page.panes[shown ? 0 : 1].rival;
    if (!shown) return page.draw();
    if (page.reader.hidden) CONTROLS.text(page);
    return page.read(text).then(() => { page.box.value = text; });
  },
  picture(page) {
    const { facts, score } = kept(page), rtl = /^\P{L}*[\u0590-\u08ff\ufb1d-\ufefc]/u;
    const shot = picture(facts, { score, heading: page.title, rtl: rtl.test(page.active.text),
      style: getComputedStyle(page.find(".page")) });
    shot.toBlob((blob) => save(blob, "bert.png"), "image/png");
  },
  file: (page) => save(new Blob([exported(page.active.root, kept(page).facts, page.style,
    page.title)], { type: "text/html" }), "bert-passage.html"),
  words: (page) => navigator.clipboard.writeText(worded(kept(page).facts, kept(page).score))
    .then(() => page.say("Copied."),
      () => page.say("This browser does not let a page copy; save it instead.")),
  // In a game it gives the rest of a round up: nobody scores.
  reveal(page) {
    const open = page.active.list().some((hole) => hole.open);
    page.untold().forEach((hole) => Object.assign(hole, { told: true, open: false }));
    if (open) Object.assign(page.active, { selected: -1, game: false });
    page.say(page.told());
    page.draw();
    if (open) page.find("[data-do=next]").focus();
  },
  tell(page) {
    page.active.holes.get(page.active.selected).told = true;
    page.draw();
    back(page);
  },
  lift(page) {
    Object.assign(page.active.holes.get(page.active.selected), { placed: null, placedId: null });
    back(page);
    page.guess();
  },
  show(page) {
    const at = page.active.selected;
    page.active.show(at);
    page.guess();
    page.focus(at);
  },
  close(page) {
    back(page);
    page.active.selected = -1;
    page.draw();
  },
  pass: (page) => page.settle(""),
};

const back = (page) => page.focus(page.active.selected);

// Arrows go from word to word, up and down from hole to hole; where is right depends on the script.
function target(passage, key, focused) {
  const all = [...passage.querySelectorAll("[role=button]")], here = all.indexOf(focused);
  const turned = getComputedStyle(passage).direction === "rtl" ? -1 : 1;
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

function clicked(page, on) {
  const part = on.closest(".passage [role=button]"), button = on.closest("button");
  if (part) {
    page.enter(part.closest(".passage"));
    page.press(part);
  } else if (button?.dataset.choice) {
    page.choose(Number(button.dataset.choice));
  } else if (button?.dataset.do) {
    CONTROLS[button.dataset.do](page);
  }
}

function typed(page, event) {
  const { key, target: on } = event, passage = on.closest(".passage");
  if (event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
  if (key === "Escape" && page.active.selected >= 0) {
    CONTROLS.close(page);
  } else if (on === page.box && key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    page.reader.requestSubmit();
  } else if (!on.matches("input, textarea, select") && /^[1-5]$/.test(key)) {
    page.choose(Number(key) - 1);
  } else if (passage && (key === "Enter" || key === " ")) {
    event.preventDefault();
    page.enter(passage);
    page.press(on);
  } else if (passage) {
    const to = target(passage, key, on);
    if (!to) return;
    event.preventDefault();
    passage.querySelectorAll("[role=button]").forEach((part) => { part.tabIndex = part === to ? 0 : -1; });
    to.focus();
    page.enter(passage);
    page.select(Number(to.dataset.position));
  }
}

// Sets all listeners; what it returns takes away those that outlive the root.
function listen(page) {
  const { root, reader, card, box } = page;
  root.addEventListener("click", (event) => clicked(page, event.target));
  root.addEventListener("keydown", (event) => typed(page, event));
  reader.addEventListener("submit", (event) => {
    event.preventDefault();
    page.read(box.value);
  });
  card.addEventListener("submit", (event) => {
    event.preventDefault();
    page.settle(card.querySelector("input").value);
  });
  page.find("#head").addEventListener("change", () => page.attend());
  page.find("#rival").addEventListener("change", (event) => {
    page.panes.forEach((pane) => { pane.rival = event.target.value; });
    page.guess();
  });
  const watch = new ResizeObserver(() => page.place());
  watch.observe(page.find(".page"));
  return () => watch.disconnect();
}
