import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";

const { paintInk } = await pageModule("draw/ink");

function recordingContext() {
  const calls = [];
  const note = (name) => (...values) => calls.push([name, ...values]);
  const names = ["beginPath", "moveTo", "quadraticCurveTo", "stroke", "arc", "fill"];
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
