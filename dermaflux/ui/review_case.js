// The questions of a case: rows of choices that pointer and keyboard answer alike.
//
// Keys: a digit chooses and goes on, left and right choose, up and down change the row, Enter goes on.

import {capital, make, vocabulary} from "./review_dom.js";

const steps = (low, high) => Array.from({length: high - low + 1}, (_, place) => [String(low + place), low + place]);
const words = (list) => list.map((one) => [capital(one), one]);

// The rows of stage 1 for the questions that are on, or of stage 2 for the attributes asked about.
export function rows(step) {
  const on = step.questions;
  if (step.stage === 2) {
    const matches = step.asked.map((name) => ({
      name: `match_${name}`, label: capital(name === "tone" ? "skin tone" : name), kind: "one", needed: true,
      options: words(vocabulary.matches),
    }));
    const ends = ["not at all", "fully"];
    return [...matches, {name: "match", label: "As a whole", kind: "one", needed: true, options: steps(1, 5), ends}];
  }
  return [
    on.source && {name: "said_synthetic", label: "This picture is", kind: "one", needed: true, options: [["Real", false], ["Synthetic", true]]},
    on.source && {name: "confidence", label: "How sure?", kind: "one", needed: true, options: steps(1, 5), ends: ["a guess", "certain"]},
    on.realism && {name: "realism", label: "Looks real", kind: "one", needed: true, options: steps(1, 5), ends: ["not at all", "fully"]},
    on.diagnosis && {name: "said_diagnosis", label: "Diagnosis", kind: "list", needed: true, options: words(vocabulary.diagnoses)},
    on.diagnosis && {name: "said_label", label: "The lesion is", kind: "one", needed: true, options: words(vocabulary.labels)},
    on.attributes && {name: "seen_asymmetry", label: "Asymmetric axes", kind: "one", options: steps(0, vocabulary.asymmetry)},
    on.attributes && {name: "seen_border", label: "Cut segments", kind: "one", options: steps(0, vocabulary.border)},
    on.attributes && {name: "seen_colours", label: "Colours", kind: "many", options: vocabulary.colours.map(([name, swatch]) => [capital(name), name, swatch])},
    on.attributes && {name: "seen_structures", label: "Structures", kind: "many", options: words(vocabulary.structures)},
    on.artefacts && {name: "artefacts", label: "What looks wrong", kind: "many", options: words(vocabulary.artefacts)},
    on.artefacts && {name: "comment", label: "Comment", kind: "text"},
    on.artefacts && {name: "left_out", label: "", kind: "many", foot: true, options: [["Leave this picture out of synthesis", true]]},
  ].filter(Boolean);
}

// The form for these rows; `changed` is called after each change, `done` when it is complete and sent.
export function form(list, sendLabel, changed, done, picture) {
  const built = list.map(row);
  const message = make("p", {className: "message", role: "alert"});
  const send = make("button", {type: "submit", className: "primary", textContent: sendLabel});
  const elements = (foot) => built.filter((one) => Boolean(one.foot) === foot).map((one) => one.element);
  const stops = [...built, {focus: () => send.focus(), element: send}];
  const element = make("form", {
    className: "questions", noValidate: true,
    onsubmit: (event) => { event.preventDefault(); submit(); },
    oninput: () => { tell(""); changed(); },
    onkeydown: key,
    onfocusin: (event) => { here = Math.max(0, stops.findIndex((one) => one.element.contains(event.target))); },
  }, make("div", {className: "rows"}, ...elements(false)), make("div", {className: "send"}, ...elements(true), message, send));
  let here = 0;

  const tell = (sentence) => { message.textContent = sentence; };
  function go(to) {
    here = Math.min(stops.length - 1, Math.max(0, to));
    stops[here].focus();
  }
  function submit() {
    const open = built.findIndex((one) => one.needed && one.value() === undefined);
    if (open < 0) return done(values());
    tell(`“${built[open].label}” is not answered yet.`);
    go(open);
  }
  function key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const row = built[here], typing = row?.kind === "text", at = event.key;
    if (at === "Enter" && row) go(here + 1);
    else if (at === "ArrowUp") go(here - 1);
    else if (at === "ArrowDown") go(here + 1);
    else if (typing || !row) return;
    else if (at === "ArrowLeft") row.move(-1);
    else if (at === "ArrowRight") row.move(1);
    else if (/^[0-9]$/.test(at)) { if (row.digit(Number(at))) { moved(); if (row.kind !== "many") go(here + 1); } }
    else if (at === "Backspace" || at === "Delete") { row.clear(); moved(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  const moved = () => { tell(""); changed(); };
  const values = () => Object.fromEntries(built.map((one) => [one.name, one.value()]).filter(([, value]) => value !== undefined));

  function row(spec, number) {
    const id = `row-${number}`, label = make("span", {className: "label", id, textContent: spec.label});
    if (spec.kind === "text") {
      const field = make("input", {type: "text", maxLength: vocabulary.maxComment, "aria-labelledby": id, autocomplete: "off"});
      return {...spec, element: make("div", {className: "row"}, label, field), focus: () => field.focus(),
        value: () => field.value || undefined, set: (value) => { field.value = value; }};
    }
    if (spec.kind === "list") return {...spec, ...menu(spec, id, label)};
    return {...spec, ...choices(spec, id, label)};
  }
  function menu(spec, id, label) {
    const field = make("select", {"aria-labelledby": id}, make("option", {value: "", textContent: "Choose"}),
      ...spec.options.map(([text], place) => make("option", {value: String(place), textContent: `${(place + 1) % 10}  ${text}`})));
    const choose = (place) => { field.selectedIndex = Math.min(spec.options.length, Math.max(1, place)); };
    return {
      element: make("div", {className: "row"}, label, field), focus: () => field.focus(),
      value: () => (field.value === "" ? undefined : spec.options[Number(field.value)][1]),
      set: (value) => { field.selectedIndex = 1 + spec.options.findIndex((one) => one[1] === value); },
      move: (by) => { choose(field.selectedIndex + by); moved(); },
      digit: (digit) => { choose(digit || 10); return true; },
      clear: () => { field.selectedIndex = 0; },
    };
  }
  function choices(spec, id, label) {
    const single = spec.kind === "one", numbered = /^\d$/.test(spec.options[0][0]);
    const fields = spec.options.map(([,], place) => make("input", {type: single ? "radio" : "checkbox", name: spec.name, value: String(place)}));
    const pills = spec.options.map(([text, , swatch], place) => {
      const shown = [fields[place]];
      if (!numbered && spec.options.length > 1) shown.push(make("kbd", {textContent: String(place + 1), "aria-hidden": "true"}));
      if (swatch) {
        const dot = make("i", {className: "swatch", "aria-hidden": "true"});
        dot.style.backgroundColor = swatch;
        shown.push(dot);
      }
      return make("label", {className: "pill"}, ...shown, make("span", {textContent: text}));
    });
    const [low, high] = spec.ends || [];
    const end = (text) => (text ? [make("span", {className: "end", textContent: text})] : []);
    const at = () => fields.findIndex((one) => one === document.activeElement);
    const focus = () => (fields.find((one) => one.checked && single) || fields[Math.max(0, at())]).focus();
    return {
      element: make("div", {className: "row", role: single ? "radiogroup" : "group", "aria-labelledby": id}, ...(spec.label ? [label] : []),
        make("div", {className: "pills"}, ...end(low), ...pills, ...end(high))),
      focus,
      value() {
        const found = spec.options.filter((_, place) => fields[place].checked).map((one) => one[1]);
        return single ? found[0] : found.length ? found : undefined;
      },
      set: (value) => fields.forEach((one, place) => { one.checked = single ? spec.options[place][1] === value : value.includes(spec.options[place][1]); }),
      move(by) {
        const none = single && !fields.some((one) => one.checked);
        const next = fields[Math.min(fields.length - 1, Math.max(0, none ? (by > 0 ? 0 : fields.length - 1) : at() + by))];
        if (single) { next.checked = true; moved(); }
        next.focus();
      },
      digit(digit) {
        const place = numbered ? spec.options.findIndex((one) => one[1] === digit) : digit - 1;
        if (!fields[place]) return false;
        fields[place].checked = single || !fields[place].checked;
        fields[place].focus();
        return true;
      },
      clear: () => fields.forEach((one) => { one.checked = false; }),
    };
  }

  return {
    element, tell, values, go,
    key, first: () => go(0), back: () => go(here),
    busy: (on) => { send.disabled = on; },
    restore: (kept) => built.forEach((one) => { if (one.name in kept) one.set(kept[one.name]); }),
  };
}
