// The reader's way through a study: what to show next, the time on the screen, and answers on their way to the server.

import {form, rows} from "./review_case.js";
import {ask, make, say, show} from "./review_dom.js";
import {viewer} from "./review_picture.js";
import * as screens from "./review_screens.js";

const IDLE = 60, EVERY = 15, BLINK = 2;
const OTHER_TAB = "This case was answered elsewhere, perhaps in another tab. Here is what comes next.";
let current = null;

// Seconds that the case was in sight and used: nothing counts while the page is hidden or untouched for a minute.
const clock = {
  on: false, seconds: 0, used: 0, last: 0,
  beat() {
    const now = performance.now() / 1000, since = now - this.last;
    if (this.on && document.visibilityState === "visible" && now - this.used < IDLE) this.seconds += Math.min(BLINK, since);
    this.last = now;
  },
  take() {
    this.beat();
    const taken = this.seconds;
    this.seconds = 0;
    return taken;
  },
  run(on) {
    this.beat();
    this.on = on;
  },
};
for (const name of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart", "scroll"]) {
  addEventListener(name, () => { clock.used = performance.now() / 1000; }, {passive: true, capture: true});
}
setInterval(() => clock.beat(), 1000);
setInterval(() => { if (clock.seconds > 1) tick(); }, EVERY * 1000);

function tick(more = {}) {
  if (current?.step?.stage !== 1 || !clock.on) return;
  ask("tick", {showing: current.step.showing, seconds: clock.take()}, more).catch(() => {});
}
addEventListener("pagehide", () => tick({keepalive: true}));

document.addEventListener("visibilitychange", async () => {
  clock.beat();
  if (document.visibilityState !== "visible" || !current || current.busy) return;
  const next = await ask("state").catch(() => null);
  if (next && current && !current.busy && moved(next)) turn(next, OTHER_TAB);
});

const key = (state) => (state.step ? `${state.step.showing}/${state.step.stage}` : state.screen);
const moved = (next) => key(next) !== key(current.state);

async function start() {
  try {
    await turn(await ask("state"));
  } catch (error) {
    stop(error);
  }
}

function stop(error) {
  current = null;
  clock.run(false);
  progress(null);
  const again = error.status === 0 || error.status >= 500 ? start : null;
  show(screens.message(again ? "Not just now" : "This study cannot go on here", error.message, again));
}

async function turn(state, notice = "") {
  clock.run(false);
  clock.seconds = 0;
  current = {state, step: state.step, busy: false};
  progress(null);
  say(notice);
  if (state.screen === "consent") show(screens.consent(state.study, state.reader, (values) => attempt("consent", {values})));
  else if (state.screen === "end") show(screens.end(withdraw));
  else if (state.screen === "gone") show(screens.gone());
  else await readCase(state);
}

// Ask for what changes the screen; returns the sentence of what went wrong.
async function attempt(verb, given = {}) {
  try {
    await turn(await ask(verb, given));
    return "";
  } catch (error) {
    if (error.status === 403) stop(error);
    return error.message;
  }
}
const withdraw = () => attempt("withdraw");

function progress(step, screen) {
  const way = document.getElementById("way");
  way.hidden = !step;
  if (!step) return;
  const what = step.practice ? "Practice" : step.stage === 2 && step.questions.source ? "Captions, case" : "Case";
  way.replaceChildren(
    make("span", {textContent: `${what} ${step.case} of ${step.cases}`}),
    make("progress", {max: step.cases, value: step.case - 1, "aria-label": "Cases done"}),
    make("button", {type: "button", textContent: "Pause", onclick: () => pause(step, screen)}));
}

function pause(step, screen) {
  tick();
  const counting = clock.on;
  clock.run(false);
  document.getElementById("way").hidden = true;
  show(screens.pause(() => {
    show(screen);
    progress(step, screen);
    clock.run(counting);
    screen.querySelector("input, select, button.primary")?.focus();
  }, withdraw));
}

async function readCase(state) {
  const step = state.step, mine = current, list = rows(step), marking = step.stage === 1 && step.questions.artefacts;
  const kept = `${step.showing}/${step.stage}`;
  const keep = () => sessionStorage.setItem(kept, JSON.stringify({values: asked.values(), marks: picture.marks()}));
  const picture = viewer(`Case ${step.case} of ${step.cases}`, marking, () => asked && keep());
  const asked = form(list, step.stage === 1 ? "Store and lock" : "Store", keep, (values) => give(mine, values, asked, picture, kept));
  const caption = step.stage === 2 ? [make("p", {className: "quiet", textContent: "The caption that the picture was drawn from. Is it drawn as asked?"}), make("blockquote", {textContent: step.caption})] : [];
  asked.element.prepend(...caption);
  picture.element.append(make("p", {className: "keys", textContent: "Keys: digits or ← → choose, ↑ ↓ and Enter move, + − zoom, Z picture, Esc back."}));
  const screen = make("div", {className: "case"}, picture.element, asked.element);
  mine.keys = (event) => shortcut(event, asked, picture);
  show(screen);
  progress(step, screen);
  const draft = JSON.parse(sessionStorage.getItem(kept) || "null");
  if (draft) {
    asked.restore(draft.values);
    picture.restore(draft.marks);
  }
  asked.first();
  try {
    await picture.load(await ask("picture", {showing: step.showing}));
  } catch (error) {
    if (current === mine) stop(error.status ? error : Object.assign(error, {status: 0}));
    return;
  }
  if (current !== mine) return;
  clock.last = clock.used = performance.now() / 1000;
  clock.run(step.stage === 1);
}

function shortcut(event, asked, picture) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.type === "text") return;
  if (event.key === "+" || event.key === "=") picture.zoom(picture.STEP);
  else if (event.key === "-") picture.zoom(1 / picture.STEP);
  else if (event.key.toLowerCase() === "z") picture.frame.focus();
  else if (event.key === "Escape" || (/^[0-9]$/.test(event.key) && !event.target.closest("form"))) asked.back();
  else return;
  event.preventDefault();
}
addEventListener("keydown", (event) => current?.keys?.(event));

async function give(mine, values, asked, picture, kept) {
  if (mine.busy) return;
  mine.busy = true;
  asked.busy(true);
  const {showing, stage, practice} = mine.step, {left_out: leftOut, ...said} = values;
  if (stage === 1 && mine.step.questions.artefacts) said.marked = picture.marks();
  const given = {showing, stage, values: said, seconds: Math.min(60, clock.take()), left_out: Boolean(leftOut)};
  try {
    const next = await ask("answer", given);
    sessionStorage.removeItem(kept);
    clock.run(false);
    if (practice && stage === 1) await practised(mine, said, asked, next);
    else await turn(next);
  } catch (error) {
    await refused(mine, error, asked);
  }
}

async function practised(mine, said, asked, next) {
  const truth = await ask("feedback", {showing: mine.step.showing});
  const told = screens.feedback(truth, said, mine.step.questions, () => turn(next));
  asked.element.replaceWith(told);
  mine.keys = null;
  told.querySelector("button").focus();
}

// An answer that was not taken: in another tab the reader may have gone on, or the study may have ended.
async function refused(mine, error, asked) {
  if (current !== mine) return;
  if (error.status === 403) return stop(error);
  if (error.status === 400) {
    const next = await ask("state").catch((failed) => (failed.status === 403 ? stop(failed) : null));
    if (current !== mine) return;
    if (next && moved(next)) return turn(next, OTHER_TAB);
  }
  mine.busy = false;
  asked.busy(false);
  asked.tell(error.message);
}

if (matchMedia("(prefers-color-scheme: dark)").matches) document.documentElement.classList.add("dark");
start();
