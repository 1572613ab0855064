// A rating sheet: one question at a time, choices kept in this browser, results saved as JSONL.
//
// SHEET comes before this: {sheet, kind, items: [{id, video, question, answers, file | frames}]}.
// All texts are set as text, never as HTML. What is saved is what `eval agreement` reads.
"use strict";

(() => {
  const PAIRS = SHEET.kind === "preferences";
  const CHOICES = PAIRS
    ? [["a", "A is better", "a"], ["tie", "Equally good", "t"], ["b", "B is better", "b"]]
    : [["yes", "Right", "y"], ["no", "Wrong", "n"]];
  const PLACE = `sharegptvideo sheet ${SHEET.sheet}`;
  const find = (id) => document.getElementById(id);
  const form = find("about"), pane = find("item"), buttons = find("choices"), said = find("said");
  const name = form.elements.rater, items = SHEET.items;
  let state = { rater: "", at: 0, choices: {} };
  let kept = true; // whether the browser keeps anything

  function element(tag, kind, text) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // --- what is kept ------------------------------------------------------------------------------

  function recall() {
    try {
      const held = JSON.parse(localStorage.getItem(PLACE) || "null");
      if (!held || typeof held.choices !== "object" || held.choices === null) return;
      const known = new Set(items.map((item) => item.id)), allowed = CHOICES.map((each) => each[0]);
      for (const [id, choice] of Object.entries(held.choices)) {
        if (known.has(id) && allowed.includes(choice)) state.choices[id] = choice;
      }
      state.rater = String(held.rater || "");
      state.at = Number.isInteger(held.at) && held.at >= 0 && held.at < items.length ? held.at : 0;
    } catch { kept = false; }
  }

  function keep() {
    try { localStorage.setItem(PLACE, JSON.stringify(state)); } catch { kept = false; }
  }

  // --- what is shown -----------------------------------------------------------------------------

  const rated = () => items.filter((item) => item.id in state.choices).length;

  function report(text) {
    const count = `Question ${state.at + 1} of ${items.length}; ${rated()} chosen.`;
    const lost = kept ? "" : " This browser keeps nothing: save the results before you close it.";
    said.textContent = `${text ? `${text} ` : ""}${count}${lost}`;
  }

  function missing(item) {
    return element("p", "none", `The clip ${item.video} is not where this sheet expects it, or cannot be shown here.`);
  }

  function clip(item) {
    if (item.frames) {
      const strip = element("div", "frames");
      item.frames.forEach((file, number) => {
        const picture = element("img");
        picture.src = file;
        picture.alt = `Frame ${number + 1} of ${item.frames.length}`;
        picture.onerror = () => strip.replaceWith(missing(item));
        strip.append(picture);
      });
      return strip;
    }
    if (!item.file) return missing(item);
    const video = element("video");
    video.controls = video.loop = video.muted = video.playsInline = true;
    video.autoplay = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    video.onerror = () => video.replaceWith(missing(item));
    video.src = item.file;
    return video;
  }

  function show(text) {
    const item = items[state.at];
    const answers = element("div", "answers");
    item.answers.forEach((answer, number) => {
      const card = element("section");
      card.append(element("h3", "", PAIRS ? `Answer ${"AB"[number]}` : "Answer"));
      card.append(answer.trim() ? element("p", "words", answer) : element("p", "none", "(an empty answer)"));
      answers.append(card);
    });
    pane.replaceChildren(clip(item), element("p", "question words", item.question), answers);
    for (const button of buttons.children) {
      button.setAttribute("aria-pressed", String(state.choices[item.id] === button.value));
    }
    find("back").disabled = state.at === 0;
    find("next").disabled = state.at === items.length - 1;
    find("open").disabled = rated() === items.length;
    report(text);
  }

  function go(place, text) {
    state.at = Math.min(Math.max(place, 0), items.length - 1);
    keep();
    show(text);
    if (pane.getBoundingClientRect().top < 0) pane.scrollIntoView(); // on small screens
  }

  // --- what is done ------------------------------------------------------------------------------

  function nextOpen() {
    for (let step = 1; step <= items.length; step++) {
      const place = (state.at + step) % items.length;
      if (!(items[place].id in state.choices)) return place;
    }
    return -1;
  }

  function choose(choice) {
    state.choices[items[state.at].id] = choice;
    const place = nextOpen();
    if (place < 0) go(state.at, "All are chosen: save the results.");
    else go(place);
  }

  function row(item) {
    const choice = state.choices[item.id];
    if (!PAIRS) return { id: item.id, correct: choice === "yes", rater: state.rater };
    const [answer_a, answer_b] = item.answers;
    return { id: item.id, video: item.video, question: item.question, answer_a, answer_b, rater: state.rater, choice };
  }

  function save() {
    state.rater = name.value.trim();
    keep();
    if (!state.rater) {
      report("Write your name first: it says whose choices these are.");
      name.focus();
      return;
    }
    if (!rated()) return report("Nothing is chosen yet.");
    const lines = items.filter((item) => item.id in state.choices).map((item) => JSON.stringify(row(item)));
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "application/jsonl" }));
    link.download = `${SHEET.kind}-${SHEET.sheet}-${state.rater.replace(/[^\p{L}\p{N}]+/gu, "_")}.jsonl`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    report(`Saved ${lines.length} of ${items.length} as ${link.download}.`);
  }

  recall();
  name.value = state.rater;
  for (const [value, text, key] of CHOICES) {
    const button = element("button", "", text);
    button.type = "button";
    button.value = value;
    button.setAttribute("aria-keyshortcuts", key);
    button.addEventListener("click", () => choose(value));
    buttons.append(button);
  }
  find("keys").textContent = `Keys: ${CHOICES.map((each) => `${each[2]}: ${each[1]}`).join(", ")}; left and right arrow: back and on; u: the next unanswered; space: play or pause.`;
  find("back").addEventListener("click", () => go(state.at - 1));
  find("next").addEventListener("click", () => go(state.at + 1));
  find("open").addEventListener("click", () => { const place = nextOpen(); if (place >= 0) go(place); });
  find("anew").addEventListener("click", () => {
    if (!confirm("Remove your name and all choices from this browser?")) return;
    state = { rater: "", at: 0, choices: {} };
    name.value = "";
    go(0);
  });
  name.addEventListener("input", () => { state.rater = name.value.trim(); keep(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); save(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === name) return;
    const video = pane.querySelector("video");
    const chosen = CHOICES.find((each) => each[2] === event.key.toLowerCase());
    if (chosen) choose(chosen[0]);
    else if (event.key === "ArrowLeft" && event.target !== video) go(state.at - 1);
    else if (event.key === "ArrowRight" && event.target !== video) go(state.at + 1);
    else if (event.key === "u") find("open").click();
    else if (event.key === " " && video && !["BUTTON", "VIDEO"].includes(event.target.tagName)) {
      if (video.paused) video.play(); else video.pause();
    } else return;
    if (event.target.tagName !== "VIDEO" || chosen) event.preventDefault();
  });
  find("sheet").hidden = false;
  show();
})();
