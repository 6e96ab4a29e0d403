/*
 * Strokes onto a 2D context: the one way ink is drawn, on the sheet that the person sees and in the picture that the
 * server gets. The context's transform must already map sheet units to pixels.
 */

import { curve } from "./smoothing.js";

/** A tap of the pen: canvases leave no ink for a line of no length. */
function paintDot(context, { to, width }) {
  context.beginPath();
  context.arc(to.x, to.y, width / 2, 0, 2 * Math.PI);
  context.fill();
}

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
