/*
 * Draws strokes on the sheet's 2D context.
 */

import { curve } from "./smoothing.js";

/** Draw a dot: a canvas draws nothing for a line of length zero. */
function paintDot(context, { to, width }) {
  context.beginPath();
  context.arc(to.x, to.y, width / 2, 0, 2 * Math.PI);
  context.fill();
}

/** Draw a stroke, with one path per run of segments of equal width. */
function paintStroke(context, stroke) {
  let width = null;
  for (const segment of curve(stroke)) {
    if (segment.width !== width) {
      if (width !== null) context.stroke();
      width = segment.width;
      context.lineWidth = width;
      context.beginPath();
      context.moveTo(segment.from.x, segment.from.y);
    }
    context.quadraticCurveTo(segment.control.x, segment.control.y, segment.to.x, segment.to.y);
  }
  if (width !== null) context.stroke();
}

/** Draw the strokes. The context's transform must map sheet units to pixels. */
export function paintInk(context, strokes, colour) {
  context.strokeStyle = colour;
  context.fillStyle = colour;
  context.lineCap = "round";
  context.lineJoin = "round";
  for (const stroke of strokes) {
    if (stroke.points.length === 1) paintDot(context, curve(stroke)[0]);
    else paintStroke(context, stroke);
  }
}
