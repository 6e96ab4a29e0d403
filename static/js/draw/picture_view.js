/*
 * Shows a picture on the sheet, with the ink that was found in it and a box around it, and lets the user mark the part
 * to read, with a pointer or the keyboard. Dispatches "crop" (detail: left, top, right and bottom in fractions of the
 * picture), "mark" (the same, when keys have moved it) and "close".
 */

import { addStyleSheet, createElement } from "./elements.js";

const STEP = 0.02; // of the picture's side, for one press of a key
const LEAST = 0.02; // side of a mark; smaller ones are slips of the pointer
const WHOLE = [0, 0, 1, 1];
const MIDDLE = [0.25, 0.25, 0.75, 0.75];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HINT = "Wrong part? Drag a frame around the right one.";

const clamp = (value, from = 0, to = 1) => Math.min(to, Math.max(from, value));

/** Place an element over the part of its parent that a box names; hide it for null. */
function place(element, box) {
  element.hidden = box === null;
  if (box === null) return;
  const [left, top, right, bottom] = box.map((share) => 100 * share);
  Object.assign(element.style, {
    left: `${left}%`,
    top: `${top}%`,
    width: `${right - left}%`,
    height: `${bottom - top}%`,
  });
}

export class PictureView extends EventTarget {
  #sheet;
  #tools;
  #frame;
  #ink = createElement("div", { class: "photo-ink" });
  #box = createElement("div", { class: "photo-box" });
  #mark = createElement("div", { class: "photo-mark" });
  #note = createElement("p", { class: "photo-note" });
  #marked = null; // part that the user has marked
  #found = null; // box that was found
  #start = null; // {id, point} of the pointer that draws a mark

  /** sheet: element to show the picture in. tools: toolbar of the drawing, which this one replaces. */
  constructor(sheet, tools) {
    super();
    this.#sheet = sheet;
    this.#frame = createElement("div", {
      class: "photo",
      tabindex: 0,
      role: "application",
      "aria-label": "Picture: mark the part to read",
      "aria-description": "Arrow keys move a frame, with Shift they change its size. Enter reads what is in it.",
    });
    const where = createElement("span", {}, " to drawing"); // hidden on the narrowest phones
    const back = createElement("button", { type: "button", class: "photo-button" }, "Back", where);
    back.addEventListener("click", () => this.#dispatch("close"));
    const toggle = createElement("button", { type: "button", class: "photo-button", "aria-pressed": "true" }, "Ink");
    toggle.title = "Show the ink that was found";
    toggle.addEventListener("click", () => {
      const shown = this.#frame.classList.toggle("is-plain");
      toggle.setAttribute("aria-pressed", String(!shown));
    });
    this.#tools = createElement(
      "div",
      { class: "photo-tools", role: "toolbar", "aria-label": "Picture tools" },
      back,
      toggle,
      this.#note,
    );
    this.loaded = addStyleSheet("picture");
    tools.after(this.#tools);
    this.hide();
    this.#listen();
  }

  get frame() {
    return this.#frame;
  }

  get isShown() {
    return this.#frame.isConnected;
  }

  /** Show a picture: a canvas or an image of this size. note: a sentence about it. */
  show(picture, { width, height }, note = "") {
    const longest = Math.max(width, height);
    Object.assign(this.#frame.style, { width: `${(100 * width) / longest}%`, height: `${(100 * height) / longest}%` });
    this.#frame.replaceChildren(picture, this.#ink, this.#box, this.#mark);
    this.#note.textContent = note || HINT;
    this.#tools.hidden = false;
    this.#setMark(null);
    this.showFound(null, null);
    if (!this.isShown) this.#sheet.append(this.#frame);
  }

  /** Show the ink that was found, as the URL of a picture, and its box, or null. */
  showFound(ink, box) {
    this.#ink.style.maskImage = ink ? `url("${ink}")` : "";
    this.#ink.hidden = !ink;
    this.#found = box;
    place(this.#box, box);
  }

  hide() {
    this.#frame.remove();
    this.#tools.hidden = true;
  }

  /** Move the focus to the picture, if it was on something that is hidden now. */
  takeFocus() {
    this.#frame.focus({ preventScroll: true });
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #setMark(box) {
    this.#marked = box;
    place(this.#mark, box);
    this.#frame.classList.toggle("is-marked", box !== null);
  }

  // Pointers and keys

  #listen() {
    const frame = this.#frame;
    frame.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      this.#start = { id: event.pointerId, point: this.#pointOf(event) };
      this.#setMark(null);
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", (event) => {
      if (event.pointerId === this.#start?.id) this.#drag(this.#pointOf(event));
    });
    frame.addEventListener("pointerup", (event) => this.#release(event, true));
    frame.addEventListener("pointercancel", (event) => this.#release(event, false));
    frame.addEventListener("keydown", (event) => this.#keyDown(event));
  }

  #pointOf(event) {
    const box = this.#frame.getBoundingClientRect();
    return [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
  }

  #drag([x, y]) {
    const [startX, startY] = this.#start.point;
    this.#setMark([Math.min(x, startX), Math.min(y, startY), Math.max(x, startX), Math.max(y, startY)]);
  }

  #release(event, kept) {
    if (event.pointerId !== this.#start?.id) return;
    this.#start = null;
    if (this.#marked === null) return;
    const [left, top, right, bottom] = this.#marked;
    if (kept && right - left >= LEAST && bottom - top >= LEAST) this.#dispatch("crop", this.#marked);
    else this.#setMark(null);
  }

  #keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) {
      this.#moveMark(ARROWS[event.key], event.shiftKey);
    } else if (event.key === "Enter") {
      this.#dispatch("crop", this.#marked ?? WHOLE);
    } else if (event.key === "Escape") {
      if (this.#marked) this.#setMark(null);
      else this.#dispatch("close");
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #moveMark([right, down], resizes) {
    if (this.#marked === null) {
      this.#setMark(this.#found ?? MIDDLE);
      this.#dispatch("mark", this.#marked);
      return;
    }
    const [x0, y0, x1, y1] = this.#marked;
    const [dx, dy] = [right * STEP, down * STEP];
    if (resizes) {
      this.#setMark([x0, y0, clamp(x1 + dx, x0 + LEAST), clamp(y1 + dy, y0 + LEAST)]);
    } else {
      const [moveX, moveY] = [clamp(dx, -x0, 1 - x1), clamp(dy, -y0, 1 - y1)];
      this.#setMark([x0 + moveX, y0 + moveY, x1 + moveX, y1 + moveY]);
    }
    this.#dispatch("mark", this.#marked);
  }
}
