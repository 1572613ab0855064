// Shows the samples of a run: a list of which only the visible lines exist, and the chosen one.
//
// index.js calls report.begin with one letter a sample (r right, w wrong, c counted, u unscored, f failed;
// in the second run also - for not asked); NUMBER.js calls report.take with texts. All texts are
// set as text, never as HTML.
"use strict";

const report = (() => {
  const LINE = 68;
  const NAMES = { r: ["right", "good"], w: ["wrong", "bad"], c: ["counted", ""], u: ["unscored", "warn"], f: ["failed", "bad"] };
  const LETTERS = { right: "r", wrong: "w", counted: "c", unscored: "u", failed: "f" };
  const find = (id) => document.getElementById(id);
  const viewer = find("viewer"), form = find("filters"), list = find("list"), pane = find("sample");
  const space = list.firstElementChild, rows = space.firstElementChild;
  const count = (n) => n.toLocaleString("en");
  const pieces = new Map(), waiting = new Map(); // number of a file -> contents; -> promise
  let index = null, tasks = [], shown = [], chosen = 0, search = 0;

  // What turns text round or is not seen is spelt out: it may be there to mislead a judge.
  const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u202a-\u202e\u2060-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;

  function element(tag, kind, text) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) {
      made.textContent = text.replace(HIDDEN, (sign) => `[U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`);
    }
    return made;
  }

  // --- files -----------------------------------------------------------------------------------

  function load(number) {
    if (!waiting.has(number)) {
      waiting.set(number, new Promise((done, fail) => {
        const script = element("script");
        const name = `samples/${String(number).padStart(5, "0")}.js`;
        script.src = name;
        script.onload = () => (pieces.has(number) ? done() : script.onerror());
        script.onerror = () => { waiting.delete(number); fail(new Error(`${name} is not beside this page`)); };
        document.head.append(script);
      }));
    }
    return waiting.get(number);
  }

  function sampleAt(place) {
    const piece = pieces.get(Math.floor(place / index.chunk));
    if (!piece) return null;
    const sample = piece.samples[place % index.chunk];
    return { ...sample, clip: piece.clips[sample.clip] };
  }

  // --- filters ---------------------------------------------------------------------------------

  function fits(place, wanted) {
    const here = index.outcomes[place];
    if (wanted.outcome && here !== wanted.outcome) return false;
    if (wanted.type && (!index.types || index.types[index.kinds[place]] !== wanted.type)) return false;
    if (!wanted.other || !index.others) return true;
    const there = index.others[place];
    if (there === "-") return wanted.other === "absent";
    const unknown = [here, there].some((letter) => letter === "u" || letter === "c");
    switch (wanted.other) {
      case "unscored": return unknown;
      case "differ": return !unknown && (here === "r") !== (there === "r");
      case "first": return !unknown && here === "r" && there !== "r";
      case "second": return !unknown && here !== "r" && there === "r";
      default: return false;
    }
  }

  function holds(place, words) {
    const sample = sampleAt(place);
    const other = sample.other || {};
    const texts = [sample.id, sample.question, sample.reference, sample.prediction, sample.reason,
      sample.reply, sample.clip.video, sample.clip.caption, sample.error, other.prediction];
    const text = texts.filter((each) => each).join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  }

  function settings() {
    return Object.fromEntries(["task", "outcome", "type", "other", "text"].map((name) => [name, form.elements[name].value]));
  }

  async function filter(keep) {
    const mine = ++search; // a later change of the filters ends this search
    const wanted = settings();
    const words = wanted.text.toLowerCase().split(/\s+/).filter((word) => word);
    const places = [];
    for (const task of tasks) {
      if (wanted.task && task.name !== wanted.task) continue;
      for (let place = task.start; place < task.start + task.n; place++) {
        if (fits(place, wanted)) places.push(place);
      }
    }
    let kept = places;
    if (words.length) {
      const needed = new Set(places.map((place) => Math.floor(place / index.chunk)));
      let read = 0;
      try {
        for (const number of needed) {
          find("count").textContent = `reading texts: ${count(read++)} of ${count(needed.size)} files`;
          await load(number);
          if (mine !== search) return;
        }
      } catch (error) {
        find("count").textContent = error.message;
        return;
      }
      kept = places.filter((place) => holds(place, words));
    }
    shown = kept;
    showCount();
    const at = keep === undefined ? -1 : shown.indexOf(keep);
    choose(Math.max(at, 0), { scroll: true });
  }

  function showCount() {
    const counts = { r: 0, w: 0, c: 0, u: 0, f: 0 };
    for (const place of shown) counts[index.outcomes[place]]++;
    const parts = Object.entries(counts).filter(([, n]) => n).map(([letter, n]) => `${count(n)} ${NAMES[letter][0]}`);
    find("count").textContent =
      `${count(shown.length)} of ${count(index.outcomes.length)} samples` + (parts.length ? `: ${parts.join(", ")}` : "");
  }

  // --- the list --------------------------------------------------------------------------------

  let drawing = false;
  function draw() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => { drawing = false; lines(); });
  }

  function lines() {
    space.style.height = `${shown.length * LINE}px`;
    const first = Math.max(Math.floor(list.scrollTop / LINE) - 4, 0);
    const last = Math.min(first + Math.ceil(list.clientHeight / LINE) + 8, shown.length);
    rows.style.transform = `translateY(${first * LINE}px)`;
    const made = [];
    for (let at = first; at < last; at++) made.push(line(at));
    rows.replaceChildren(...made);
    list.setAttribute("aria-activedescendant", rows.querySelector("[aria-selected=true]") ? "chosen" : "");
  }

  function line(at) {
    const place = shown[at], sample = sampleAt(place), made = element("div", "line");
    made.setAttribute("role", "option");
    made.setAttribute("aria-posinset", at + 1);
    made.setAttribute("aria-setsize", shown.length);
    made.setAttribute("aria-selected", at === chosen);
    if (at === chosen) made.id = "chosen";
    made.addEventListener("click", () => choose(at, { scroll: false }));
    const picture = element("div", "picture"), texts = element("div"), marks = element("div", "marks");
    marks.append(mark(index.outcomes[place]));
    if (index.others && index.others[place] !== "-") {
      const other = mark(index.others[place], "2nd ");
      other.title = `in the second run, ${index.other_run}`;
      marks.append(other);
    }
    if (sample) {
      cut(picture, sample.clip, 0, 76, 54);
      texts.append(element("p", "", short(sample.question)));
      texts.append(element("p", "quiet", short(sample.error ? sample.error : sample.prediction || "(empty answer)")));
      if (sample.reference !== undefined) texts.append(element("p", "quiet", `reference: ${short(sample.reference)}`));
    } else {
      texts.append(element("p", "quiet", "…"));
      load(Math.floor(place / index.chunk)).then(draw, (error) => { texts.firstChild.textContent = error.message; });
    }
    made.append(picture, texts, marks);
    return made;
  }

  function short(text) {
    return text.length > 200 ? `${text.slice(0, 200)}…` : text;
  }

  function mark(letter, before = "") {
    const [name, kind] = NAMES[letter];
    return element("span", `mark ${kind}`, before + name);
  }

  // Cuts frame `number` out of a clip's picture, to cover a box of w×h (h 0: as the frame is).
  function cut(box, clip, number, w, h) {
    if (!clip.file) return;
    const [n, width, height] = clip.size;
    box.style.backgroundImage = `url("${clip.file}")`;
    if (!h) {
      box.style.aspectRatio = `${width} / ${height}`;
      box.style.backgroundSize = `${n * 100}% 100%`;
      box.style.backgroundPosition = n > 1 ? `${(100 * number) / (n - 1)}% 0` : "0 0";
      return;
    }
    const scale = Math.max(w / width, h / height);
    box.style.backgroundSize = `${n * width * scale}px ${height * scale}px`;
    box.style.backgroundPosition = `${-(number * width * scale + (width * scale - w) / 2)}px ${(h - height * scale) / 2}px`;
  }

  // --- one sample ------------------------------------------------------------------------------

  function choose(at, { scroll }) {
    chosen = Math.min(Math.max(at, 0), shown.length - 1);
    if (scroll && shown.length) {
      const top = chosen * LINE, bottom = top + LINE - list.clientHeight;
      space.style.height = `${shown.length * LINE}px`;
      const far = Math.abs(list.scrollTop - top) > 2 * list.clientHeight;
      if (far) list.scrollTop = (top + bottom) / 2;
      else if (list.scrollTop > top) list.scrollTop = top;
      else if (list.scrollTop < bottom) list.scrollTop = bottom;
    }
    draw();
    note();
    if (!shown.length) {
      pane.replaceChildren(element("p", "hint", "No sample is like that."));
      return;
    }
    const place = shown[chosen];
    load(Math.floor(place / index.chunk)).then(
      () => { if (shown[chosen] === place) show(place); },
      (error) => pane.replaceChildren(element("p", "hint", error.message)),
    );
  }

  function show(place) {
    const sample = sampleAt(place), clip = sample.clip;
    const task = tasks.find((each) => place < each.start + each.n);
    const about = [task.name, `id ${sample.id}`, `clip ${clip.video}`];
    if (sample.type) about.push(`type ${sample.type}`);
    const parts = [element("h3", "", sample.question), element("p", "hint", about.join(" · "))];
    parts.push(pictures(clip));
    const facts = element("dl");
    if (sample.options) fact(facts, "Options", sample.options);
    fact(facts, "Reference", sample.gone ? "(the question is not in the data any more)" : sample.reference, sample.gone);
    answer(facts, sample);
    fact(facts, "Caption", clip.caption || "(none)", !clip.caption);
    verdict(facts, sample, sample.stale ? "given on other texts than the data now has" : "");
    parts.push(facts, ...prompts(sample, clip, index.prompts[task.name]));
    if (index.others) parts.push(element("h4", "", `Second run: ${index.other_run}`), second(sample));
    pane.replaceChildren(...parts);
    pane.scrollTop = 0;
  }

  function pictures(clip) {
    if (!clip.file) return element("p", "hint", clip.error ? `No frames: ${clip.error}` : "No frames: no such clip.");
    // As page.html has it; clips.js moves it.
    const [n, width, height] = clip.size, box = element("div", width < 100 ? "clip small" : "clip");
    for (const [name, value] of [["n", n], ["w", width], ["h", height], ["frames", `url("${clip.file}")`]]) {
      box.style.setProperty(`--${name}`, value);
    }
    const screen = element("div", "screen"), times = element("div", "times"), stills = element("div", "stills");
    if (clip.plays) {
      const video = element("video");
      Object.assign(video, { src: clip.plays, controls: true, muted: true, playsInline: true, preload: "metadata" });
      video.setAttribute("aria-label", clip.video);
      screen.append(video);
    }
    screen.append(still(`${clip.video}: the sampled frames in turn`, "turn"));
    const every = Math.ceil(n / 8);
    clip.indices.forEach((frame, number) => {
      const time = clip.times[number], known = time !== undefined;
      const place = known ? time / (clip.seconds || 1) : number / Math.max(n - 1, 1);
      const mark = element("button");
      mark.type = "button";
      mark.style.left = `${100 * Math.min(place, 1)}%`;
      mark.title = known ? `frame ${frame}, ${time.toFixed(2)} s` : `frame ${frame}`;
      if (known) mark.dataset.time = time;
      mark.append(element("span", "", number % every ? "" : known ? `${(Math.round(10 * time) / 10).toFixed(1)} s` : `${frame}`));
      times.append(mark);
      const figure = element("figure"), picture = still(`frame ${frame}`, "");
      picture.style.setProperty("--i", number);
      figure.append(picture, element("figcaption", "", `frame ${frame}`));
      stills.append(figure);
    });
    const player = element("div", "player");
    player.append(screen, times);
    if (clip.moved) player.append(element("p", "hint", "The clip now gives other frames than the model saw."));
    box.append(player, stills);
    return box;
  }

  function still(words, kind) {
    const picture = element("i", kind);
    picture.setAttribute("role", "img");
    picture.setAttribute("aria-label", words);
    return picture;
  }

  function fact(facts, name, text, quiet) {
    const held = element("dd");
    held.append(element("div", quiet ? "words none" : "words", text));
    facts.append(element("dt", "", name), held);
    return held;
  }

  function answer(facts, sample) {
    if (sample.error) fact(facts, "No answer", sample.error);
    else fact(facts, "Prediction", sample.prediction || "(empty)", !sample.prediction);
  }

  function verdict(facts, sample, warning) {
    const held = element("dd");
    held.append(mark(LETTERS[sample.outcome]));
    const remarks = [];
    if (sample.outcome === "failed") remarks.push("counts as wrong; no judge saw it");
    if (sample.score !== undefined) remarks.push(`score ${Number(sample.score.toFixed(2))}`);
    if (sample.by) remarks.push(`by ${sample.by}`);
    if (sample.repaired) remarks.push("the judge's first reply could not be read");
    if (sample.other_judge && sample.outcome !== "failed") remarks.push("another judge");
    if (warning) remarks.push(warning);
    if (remarks.length) held.append(element("span", "hint", ` ${remarks.join(" · ")}`));
    facts.append(element("dt", "", "Verdict"), held);
    if (sample.reason) fact(facts, "Reason", sample.reason);
    if (sample.reply) fact(facts, "The judge's words", sample.reply).firstChild.classList.add("reply");
    for (const member of sample.members || []) {
      const said = member.correct === true ? "right" : member.correct === false ? "wrong" : "unscored";
      const words = [member.reason, member.reply].filter((each) => each).join("\n");
      const row = fact(facts, member.name, words || "(no words)", !words);
      row.prepend(mark(LETTERS[said]));
      if (member.score !== undefined && member.score !== null) {
        row.insertBefore(element("span", "hint", ` score ${member.score}`), row.lastChild);
      }
    }
  }

  // What model and judge were asked, made of the task's wording and the sample's texts.
  function prompts(sample, clip, asked) {
    const put = (text, place, value) => text.split(place).join(value);
    let prompt = sample.asked ?? put(asked.prompt, "{question}", sample.question || "");
    if (!sample.unsure && asked.sent_as) prompt = put(asked.sent_as, "{prompt}", prompt);
    const note = sample.unsure
      ? "The task's prompt, as this package makes it now. What was sent had another form, which the run did not record."
      : asked.note;
    const made = [folded("The model's prompt", note, [["system", asked.system], ["", prompt]])];
    if (sample.judged) {
      const texts = { description: clip.caption, question: sample.question, reference: sample.reference, answer: sample.prediction };
      const material = typeof sample.judged === "string" ? sample.judged
        : JSON.stringify(Object.fromEntries(sample.judged.map((name) => [name, texts[name]])), null, 2);
      const turns = [["system", asked.judge_system], ["user", asked.before + material + asked.after]];
      made.push(folded("The judge's prompt", asked.judge_note, turns));
    } else if (asked.judge_note && sample.outcome !== "failed") {
      const why = sample.stale ? "The verdict was given on other texts than the data now has." : asked.judge_note;
      made.push(folded("The judge's prompt", why, []));
    }
    return made;
  }

  function folded(title, note, turns) {
    const box = element("details");
    box.append(element("summary", "", title), element("p", "hint", note));
    for (const [who, text] of turns) {
      if (!text) continue;
      if (who) box.append(element("p", "hint", who));
      box.append(element("div", "words reply", text));
    }
    return box;
  }

  function second(sample) {
    const facts = element("dl");
    if (!sample.other) fact(facts, "Answer", "(this question was not asked there)", true);
    else {
      if (sample.other.same_answer) fact(facts, "Prediction", "(the same)", true);
      else answer(facts, sample.other);
      verdict(facts, sample.other, "");
    }
    return facts;
  }

  // --- address and keys ------------------------------------------------------------------------

  function note() {
    const held = new URLSearchParams();
    for (const [name, value] of Object.entries(settings())) if (value) held.set(name, value);
    if (shown.length && chosen) held.set("sample", shown[chosen]);
    history.replaceState(null, "", `#${held}`);
  }

  function recall() {
    const held = new URLSearchParams(location.hash.slice(1));
    for (const name of ["task", "outcome", "type", "other", "text"]) form.elements[name].value = held.get(name) || "";
    for (const box of form.querySelectorAll("select")) if (box.selectedIndex < 0) box.value = "";
    return held.has("sample") ? Number(held.get("sample")) : undefined;
  }

  let typing = 0;
  form.addEventListener("input", (event) => {
    clearTimeout(typing);
    const keep = shown[chosen];
    typing = setTimeout(() => filter(keep), event.target.name === "text" ? 200 : 0);
  });
  form.addEventListener("reset", () => { const keep = shown[chosen]; setTimeout(() => filter(keep)); });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => filter(recall()));
  window.addEventListener("resize", draw);
  list.addEventListener("scroll", draw, { passive: true });
  list.addEventListener("keydown", (event) => {
    const page = Math.max(Math.floor(list.clientHeight / LINE) - 1, 1);
    const to = { ArrowDown: chosen + 1, ArrowUp: chosen - 1, PageDown: chosen + page, PageUp: chosen - page,
      Home: 0, End: shown.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to, { scroll: true });
  });

  function begin(held) {
    index = held;
    let start = 0;
    tasks = held.tasks.map(([name, n]) => { start += n; return { name, n, start: start - n }; });
    const every = element("option", "", `all (${count(start)})`);
    every.value = "";
    form.elements.task.append(every, ...tasks.map((task) => {
      const option = element("option", "", `${task.name} (${count(task.n)})`);
      option.value = task.name;
      return option;
    }));
    form.elements.type.append(...(held.types || []).map((name) => {
      const option = element("option", "", name);
      option.value = name;
      return option;
    }));
    find("kinds").hidden = !held.types;
    find("versus").hidden = !held.others;
    viewer.hidden = false;
    // An address that was noted down leads to the samples, past the figures.
    if (location.hash.length > 1) viewer.scrollIntoView();
    filter(recall());
  }

  return { begin, take: (number, piece) => pieces.set(number, piece) };
})();
