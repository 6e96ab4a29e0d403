/*
 * Draws strokes on a 2D context: for the sheet on the page and for the picture that is sent to the server.
 */

import { curve, widthAt } from "./smoothing.js";

export const LONGEST_SIDE = 60; // pixels: three per pixel of the digit image; more do not improve accuracy
export const MARGIN = 2; // pixels; the server takes the colour of the border for the paper's

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

/**
 * Return the picture for the server as a data URL: the ink's bounding box, bright on black, scaled to a fixed size,
 * independent of screen and theme. The format is grey PGM, because it needs no compression on either side.
 */
export function toPicture(strokes, canvas = document.createElement("canvas")) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { width, points } of strokes) {
    const reach = widthAt(width, 1) / 2; // half of the greatest width
    for (const { x, y } of points) {
      left = Math.min(left, x - reach);
      top = Math.min(top, y - reach);
      right = Math.max(right, x + reach);
      bottom = Math.max(bottom, y + reach);
    }
  }
  const scale = LONGEST_SIDE / Math.max(right - left, bottom - top);
  const width = (canvas.width = Math.ceil((right - left) * scale) + 2 * MARGIN);
  const height = (canvas.height = Math.ceil((bottom - top) * scale) + 2 * MARGIN);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.setTransform(scale, 0, 0, scale, MARGIN - left * scale, MARGIN - top * scale);
  paintInk(context, strokes, "#000");
  const pixels = context.getImageData(0, 0, width, height).data;
  let picture = `P5 ${width} ${height} 255\n`;
  for (let i = 3; i < pixels.length; i += 4) picture += String.fromCharCode(pixels[i]);
  return "data:image/x-portable-graymap;base64," + btoa(picture);
}
