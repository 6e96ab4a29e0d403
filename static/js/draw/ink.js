/*
 * Strokes onto a 2D context: the one way ink is drawn, on the sheet that the person sees and in the picture that the
 * server gets.
 */

import { curve, widthAt } from "./smoothing.js";

export const LONGEST = 60; // pixels: three for one of the digit image's; more are read no better
export const MARGIN = 2; // pixels of paper, which the server knows by the border

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

/** The context's transform must already map sheet units to pixels. */
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
 * The picture that is sent, a data URL: the ink alone, bright on black, always of one size, whatever the screen, its pixel
 * density or its theme. A grey PGM needs no packing on either side.
 */
export function toPicture(strokes, canvas = document.createElement("canvas")) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { width, points } of strokes) {
    const reach = widthAt(width, 1) / 2;
    for (const { x, y } of points) {
      left = Math.min(left, x - reach);
      top = Math.min(top, y - reach);
      right = Math.max(right, x + reach);
      bottom = Math.max(bottom, y + reach);
    }
  }
  const scale = LONGEST / Math.max(right - left, bottom - top);
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
