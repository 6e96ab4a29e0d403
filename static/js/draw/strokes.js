/*
 * What has been drawn, as data: strokes, and the history that undo and redo walk.
 * Pure: knows no page, no pixels, no clock.
 *
 * A point is {x, y, pressure}: x and y in sheet units (0..SHEET), pressure 0..1 (0.5 where the device has none).
 * A stroke is {width, points}: width is the brush's, in sheet units.
 */

export const SHEET = 280;
export const BRUSH = Object.freeze({ thinnest: 6, usual: 18, widest: 36 });

// Points nearer than this to the one before carry no shape, only work: a 1 kHz mouse sends thousands of them.
const NEAREST = 0.7;

const NOTHING = Object.freeze([]);

function frozenPoint({ x, y, pressure = 0.5 }) {
  return Object.freeze({ x, y, pressure });
}

function frozenStroke(width, points) {
  return Object.freeze({ width, points: Object.freeze([...points]) });
}

/**
 * A drawing that grows stroke by stroke. Every change of the finished strokes (a stroke, a clear) is one step of the
 * history; the stroke under the pen is not part of the history until it ends.
 */
export class Drawing {
  #past = [];
  #strokes = NOTHING;
  #future = [];
  #live = null;

  /** The finished strokes: frozen, and the same array until they change. */
  get finished() {
    return this.#strokes;
  }

  /** The stroke under the pen, frozen, or null. */
  get live() {
    return this.#live && frozenStroke(this.#live.width, this.#live.points);
  }

  get isBlank() {
    return this.#strokes.length === 0 && this.#live === null;
  }

  get canUndo() {
    return this.#past.length > 0 || this.#live !== null;
  }

  get canRedo() {
    return this.#future.length > 0 && this.#live === null;
  }

  /** All strokes including the one under the pen, frozen: later drawing never changes a snapshot. */
  snapshot() {
    return this.#live ? Object.freeze([...this.#strokes, this.live]) : this.#strokes;
  }

  /** Puts the pen down. A stroke that is still open is finished first. */
  begin(point, width) {
    this.end();
    this.#live = { width, points: [frozenPoint(point)] };
  }

  /** Moves the pen. Returns whether the drawing changed; without an open stroke nothing does. */
  extend(point) {
    if (this.#live === null) return false;
    const { points } = this.#live;
    const last = points[points.length - 1];
    if (Math.hypot(point.x - last.x, point.y - last.y) < NEAREST) return false;
    points.push(frozenPoint(point));
    return true;
  }

  /** Lifts the pen: the open stroke becomes a step of the history. */
  end() {
    if (this.#live === null) return;
    const stroke = this.live;
    this.#live = null;
    this.#step([...this.#strokes, stroke]);
  }

  /** Forgets the open stroke, as if the pen had never touched the sheet. */
  abandon() {
    this.#live = null;
  }

  clear() {
    this.end();
    if (this.#strokes.length > 0) this.#step([]);
  }

  undo() {
    this.end();
    if (this.#past.length === 0) return;
    this.#future.push(this.#strokes);
    this.#strokes = this.#past.pop();
  }

  redo() {
    if (!this.canRedo) return;
    this.#past.push(this.#strokes);
    this.#strokes = this.#future.pop();
  }

  #step(strokes) {
    this.#past.push(this.#strokes);
    this.#strokes = Object.freeze(strokes);
    this.#future = [];
  }
}
