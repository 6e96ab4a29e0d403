/*
 * Turns strokes into the picture for the server. Depends on no canvas: browsers that resist fingerprinting answer a
 * canvas's pixels with noise.
 */

import { curve, widthAt } from "./smoothing.js";

export const LONGEST_SIDE = 60; // pixels: three per pixel of the digit image; more do not improve accuracy
export const MARGIN = 2; // pixels; the server takes the colour of the border for the paper's

const FLATNESS = 0.05; // pixels between a curve and the lines in its place
const MIN_LENGTH = 0.3; // pixels; shorter lines are joined: a slow pen reports many points per pixel
const CHUNK = 8192; // arguments of one call

/** Return the extent of the strokes' ink in sheet units, at the greatest width that a pen's pressure gives. */
function extent(strokes) {
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
  return { left, top, right, bottom };
}

/**
 * Darken the pixels that a line with round caps covers, by the share of the pixel's width within the line: exact for
 * straight edges along the grid, and close to it for others. The darkest of overlapping lines counts.
 */
function drawLine({ width, height, pixels }, x0, y0, x1, y1, radius) {
  const reach = radius + 0.5;
  const dx = x1 - x0;
  const dy = y1 - y0;
  const perLength = dx || dy ? 1 / (dx * dx + dy * dy) : 0;
  const left = Math.max(0, Math.floor(Math.min(x0, x1) - reach));
  const right = Math.min(width, Math.ceil(Math.max(x0, x1) + reach));
  const bottom = Math.min(height, Math.ceil(Math.max(y0, y1) + reach));
  for (let row = Math.max(0, Math.floor(Math.min(y0, y1) - reach)); row < bottom; row++) {
    const py = row + 0.5 - y0; // from the line's start to the pixel's centre
    for (let column = left; column < right; column++) {
      const i = row * width + column;
      if (pixels[i] === 255) continue;
      const px = column + 0.5 - x0;
      const along = Math.min(1, Math.max(0, (px * dx + py * dy) * perLength));
      const offX = px - along * dx;
      const offY = py - along * dy;
      const squared = offX * offX + offY * offY;
      if (squared >= reach * reach) continue;
      const distance = Math.sqrt(squared);
      const covered = Math.min(distance + 0.5, radius) - Math.max(distance - 0.5, -radius);
      const value = (255 * covered + 0.5) | 0;
      if (value > pixels[i]) pixels[i] = value;
    }
  }
}

/** Draw a stroke's curve, as lines. `place` maps sheet units to pixels. */
function drawStroke(picture, stroke, scale, place) {
  let [x, y] = place(stroke.points[0]); // the end of the last line
  const segments = curve(stroke);
  segments.forEach(({ from, control, to, width }, index) => {
    const [[ax, ay], [bx, by], [cx, cy]] = [from, control, to].map(place);
    const count = Math.max(1, Math.ceil(Math.sqrt(Math.hypot(ax - 2 * bx + cx, ay - 2 * by + cy) / (4 * FLATNESS))));
    for (let step = 1; step <= count; step++) {
      const t = step / count;
      const [u, v, w] = [(1 - t) * (1 - t), 2 * t * (1 - t), t * t];
      const [endX, endY] = [u * ax + v * bx + w * cx, u * ay + v * by + w * cy];
      const isLast = index === segments.length - 1 && step === count;
      if (!isLast && Math.hypot(endX - x, endY - y) < MIN_LENGTH) continue;
      drawLine(picture, x, y, endX, endY, (width * scale) / 2);
      [x, y] = [endX, endY];
    }
  });
}

/**
 * Return the picture of the strokes: {width, height, pixels (one byte each, ink bright on black), place}. It holds the
 * ink's bounding box, scaled to a fixed size, independent of screen and theme. place({x, y}): the pixel of a point.
 */
export function rasterize(strokes, longestSide = LONGEST_SIDE) {
  const { left, top, right, bottom } = extent(strokes);
  const scale = longestSide / Math.max(right - left, bottom - top);
  const width = Math.ceil((right - left) * scale) + 2 * MARGIN;
  const height = Math.ceil((bottom - top) * scale) + 2 * MARGIN;
  const place = ({ x, y }) => [(x - left) * scale + MARGIN, (y - top) * scale + MARGIN];
  const picture = { width, height, pixels: new Uint8Array(width * height), place };
  for (const stroke of strokes) drawStroke(picture, stroke, scale, place);
  return picture;
}

/** Return a picture as a data URL. The format is grey PGM, because it needs no compression on either side. */
export function toUrl({ width, height, pixels }) {
  let text = `P5 ${width} ${height} 255\n`;
  for (let i = 0; i < pixels.length; i += CHUNK) text += String.fromCharCode(...pixels.subarray(i, i + CHUNK));
  return "data:image/x-portable-graymap;base64," + btoa(text);
}

/** Return the picture that is sent while a digit is drawn. */
export const toPicture = (strokes) => toUrl(rasterize(strokes));
