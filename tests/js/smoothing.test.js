import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";
import { randomNumbers } from "./random.js";

const { curve, widthAt } = await pageModule("draw/smoothing");

const at = (x, y, pressure = 0.5) => ({ x, y, pressure });

function along({ from, control, to }, t) {
  const mix = (a, b, c) => (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t ** 2 * c;
  return { x: mix(from.x, control.x, to.x), y: mix(from.y, control.y, to.y) };
}

function distanceTo(segments, point) {
  let nearest = Infinity;
  for (const segment of segments) {
    for (let t = 0; t <= 1; t += 0.05) {
      const place = along(segment, t);
      nearest = Math.min(nearest, Math.hypot(place.x - point.x, place.y - point.y));
    }
  }
  return nearest;
}

function wander(random, count) {
  let [x, y, heading] = [140, 140, 0];
  return Array.from({ length: count }, () => {
    heading += (random() - 0.5) * 1.5;
    x += 6 * Math.cos(heading);
    y += 6 * Math.sin(heading);
    return at(x, y, random());
  });
}

test("no points give no curve", () => {
  assert.deepEqual(curve({ width: 18, points: [] }), []);
});

test("one point gives a dot: a segment of no length, as wide as the brush", () => {
  const [dot, ...others] = curve({ width: 18, points: [at(5, 7)] });
  assert.deepEqual(others, []);
  assert.deepEqual(dot, { from: { x: 5, y: 7 }, control: { x: 5, y: 7 }, to: { x: 5, y: 7 }, width: 18 });
});

test("two points give the line between them", () => {
  const segments = curve({ width: 18, points: [at(0, 0), at(10, 20)] });
  assert.deepEqual(segments[0].from, { x: 0, y: 0 });
  assert.deepEqual(segments.at(-1).to, { x: 10, y: 20 });
  for (const segment of segments) {
    const half = along(segment, 0.5);
    assert.ok(Math.abs(half.y - 2 * half.x) < 1e-9);
  }
});

test("a curve meets its ends, hangs together and passes near every point", () => {
  for (let seed = 1; seed <= 30; seed += 1) {
    const points = wander(randomNumbers(seed), 40);
    const segments = curve({ width: 18, points });
    assert.deepEqual(segments[0].from, { x: points[0].x, y: points[0].y });
    assert.deepEqual(segments.at(-1).to, { x: points.at(-1).x, y: points.at(-1).y });
    for (let i = 1; i < segments.length; i += 1) assert.deepEqual(segments[i].from, segments[i - 1].to);
    for (const point of points) assert.ok(distanceTo(segments, point) <= 3, `seed ${seed}`);
  }
});

test("a curve has no corners where its segments join", () => {
  const segments = curve({ width: 18, points: wander(randomNumbers(7), 40) });
  const direction = (a, b) => Math.atan2(b.y - a.y, b.x - a.x);
  for (let i = 1; i < segments.length - 1; i += 1) {
    const before = direction(segments[i - 1].control, segments[i - 1].to);
    const after = direction(segments[i].from, segments[i].control);
    assert.ok(Math.abs(Math.sin(before - after)) < 1e-9);
  }
});

test("width grows with pressure, is the brush's where it is unknown, and never jumps", () => {
  assert.ok(Math.abs(widthAt(20, 0.5) - 20) < 1e-9);
  assert.ok(widthAt(20, 0) < widthAt(20, 0.3) && widthAt(20, 0.3) < widthAt(20, 1));
  assert.equal(widthAt(20, 7), widthAt(20, 1));
  const segments = curve({ width: 20, points: [at(0, 0, 0), at(9, 0, 1), at(18, 0, 1), at(27, 0, 1)] });
  for (let i = 1; i < segments.length; i += 1) assert.ok(segments[i].width - segments[i - 1].width < 8);
});

test("an even pressure gives one width, so that the whole stroke is one path", () => {
  const widths = new Set(curve({ width: 18, points: [at(0, 0), at(9, 3), at(18, 0), at(27, 5)] }).map((s) => s.width));
  assert.equal(widths.size, 1);
});
