/*
 * Data model of the drawing: strokes, and the history for undo and redo. Depends on no canvas or page.
 *
 * A point is {x, y, pressure}: x and y in sheet units (0..SHEET), pressure 0..1 (0.5 if the device reports none).
 * A stroke is {width, points}: width of the brush in sheet units.
 */

export const SHEET = 280;
export const BRUSH = Object.freeze({ thinnest: 6, usual: 18, widest: 36 });

// In sheet units. Drop points closer to the previous one: a 1 kHz mouse sends thousands that do not change the shape.
const MIN_DISTANCE = 0.7;

// Of the points, in sheet units. A refused dot that is smaller may be a digit that the brush has filled.
const TINY = SHEET / 4;

const NO_STROKES = Object.freeze([]);

function frozenPoint({ x, y, pressure = 0.5 }) {
  return Object.freeze({ x, y, pressure });
}

function frozenStroke(width, points) {
  return Object.freeze({ width, points: Object.freeze([...points]) });
}

/** Return strokes as text. Their numbers are not rounded: the same drawing must give the same picture again. */
export function toText(strokes) {
  return JSON.stringify(strokes.map(({ width, points }) => [width, points.map(({ x, y, pressure }) => [x, y, pressure])]));
}

/** Return the strokes of a text from `toText`; none for any other. */
export function fromText(text) {
  try {
    const strokes = JSON.parse(text).map(([width, points]) =>
      frozenStroke(width, points.map(([x, y, pressure]) => frozenPoint({ x, y, pressure }))),
    );
    const isValid = ({ width, points }) =>
      points.length > 0 && [width, ...points.flatMap(({ x, y, pressure }) => [x, y, pressure])].every(Number.isFinite);
    return Object.freeze(strokes.every(isValid) ? strokes : []);
  } catch {
    return NO_STROKES;
  }
}

/** Return whether strokes that look like a dot may be a digit drawn too small: small, but no mere touch of the sheet. */
export function isTiny(strokes) {
  let length = 0;
  for (const { points } of strokes) {
    points.slice(1).forEach(({ x, y }, i) => (length += Math.hypot(x - points[i].x, y - points[i].y)));
  }
  const points = strokes.flatMap((stroke) => stroke.points);
  const extent = (values) => Math.max(...values) - Math.min(...values);
  const side = Math.max(extent(points.map(({ x }) => x)), extent(points.map(({ y }) => y)));
  return side < TINY && length > Math.max(...strokes.map(({ width }) => width));
}

/** Return whether strokes fall apart into groups side by side, as the digits of a number do. */
export function fallApart(strokes) {
  const extents = strokes.map(({ width, points }) => {
    const places = points.map(({ x }) => x);
    return [Math.min(...places) - width / 2, Math.max(...places) + width / 2];
  });
  extents.sort(([a], [b]) => a - b);
  return extents.some(([left], i) => i > 0 && left > Math.max(...extents.slice(0, i).map(([, right]) => right)));
}

/**
 * Strokes with undo and redo. Each change of the finished strokes (a stroke, a clear) is one step of the history; the
 * open stroke becomes a step when it ends.
 */
export class Drawing {
  #past = [];
  #strokes;
  #future = [];
  #open = null;

  /** strokes: finished ones to begin with, frozen. */
  constructor(strokes = NO_STROKES) {
    this.#strokes = strokes;
  }

  /** The finished strokes, frozen; the array keeps its identity until they change. */
  get finished() {
    return this.#strokes;
  }

  /** The open stroke, frozen, or null. */
  get open() {
    return this.#open && frozenStroke(this.#open.width, this.#open.points);
  }

  get isBlank() {
    return this.#strokes.length === 0 && this.#open === null;
  }

  get canUndo() {
    return this.#past.length > 0 || this.#open !== null;
  }

  get canRedo() {
    return this.#future.length > 0 && this.#open === null;
  }

  /** Return all strokes including the open one, frozen: later drawing does not change a snapshot. */
  snapshot() {
    return this.#open ? Object.freeze([...this.#strokes, this.open]) : this.#strokes;
  }

  /** Open a stroke. End the open one first. */
  begin(point, width) {
    this.end();
    this.#open = { width, points: [frozenPoint(point)] };
  }

  /** Add a point to the open stroke, if there is one. Return whether the drawing changed. */
  extend(point) {
    if (this.#open === null) return false;
    const { points } = this.#open;
    const last = points[points.length - 1];
    if (Math.hypot(point.x - last.x, point.y - last.y) < MIN_DISTANCE) return false;
    points.push(frozenPoint(point));
    return true;
  }

  /** End the open stroke: it becomes a step of the history. */
  end() {
    if (this.#open === null) return;
    const stroke = this.open;
    this.#open = null;
    this.#push([...this.#strokes, stroke]);
  }

  /** Discard the open stroke. */
  cancel() {
    this.#open = null;
  }

  clear() {
    this.end();
    if (this.#strokes.length > 0) this.#push([]);
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

  #push(strokes) {
    this.#past.push(this.#strokes);
    this.#strokes = Object.freeze(strokes);
    this.#future = [];
  }
}
