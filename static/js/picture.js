/*
 * Strokes as the picture that is sent: always the same size and the same black ink on nothing, whatever the screen,
 * its pixel density or its theme.
 */

import { paintInk } from "./ink.js";
import { SHEET } from "./strokes.js";

export const PICTURE_SIDE = 140;

/** A PNG data URL, PICTURE_SIDE x PICTURE_SIDE, transparent with black ink. */
export function toPicture(strokes, canvas = document.createElement("canvas")) {
  canvas.width = PICTURE_SIDE;
  canvas.height = PICTURE_SIDE;
  const context = canvas.getContext("2d");
  context.scale(PICTURE_SIDE / SHEET, PICTURE_SIDE / SHEET);
  paintInk(context, strokes, "#000");
  return canvas.toDataURL("image/png");
}
