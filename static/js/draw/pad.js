/*
 * The drawing pad: turns pointer and keyboard events into strokes, and draws them. Dispatches "change" (detail.grown:
 * ink was only added; detail.ended: a stroke has ended) and "pen" (detail.down: whether the keyboard's pen is down;
 * detail.x, detail.y: its place, 0 to 1; detail.moved: only the place has changed).
 */

import { paintInk } from "./ink.js";
import { BRUSH, Drawing, SHEET } from "./strokes.js";

const STEP = 4;
const BIG_STEP = 20;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const MAX_DENSITY = 3; // pixels per CSS pixel; more cost memory without a visible gain
// CSS pixels across: 16 mm on phones, 19 mm on tablets. The contact of a fingertip has 8 to 14 mm, a palm's edge more
// than 25 mm.
const PALM = 100;
const JUST_BEGUN = 500; // ms; a stroke that is older was meant, whatever touches the sheet afterwards

const isPalm = ({ width, height }) => Math.max(width, height) > PALM;

const clamp = (value) => Math.min(SHEET, Math.max(0, value));

export class Pad extends EventTarget {
  #canvas;
  #context;
  #layer; // offscreen bitmap of the finished strokes, so that each frame redraws only the open one
  #layerStrokes = null;
  #drawing = new Drawing();
  #brush = BRUSH.usual;
  #pointer = null; // {id, type, since} of the drawing pointer
  #fingers = new Set(); // ids of the touches on the sheet, without palms
  #isPinch = false; // there were two fingers: nothing is drawn until all of them are lifted
  #cursor = { x: SHEET / 2, y: SHEET / 4, visible: false, down: false };
  #frame = null;

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#layer = document.createElement("canvas").getContext("2d");
    this.#listenToPointers();
    this.#listenToKeys();
    new ResizeObserver(() => this.#fit()).observe(canvas);
    window.addEventListener("resize", () => this.#fit()); // fires also if only the pixel density changes
    this.#fit();
  }

  get brush() {
    return this.#brush;
  }

  set brush(width) {
    this.#brush = Math.min(BRUSH.widest, Math.max(BRUSH.thinnest, width));
    this.redraw();
  }

  get isBlank() {
    return this.#drawing.isBlank;
  }

  get canUndo() {
    return this.#drawing.canUndo;
  }

  get canRedo() {
    return this.#drawing.canRedo;
  }

  /** Return the current strokes; later drawing does not change them. */
  strokes() {
    return this.#drawing.snapshot();
  }

  /** Replace the drawing, which has no history then. */
  restore(strokes) {
    this.#rewrite(() => (this.#drawing = new Drawing(strokes)));
  }

  undo() {
    if (this.canUndo) this.#rewrite(() => this.#drawing.undo());
  }

  redo() {
    if (this.canRedo) this.#rewrite(() => this.#drawing.redo());
  }

  clear() {
    if (!this.isBlank) this.#rewrite(() => this.#drawing.clear());
  }

  /** Redraw everything, with the colours of the current theme. */
  redraw() {
    this.#layerStrokes = null;
    this.#requestFrame();
  }

  /** Change the history. End the open stroke first; its pointer draws again only after its next pointerdown. */
  #rewrite(change) {
    this.#liftPen();
    this.#pointer = null;
    change();
    this.#changed(false);
  }

  #changed(grown, ended = false) {
    this.#requestFrame();
    this.dispatchEvent(new CustomEvent("change", { detail: { grown, ended } }));
  }

  // Pointers

  #listenToPointers() {
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => this.#pointerDown(event));
    canvas.addEventListener("pointermove", (event) => this.#pointerMove(event));
    canvas.addEventListener("pointerup", (event) => this.#pointerUp(event));
    canvas.addEventListener("pointercancel", (event) => this.#pointerUp(event, false));
    canvas.addEventListener("lostpointercapture", (event) => this.#pointerUp(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    // Leave pinches to the browser (touch-action), but not the one that it sees in a pen or a finger beside a palm.
    for (const type of ["touchstart", "touchmove"]) {
      canvas.addEventListener(type, (event) => this.#isBesidePalm(event) && event.preventDefault(), { passive: false });
    }
    // Safari on iOS shows its loupe and selects text after a double tap despite touch-action.
    canvas.addEventListener("touchend", (event) => event.cancelable && event.preventDefault(), { passive: false });
  }

  #isBesidePalm(event) {
    if (!event.cancelable) return false;
    const touches = [...event.touches].map(({ radiusX, radiusY }) => ({ width: 2 * radiusX, height: 2 * radiusY }));
    return this.#pointer?.type === "pen" || touches.some(isPalm);
  }

  #pointerDown(event) {
    if (event.pointerType === "touch") this.#fingerDown(event);
    if (event.button !== 0 || !this.#accepts(event)) return;
    this.#liftPen();
    this.#cursor.visible = false;
    this.#pointer = { id: event.pointerId, type: event.pointerType, since: event.timeStamp };
    this.#canvas.setPointerCapture(event.pointerId);
    this.#drawing.begin(this.#pointOf(event, this.#canvas.getBoundingClientRect()), this.#brush);
    this.#changed(true);
  }

  /** Note a touch. Two fingers never draw: discard what the first has just begun. */
  #fingerDown(event) {
    if (event.isPrimary) {
      this.#fingers.clear(); // no other touch is left
      this.#isPinch = false;
    }
    if (isPalm(event)) return;
    this.#fingers.add(event.pointerId);
    if (this.#fingers.size < 2) return;
    this.#isPinch = true;
    if (this.#pointer?.type === "touch") this.#release(!this.#hasJustBegun(event));
  }

  /** Return whether the pointer may draw: one at a time, but a pen replaces a touch, which may be the palm. */
  #accepts(event) {
    if (event.pointerType === "touch" && (this.#isPinch || isPalm(event))) return false;
    if (this.#pointer === null) return true;
    if (event.pointerType !== "pen" || this.#pointer.type !== "touch") return false;
    this.#release(false);
    return true;
  }

  #hasJustBegun(event) {
    return event.timeStamp - this.#pointer.since < JUST_BEGUN;
  }

  #pointerMove(event) {
    if (event.pointerId !== this.#pointer?.id) return;
    if (event.pointerType === "touch" && isPalm(event) && this.#hasJustBegun(event)) {
      this.#fingers.delete(event.pointerId); // a palm touches with its edge first
      this.#release(false);
      return;
    }
    const box = this.#canvas.getBoundingClientRect();
    const coalesced = event.getCoalescedEvents?.() ?? [];
    let grew = false;
    for (const each of coalesced.length > 0 ? coalesced : [event]) {
      grew = this.#drawing.extend(this.#pointOf(each, box)) || grew;
    }
    if (grew) this.#changed(true);
  }

  /** End the pointer's stroke; discard it on pointercancel, when the system has taken over the pointer. */
  #pointerUp(event, kept = true) {
    this.#fingers.delete(event.pointerId);
    if (this.#fingers.size === 0) this.#isPinch = false;
    if (event.pointerId === this.#pointer?.id) this.#release(kept);
  }

  #release(kept) {
    this.#pointer = null;
    if (kept) this.#drawing.end();
    else this.#drawing.cancel();
    this.#changed(kept, kept);
  }

  #pointOf(event, box) {
    return {
      x: ((event.clientX - box.left) / box.width) * SHEET,
      y: ((event.clientY - box.top) / box.height) * SHEET,
      // Use the pressure of pens only: a mouse reports 0.5, a finger any value.
      pressure: event.pointerType === "pen" && event.pressure > 0 ? event.pressure : 0.5,
    };
  }

  // Keyboard

  #listenToKeys() {
    const canvas = this.#canvas;
    canvas.addEventListener("keydown", (event) => this.#keyDown(event));
    canvas.addEventListener("focus", () => {
      const byKeyboard = canvas.matches(":focus-visible");
      this.#showCursor(byKeyboard);
      if (byKeyboard) this.#dispatchPen(true);
    });
    canvas.addEventListener("blur", () => {
      this.#liftPen();
      this.#showCursor(false);
    });
  }

  #keyDown(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.#pointer !== null) return;
    if (event.key in ARROWS) {
      this.#moveCursor(ARROWS[event.key], event.shiftKey ? BIG_STEP : STEP);
    } else if (event.key === " ") {
      if (!event.repeat) this.#togglePen();
    } else {
      return;
    }
    event.preventDefault();
    this.#showCursor(true);
  }

  #moveCursor([right, down], step) {
    const cursor = this.#cursor;
    cursor.x = clamp(cursor.x + right * step);
    cursor.y = clamp(cursor.y + down * step);
    if (cursor.down && this.#drawing.extend(cursor)) this.#changed(true);
    this.#dispatchPen(true);
  }

  #togglePen() {
    const cursor = this.#cursor;
    if (cursor.down) {
      this.#liftPen();
      return;
    }
    cursor.down = true;
    this.#drawing.begin(cursor, this.#brush);
    this.#changed(true);
    this.#dispatchPen();
  }

  #liftPen() {
    if (!this.#cursor.down) return;
    this.#cursor.down = false;
    this.#drawing.end();
    this.#changed(true, true);
    this.#dispatchPen();
  }

  #dispatchPen(moved = false) {
    const { down, x, y } = this.#cursor;
    this.dispatchEvent(new CustomEvent("pen", { detail: { down, x: x / SHEET, y: y / SHEET, moved } }));
  }

  #showCursor(visible) {
    this.#cursor.visible = visible;
    this.#requestFrame();
  }

  // Pixels

  #fit() {
    const density = Math.min(MAX_DENSITY, window.devicePixelRatio || 1);
    const side = Math.round(this.#canvas.clientWidth * density);
    if (side === 0 || side === this.#canvas.width) return;
    for (const bitmap of [this.#canvas, this.#layer.canvas]) {
      bitmap.width = side;
      bitmap.height = side;
    }
    this.#layerStrokes = null;
    this.#paint(); // without waiting for a frame: a resized bitmap is empty and would flicker
  }

  #requestFrame() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#paint();
    });
  }

  #paint() {
    const style = getComputedStyle(this.#canvas);
    this.#paintLayer(style.color);
    const { width } = this.#canvas;
    this.#context.setTransform(1, 0, 0, 1, 0, 0);
    this.#context.clearRect(0, 0, width, width);
    this.#context.drawImage(this.#layer.canvas, 0, 0);
    this.#context.scale(width / SHEET, width / SHEET);
    const { open } = this.#drawing;
    if (open) paintInk(this.#context, [open], style.color);
    if (this.#cursor.visible) this.#paintCursor(style.outlineColor);
  }

  #paintLayer(colour) {
    if (this.#layerStrokes === this.#drawing.finished) return;
    this.#layerStrokes = this.#drawing.finished;
    const { width } = this.#layer.canvas;
    this.#layer.setTransform(1, 0, 0, 1, 0, 0);
    this.#layer.clearRect(0, 0, width, width);
    this.#layer.scale(width / SHEET, width / SHEET);
    paintInk(this.#layer, this.#layerStrokes, colour);
  }

  #paintCursor(colour) {
    const context = this.#context;
    const { x, y, down } = this.#cursor;
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x, y, this.#brush / 2 + 3, 0, 2 * Math.PI);
    context.stroke();
    context.beginPath();
    context.arc(x, y, down ? this.#brush / 3 : 1.5, 0, 2 * Math.PI);
    context.fill();
  }
}
