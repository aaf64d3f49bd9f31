// The screens around the cases: consent, feedback, pause, end, and what cannot be shown.

import {capital, make, vocabulary} from "./review_dom.js";

const text = (words, className = "") => make("p", {className, textContent: words});
const heading = (words) => make("h2", {textContent: words, tabIndex: -1});
const points = (list) => make("ul", {}, ...list.map((one) => make("li", {textContent: one})));
const button = (words, onclick, className = "primary") => make("button", {type: "button", className, textContent: words, onclick});

export const card = (...children) => make("section", {className: "card"}, ...children);
export const message = (title, sentence, again) => card(heading(title), text(sentence), ...(again ? [button("Try again", again)] : []));

export function consent(study, reader, agree) {
  const option = (value, words) => make("option", {value, textContent: words});
  const role = make("select", {id: "role"}, option("", "Choose"), ...vocabulary.roles.map((one) => option(one, capital(one))));
  const years = make("input", {id: "years", type: "number", min: 0, max: vocabulary.maxYears, step: "any", inputMode: "decimal"});
  const trained = (value, words) => {
    const field = make("input", {type: "radio", name: "trained", value});
    return [field, make("label", {className: "pill"}, field, make("span", {textContent: words}))];
  };
  const [[yes, yesPill], [no, noPill]] = [trained("yes", "Yes"), trained("no", "No")];
  const agreed = make("input", {type: "checkbox", id: "consent"});
  const told = make("p", {className: "message", role: "alert"});
  const start = make("button", {type: "submit", className: "primary", textContent: "Start"});
  const open = () =>
    !role.value ? [role, "Choose your role."] :
    years.value === "" || !(years.valueAsNumber >= 0 && years.valueAsNumber <= vocabulary.maxYears) ?
      [years, `Give your years of experience, from 0 to ${vocabulary.maxYears}.`] :
    !yes.checked && !no.checked ? [yes, "Say whether you were trained in dermoscopy."] :
    !agreed.checked ? [agreed, "The study can begin once you agree to take part."] : null;
  const row = (id, label, field) => make("div", {className: "row"}, make("label", {className: "label", htmlFor: id, textContent: label}), field);
  return card(
    heading(study),
    text("A reader study of skin images", "quiet"),
    text("Thank you for taking part. You will look at pictures of skin lesions one by one and answer a few questions about each. This is research: nothing here is a diagnosis, and nothing you answer reaches a patient."),
    points([
      `Stored are your answers, the time you spend on each picture, and what you say of yourself below, under the pseudonym ${reader}. Your name is not.`,
      "Each answer is stored and locked as you give it; you cannot go back. Some pictures come twice.",
      "You can close the page at any time. The same link goes on where you stopped, on any device.",
      "You can withdraw by the page's button until the study closes, and through who invited you afterwards; all that you answered is deleted then.",
      "The first cases are for practice and do not count. Where there is a right answer, you are told it afterwards.",
    ]),
    make("form", {
      className: "about", noValidate: true,
      async onsubmit(event) {
        event.preventDefault();
        const missing = open();
        told.textContent = missing ? missing[1] : "";
        if (missing) return missing[0].focus();
        start.disabled = true;
        const values = {consent: true, role: role.value, years: years.valueAsNumber, trained: yes.checked};
        told.textContent = (await agree(values)) || "";
        start.disabled = false;
      },
    },
    row("role", "Your role", role), row("years", "Years of experience", years),
    make("div", {className: "row", role: "radiogroup", "aria-labelledby": "trained"},
      make("span", {className: "label", id: "trained", textContent: "Trained in dermoscopy"}), make("div", {className: "pills"}, yesPill, noPill)),
    make("label", {className: "agree"}, agreed, make("span", {textContent: "I have read this and agree to take part."})),
    make("div", {className: "send"}, told, start)));
}

// What a practice case was, beside what was said of it.
export function feedback(truth, said, on, next) {
  const row = (what, yours, was) => make("tr", {}, make("th", {scope: "row", textContent: what}),
    make("td", {textContent: yours}), make("td", {textContent: was, className: yours === was ? "same" : ""}));
  const source = said.said_synthetic === undefined ? "" : said.said_synthetic ? "synthetic" : "real";
  const lines = [
    on.source && row("Source", source, truth.source),
    on.diagnosis && truth.label && row("Lesion", said.said_label, truth.label),
    on.diagnosis && truth.diagnosis && row("Diagnosis", said.said_diagnosis, truth.diagnosis),
  ].filter(Boolean);
  const head = make("tr", {}, ...["", "You said", "It was"].map((one) => make("th", {scope: "col", textContent: one})));
  const known = truth.source === "synthetic" ? "What it was is what the model was asked to draw." : "";
  return make("section", {className: "questions feedback"},
    heading("Practice"),
    lines.length ? make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines)) : text("Your answer is stored."),
    text(`${known} Practice cases do not count, and later cases have no such feedback.`.trim(), "quiet"),
    make("div", {className: "send"}, button("Next case", next)));
}

export function pause(goOn, withdraw) {
  return card(heading("Paused"), text("Everything you answered is stored. Close the page if you like: the same link goes on where you stopped, on this device or another."),
    make("div", {className: "send"}, button("Go on", goOn)), leave(withdraw));
}

export function end(withdraw) {
  return card(heading("Thank you"), text("You have answered every case, and all answers are stored. You can close this page."), leave(withdraw));
}

export const gone = () => card(heading("You have withdrawn"), text("All that you answered and said of yourself is deleted. Thank you for your time."));

function leave(withdraw) {
  const told = make("p", {className: "message", role: "alert"});
  const sure = make("div", {hidden: true},
    text("All that you answered and said of yourself will be deleted. This cannot be undone, and the link will no longer work."),
    button("Delete my answers", async () => { told.textContent = (await withdraw()) || ""; }, "danger"), told);
  return make("div", {className: "leave"}, button("Withdraw from the study", () => { sure.hidden = !sure.hidden; }, "quiet"), sure);
}
