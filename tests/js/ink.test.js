import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";

const { LONGEST_SIDE, MARGIN, paintInk, toPicture } = await pageModule("draw/ink");

function recordingContext() {
  const calls = [];
  const note = (name) => (...values) => calls.push([name, ...values]);
  const names = ["beginPath", "moveTo", "quadraticCurveTo", "stroke", "arc", "fill", "setTransform"];
  return Object.assign(Object.fromEntries(names.map((name) => [name, note(name)])), { calls });
}

const stroke = { width: 18, points: [{ x: 10, y: 10, pressure: 0.5 }, { x: 60, y: 10, pressure: 0.5 }] };

test("a stroke of one width is painted as one path, from its first point to its last", () => {
  const context = recordingContext();
  paintInk(context, [stroke], "#123");
  const names = context.calls.map(([name]) => name);
  assert.equal(names.filter((name) => name === "stroke").length, 1);
  assert.deepEqual(context.calls.find(([name]) => name === "moveTo"), ["moveTo", 10, 10]);
  assert.deepEqual(context.calls.at(-2).slice(-2), [60, 10]);
  assert.deepEqual([context.strokeStyle, context.lineCap, context.lineWidth], ["#123", "round", 18]);
});

test("every stroke is painted, also one under a pen's changing pressure", () => {
  const context = recordingContext();
  const pressed = { width: 18, points: stroke.points.map((point, i) => ({ ...point, pressure: i })) };
  paintInk(context, [stroke, pressed], "#000");
  assert.ok(context.calls.filter(([name]) => name === "stroke").length >= 2);
  assert.equal(context.calls.at(-1)[0], "stroke");
});

test("a tap leaves a dot as wide as the brush", () => {
  const context = recordingContext();
  paintInk(context, [{ width: 18, points: stroke.points.slice(0, 1) }], "#123");
  assert.deepEqual(context.calls, [["beginPath"], ["arc", 10, 10, 9, 0, 2 * Math.PI], ["fill"]]);
  assert.equal(context.fillStyle, "#123");
});

/** A canvas whose pixels all have this opacity. */
function canvasOf(alpha) {
  const context = recordingContext();
  context.getImageData = (x, y, width, height) => ({ data: new Uint8Array(width * height * 4).fill(alpha) });
  return { getContext: () => context, context };
}

const PREFIX = "data:image/x-portable-graymap;base64,";

for (const [name, points] of Object.entries({
  "a stroke": stroke.points,
  "a tap": stroke.points.slice(0, 1),
  "a tall stroke": [{ x: 200, y: 20, pressure: 1 }, { x: 180, y: 270, pressure: 0.2 }],
})) {
  test(`the picture of ${name} is its ink alone, with a margin, and as large as any other's`, () => {
    const canvas = canvasOf(200);
    const picture = toPicture([{ width: 18, points }], canvas);
    assert.ok(picture.startsWith(PREFIX));
    const bytes = Buffer.from(picture.slice(PREFIX.length), "base64");
    const header = `P5 ${canvas.width} ${canvas.height} 255\n`;
    assert.equal(bytes.subarray(0, header.length).toString(), header);
    assert.deepEqual([...new Set(bytes.subarray(header.length))], [200]);
    assert.equal(bytes.length, header.length + canvas.width * canvas.height);
    assert.equal(Math.max(canvas.width, canvas.height), LONGEST_SIDE + 2 * MARGIN);
    // every point, with the widest line that a pen leaves, is inside the margin
    const [, scaleX, , , scaleY, left, top] = canvas.context.calls.find(([call]) => call === "setTransform");
    assert.equal(scaleX, scaleY);
    for (const { x, y } of points) {
      for (const reach of [-0.7 * 18, 0.7 * 18]) {
        for (const [place, size] of [[(x + reach) * scaleX + left, canvas.width], [(y + reach) * scaleY + top, canvas.height]]) {
          assert.ok(place > MARGIN - 1e-6 && place < size - MARGIN + 1e-6, `${place} of ${size}`);
        }
      }
    }
    assert.equal(canvas.context.strokeStyle, "#000");
  });
}
