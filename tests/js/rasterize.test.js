import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";

const { LONGEST_SIDE, MARGIN, rasterize, toPicture, toUrl } = await pageModule("draw/rasterize");

const PREFIX = "data:image/x-portable-graymap;base64,";
const BRUSH = 18;
const at = (x, y, pressure = 0.5) => ({ x, y, pressure });
const strokeOf = (...points) => ({ width: BRUSH, points });
const [across, tap, steep] = [
  strokeOf(at(10, 10), at(60, 10)),
  strokeOf(at(10, 10)),
  strokeOf(at(200, 20, 1), at(180, 270, 0.2)),
];

/** The share of a pixel within some of 16 x 16 places that are closer than the radius to a straight line. */
function sampled(column, row, [x0, y0], [x1, y1], radius) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  let inside = 0;
  for (let i = 0; i < 256; i++) {
    const [x, y] = [column + ((i % 16) + 0.5) / 16 - x0, row + (Math.floor(i / 16) + 0.5) / 16 - y0];
    const along = Math.min(1, Math.max(0, (x * dx + y * dy) / (dx * dx + dy * dy || 1)));
    inside += Math.hypot(x - along * dx, y - along * dy) < radius;
  }
  return inside / 256;
}

for (const [name, stroke] of Object.entries({ across, tap, steep })) {
  test(`the picture of a stroke (${name}) is its ink alone, with a margin, and as large as any other's`, () => {
    const { width, height, pixels, place } = rasterize([stroke]);
    assert.equal(Math.max(width, height), LONGEST_SIDE + 2 * MARGIN);
    assert.equal(pixels.length, width * height);
    const scale = place(at(1, 0))[0] - place(at(0, 0))[0];
    for (const point of stroke.points) {
      // every point, with the widest line that a pen leaves, is inside the margin
      for (const reach of [-0.7 * BRUSH, 0.7 * BRUSH]) {
        for (const [pixel, size] of place(point).map((each, i) => [each + reach * scale, [width, height][i]])) {
          assert.ok(pixel > MARGIN - 1e-6 && pixel < size - MARGIN + 1e-6, `${pixel} of ${size}`);
        }
      }
    }
    for (let column = 0; column < width; column++) assert.equal(pixels[column] + pixels[pixels.length - 1 - column], 0);
  });
}

for (const [name, from, to] of [
  ["level", at(20, 50), at(250, 50)],
  ["steep", at(40, 20), at(90, 260)],
  ["slanting", at(30, 40), at(240, 215)],
  ["short", at(100, 100), at(101, 103)],
]) {
  test(`a pixel is as bright as the share of it that a ${name} line covers`, () => {
    const { width, pixels, place } = rasterize([strokeOf(from, to)]);
    const scale = place(at(1, 0))[0] - place(at(0, 0))[0];
    let [sum, worst] = [0, 0];
    pixels.forEach((value, i) => {
      const share = sampled(i % width, Math.floor(i / width), place(from), place(to), (BRUSH / 2) * scale);
      const difference = Math.abs(value / 255 - share);
      sum += difference;
      worst = Math.max(worst, difference);
    });
    assert.ok(worst < 0.12 && sum / pixels.length < 0.005, `${worst} at most, ${sum / pixels.length} on average`);
  });
}

test("a line thinner than a pixel is as much fainter", () => {
  const [thin, thinner] = [6, 3].map((brush) => {
    const { pixels } = rasterize([{ width: brush, points: [at(0, 0), at(2000, 0)] }]);
    return pixels.reduce((sum, value) => sum + value);
  });
  assert.ok(Math.abs(thin / thinner - 2) < 0.1, `${thin} to ${thinner}`);
});

test("a curve of many points is drawn like its few, and a second time over changes nothing", () => {
  const arc = (count) => strokeOf(...Array.from({ length: count }, (_, i) => {
    const angle = (i / (count - 1)) * 5;
    return at(140 + 100 * Math.cos(angle), 140 + 100 * Math.sin(angle));
  }));
  const corners = [at(20, 20), at(260, 260)].map((point) => strokeOf(point)); // of equal extent
  const [many, few] = [3000, 80].map((count) => rasterize([...corners, arc(count)]));
  assert.equal(many.pixels.length, few.pixels.length);
  const differences = [...many.pixels].map((value, i) => Math.abs(value - few.pixels[i]));
  assert.ok(differences.reduce((sum, each) => sum + each) / differences.length < 1.5);
  assert.deepEqual(rasterize([...corners, arc(80), arc(80)]).pixels, few.pixels);
});

test("a harder pressed pen leaves a wider line", () => {
  const [light, hard] = [0.2, 0.9].map((pressure) => {
    const { pixels } = rasterize([strokeOf(at(0, 0, pressure), at(100, 0, pressure), at(200, 0, pressure))]);
    return pixels.reduce((sum, value) => sum + value);
  });
  assert.ok(hard > 1.4 * light);
});

test("a larger picture shows the same ink at a larger scale", () => {
  const [small, large] = [60, 400].map((side) => rasterize([steep, across], side));
  assert.equal(Math.max(large.width, large.height), 400 + 2 * MARGIN);
  const ink = ({ pixels }) => pixels.reduce((sum, value) => sum + value);
  assert.ok(Math.abs(ink(large) / ink(small) / (400 / 60) ** 2 - 1) < 0.01);
});

test("the picture travels as a grey map", () => {
  const picture = rasterize([across, steep], 400);
  const url = toUrl(picture);
  assert.ok(url.startsWith(PREFIX));
  const bytes = Buffer.from(url.slice(PREFIX.length), "base64");
  const header = `P5 ${picture.width} ${picture.height} 255\n`;
  assert.equal(bytes.subarray(0, header.length).toString(), header);
  assert.deepEqual(new Uint8Array(bytes.subarray(header.length)), picture.pixels);
  assert.equal(toPicture([across]), toUrl(rasterize([across])));
});
