// The picture of a case: zoom, pan, and places marked on it, by pointer, touch or keyboard.

import {make, vocabulary} from "./review_dom.js";

const MOST = 8, STEP = 1.4, SMALLEST = 0.01;
const SVG = "http://www.w3.org/2000/svg";

export function viewer(alt, marking, changed) {
  let scale = 1, x = 0, y = 0, boxes = [], pen = false, drawn = null, address = "";
  const pointers = new Map();
  const image = make("img", {alt, draggable: false});
  const marks = document.createElementNS(SVG, "svg");
  marks.setAttribute("viewBox", "0 0 1 1");
  marks.setAttribute("aria-hidden", "true");
  const layer = make("div", {className: "layer"}, image, marks);
  const frame = make("div", {
    className: "frame", tabIndex: 0, role: "group",
    "aria-label": "Picture. Arrows move it, plus and minus zoom" + (marking ? ", M marks its middle." : "."),
  }, layer);
  const button = (text, label, onclick) => make("button", {type: "button", className: "tool", title: label, "aria-label": label, onclick}, text);
  const mark = button("Mark a place", "Mark a place: draw a box or click a point", () => hold(!pen));
  const undo = button("Undo mark", "Remove the last mark", () => set(boxes.slice(0, -1)));
  const tools = make("div", {className: "tools"},
    button("−", "Zoom out", () => zoom(1 / STEP)), button("+", "Zoom in", () => zoom(STEP)),
    button("Fit", "Show the whole picture", () => zoom(0)), ...(marking ? [mark, undo] : []));
  const side = () => frame.clientWidth;

  function place() {
    const least = side() * (1 - scale);
    x = Math.min(0, Math.max(least, x));
    y = Math.min(0, Math.max(least, y));
    layer.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    frame.style.touchAction = scale > 1 || pen ? "none" : "pan-y";
    frame.classList.toggle("near", scale > 1);
  }
  // Zoom by a factor about a point of the frame, by default its middle; 0 fits the picture in.
  function zoom(by, at = [side() / 2, side() / 2]) {
    const next = Math.min(MOST, Math.max(1, scale * by));
    x = at[0] - (at[0] - x) * next / scale;
    y = at[1] - (at[1] - y) * next / scale;
    scale = next;
    place();
  }
  function hold(on) {
    pen = on;
    mark.setAttribute("aria-pressed", pen);
    frame.classList.toggle("pen", pen);
    place();
  }
  function paint() {
    marks.replaceChildren(...[...boxes, ...(drawn ? [drawn] : [])].map(([x0, y0, x1, y1]) => {
      const point = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0)) < SMALLEST;
      const shape = document.createElementNS(SVG, point ? "circle" : "rect");
      const numbers = point ? {cx: x0, cy: y0, r: 0.015} :
        {x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0)};
      for (const [name, value] of Object.entries(numbers)) shape.setAttribute(name, value);
      return shape;
    }));
    undo.disabled = !boxes.length;
  }
  function set(next) {
    boxes = next.slice(0, vocabulary.maxMarks);
    paint();
    changed();
  }
  function add([x0, y0, x1, y1]) {
    const point = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0)) < SMALLEST;
    set([...boxes, point ? [x0, y0, x0, y0] : [x0, y0, x1, y1]]);
  }
  const inside = (event) => {
    const box = frame.getBoundingClientRect();
    return [event.clientX - box.left - frame.clientLeft, event.clientY - box.top - frame.clientTop];
  };
  const share = ([left, top]) => [(left - x) / scale / side(), (top - y) / scale / side()].map((one) => Math.min(1, Math.max(0, one)));

  frame.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    frame.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, inside(event));
    drawn = pen && pointers.size === 1 ? [...share(inside(event)), ...share(inside(event))] : null;
  });
  frame.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId), now = inside(event);
    if (!before) return;
    if (drawn) {
      drawn = [drawn[0], drawn[1], ...share(now)];
      paint();
    } else if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
      zoom(apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    } else if (scale > 1) {
      x += now[0] - before[0];
      y += now[1] - before[1];
      place();
    }
    pointers.set(event.pointerId, now);
  });
  const lift = (event) => {
    pointers.delete(event.pointerId);
    if (drawn && event.type === "pointerup") {
      const box = drawn;
      drawn = null;
      add(box);
    }
    drawn = null;
  };
  frame.addEventListener("pointerup", lift);
  frame.addEventListener("pointercancel", lift);
  frame.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), inside(event));
  }, {passive: false});
  frame.addEventListener("contextmenu", (event) => event.preventDefault());
  frame.addEventListener("keydown", (event) => {
    const by = side() / 8, moves = {ArrowLeft: [by, 0], ArrowRight: [-by, 0], ArrowUp: [0, by], ArrowDown: [0, -by]};
    const middle = share([side() / 2, side() / 2]);
    if (moves[event.key]) {
      x += moves[event.key][0];
      y += moves[event.key][1];
      place();
    } else if (marking && event.key.toLowerCase() === "m") add([...middle, ...middle]);
    else if (marking && event.key === "Backspace") set(boxes.slice(0, -1));
    else if (event.key === "0") zoom(0);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  new ResizeObserver(place).observe(frame);
  paint();

  return {
    element: make("div", {className: "picture"}, frame, tools),
    frame, zoom, STEP,
    marks: () => boxes,
    restore: (kept) => set(kept),
    async load(blob) {
      address = URL.createObjectURL(blob);
      image.src = address;
      await image.decode();
      URL.revokeObjectURL(address);
      frame.classList.add("loaded");
    },
  };
}
