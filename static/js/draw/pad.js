/*
 * The sheet one draws on: pointer and keyboard events into strokes, strokes into pixels. It never asks the server;
 * it says "change" (detail.grown: ink was only added, detail.ended: a stroke is finished) and "pen" (detail.down: the
 * keyboard's pen went down or up).
 */

import { paintInk } from "./ink.js";
import { BRUSH, Drawing, SHEET } from "./strokes.js";

const STEP = 4;
const BIG_STEP = 20;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SHARPEST = 3; // more pixels per CSS pixel cost memory and show nothing

const within = (value) => Math.min(SHEET, Math.max(0, value));

export class Pad extends EventTarget {
  #canvas;
  #context;
  #settled; // the finished strokes' pixels, so that a moving pen redraws only its own stroke
  #settledStrokes = null;
  #drawing = new Drawing();
  #brush = BRUSH.usual;
  #pointer = null; // {id, type} of the pointer that draws
  #cursor = { x: SHEET / 2, y: SHEET / 4, visible: false, down: false };
  #frame = null;

  constructor(canvas) {
    super();
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#settled = document.createElement("canvas").getContext("2d");
    this.#listenToPointers();
    this.#listenToKeys();
    new ResizeObserver(() => this.#fit()).observe(canvas);
    window.addEventListener("resize", () => this.#fit()); // also when only the screen's density has changed
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

  /** The strokes as they are now; never changed by later drawing. */
  strokes() {
    return this.#drawing.snapshot();
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

  /** Draws again with the colours of now, for a change of theme. */
  redraw() {
    this.#settledStrokes = null;
    this.#requestFrame();
  }

  /** A change of history; a stroke under way ends first, and the pointer that drew it must come down anew. */
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
    // Safari on iOS shows its loupe and selects text in spite of touch-action; only this stops it.
    canvas.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
  }

  #pointerDown(event) {
    if (event.button !== 0 || !this.#accepts(event)) return;
    this.#liftPen();
    this.#cursor.visible = false;
    this.#pointer = { id: event.pointerId, type: event.pointerType };
    this.#canvas.setPointerCapture(event.pointerId);
    this.#drawing.begin(this.#pointOf(event, this.#canvas.getBoundingClientRect()), this.#brush);
    this.#changed(true);
  }

  /** One pointer draws at a time; but a pen beats the palm that came down before it. */
  #accepts(event) {
    if (this.#pointer === null) return true;
    if (event.pointerType !== "pen" || this.#pointer.type !== "touch") return false;
    this.#pointer = null;
    this.#drawing.abandon();
    this.#changed(false);
    return true;
  }

  #pointerMove(event) {
    if (event.pointerId !== this.#pointer?.id) return;
    const box = this.#canvas.getBoundingClientRect();
    const coalesced = event.getCoalescedEvents?.() ?? [];
    let grew = false;
    for (const moment of coalesced.length > 0 ? coalesced : [event]) {
      grew = this.#drawing.extend(this.#pointOf(moment, box)) || grew;
    }
    if (grew) this.#changed(true);
  }

  /** The stroke ends, or, where the system took the pointer away, has never been. */
  #pointerUp(event, kept = true) {
    if (event.pointerId !== this.#pointer?.id) return;
    this.#pointer = null;
    if (kept) this.#drawing.end();
    else this.#drawing.abandon();
    this.#changed(kept, kept);
  }

  #pointOf(event, box) {
    return {
      x: ((event.clientX - box.left) / box.width) * SHEET,
      y: ((event.clientY - box.top) / box.height) * SHEET,
      // A mouse says 0.5 and a finger 0, 1 or anything: only a pen's pressure is the writer's.
      pressure: event.pointerType === "pen" && event.pressure > 0 ? event.pressure : 0.5,
    };
  }

  // Keyboard

  #listenToKeys() {
    const canvas = this.#canvas;
    canvas.addEventListener("keydown", (event) => this.#keyDown(event));
    canvas.addEventListener("focus", () => this.#showCursor(canvas.matches(":focus-visible")));
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
    cursor.x = within(cursor.x + right * step);
    cursor.y = within(cursor.y + down * step);
    if (cursor.down && this.#drawing.extend(cursor)) this.#changed(true);
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
    this.#sayPen();
  }

  #liftPen() {
    if (!this.#cursor.down) return;
    this.#cursor.down = false;
    this.#drawing.end();
    this.#changed(true, true);
    this.#sayPen();
  }

  #sayPen() {
    this.dispatchEvent(new CustomEvent("pen", { detail: { down: this.#cursor.down } }));
  }

  #showCursor(visible) {
    this.#cursor.visible = visible;
    this.#requestFrame();
  }

  // Pixels

  #fit() {
    const density = Math.min(SHARPEST, window.devicePixelRatio || 1);
    const side = Math.round(this.#canvas.clientWidth * density);
    if (side === 0 || side === this.#canvas.width) return;
    for (const bitmap of [this.#canvas, this.#settled.canvas]) {
      bitmap.width = side;
      bitmap.height = side;
    }
    this.#settledStrokes = null;
    this.#paint(); // at once: a resized bitmap is empty, and the next frame would show it so
  }

  #requestFrame() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#paint();
    });
  }

  #paint() {
    const style = getComputedStyle(this.#canvas);
    this.#paintSettled(style.color);
    const { width } = this.#canvas;
    this.#context.setTransform(1, 0, 0, 1, 0, 0);
    this.#context.clearRect(0, 0, width, width);
    this.#context.drawImage(this.#settled.canvas, 0, 0);
    this.#context.scale(width / SHEET, width / SHEET);
    const { live } = this.#drawing;
    if (live) paintInk(this.#context, [live], style.color);
    if (this.#cursor.visible) this.#paintCursor(style.outlineColor);
  }

  #paintSettled(colour) {
    if (this.#settledStrokes === this.#drawing.finished) return;
    this.#settledStrokes = this.#drawing.finished;
    const { width } = this.#settled.canvas;
    this.#settled.setTransform(1, 0, 0, 1, 0, 0);
    this.#settled.clearRect(0, 0, width, width);
    this.#settled.scale(width / SHEET, width / SHEET);
    paintInk(this.#settled, this.#settledStrokes, colour);
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
