// Elements, whose texts are always text and never markup, and what the page was given.

export const vocabulary = JSON.parse(document.getElementById("vocabulary").textContent);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const capital = (text) => text[0].toUpperCase() + text.slice(1);

export function show(...children) {
  document.getElementById("main").replaceChildren(...children);
  window.scrollTo(0, 0);
}

let fading = 0;
export function say(sentence) {
  const toast = document.getElementById("toast");
  toast.textContent = sentence;
  toast.hidden = !sentence;
  clearTimeout(fading);
  if (sentence) fading = setTimeout(() => say(""), 8000);
}

const token = new URLSearchParams(location.search).get("reader") || "";

// The answer of the server to a verb. Throws an error with its sentence, and with status 0 where it cannot be reached.
export async function ask(verb, given = {}, more = {}) {
  const headers = {"Content-Type": "application/json", "X-Reader": encodeURIComponent(token)};
  let response;
  try {
    response = await fetch(`review/${verb}`, {method: "POST", headers, body: JSON.stringify(given), ...more});
  } catch {
    throw Object.assign(new Error("The server cannot be reached. Nothing is lost; try again in a moment."), {status: 0});
  }
  if (response.ok) return verb === "picture" ? response.blob() : response.json();
  const told = await response.json().catch(() => ({}));
  throw Object.assign(new Error(told.error || "The server cannot answer just now; try again."), {status: response.status});
}
