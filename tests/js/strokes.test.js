import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";
import { randomNumbers } from "./random.js";

const { Drawing, fallApart, fromText, isTiny, toText } = await pageModule("draw/strokes");

function drawStroke(drawing, at, width = 18) {
  drawing.begin({ x: at, y: at }, width);
  drawing.extend({ x: at + 10, y: at });
  drawing.end();
}

const plain = (drawing) => JSON.stringify(drawing.snapshot());

test("a new drawing is blank, with nothing to undo or redo", () => {
  const drawing = new Drawing();
  assert.deepEqual([drawing.isBlank, drawing.canUndo, drawing.canRedo], [true, false, false]);
  drawing.undo();
  drawing.redo();
  drawing.clear();
  assert.deepEqual([drawing.isBlank, drawing.canUndo, drawing.canRedo], [true, false, false]);
});

test("random sequences agree with a history kept the obvious way", () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const random = randomNumbers(seed);
    const drawing = new Drawing();
    const states = [plain(drawing)]; // all states in reach of undo and redo
    let now = 0;
    for (let step = 0; step < 80; step += 1) {
      const dice = random();
      if (dice < 0.4) {
        drawStroke(drawing, Math.floor(random() * 200));
        states.splice(now + 1, Infinity, plain(drawing));
        now += 1;
      } else if (dice < 0.5) {
        const wasBlank = drawing.isBlank;
        drawing.clear();
        if (!wasBlank) {
          states.splice(now + 1, Infinity, "[]");
          now += 1;
        }
      } else if (dice < 0.8) {
        drawing.undo();
        now = Math.max(0, now - 1);
      } else {
        drawing.redo();
        now = Math.min(states.length - 1, now + 1);
      }
      assert.equal(plain(drawing), states[now], `seed ${seed}, step ${step}`);
      assert.equal(drawing.canUndo, now > 0);
      assert.equal(drawing.canRedo, now < states.length - 1);
      assert.equal(drawing.isBlank, states[now] === "[]");
    }
  }
});

test("clear can be undone, and redone", () => {
  const drawing = new Drawing();
  drawStroke(drawing, 10);
  drawStroke(drawing, 50);
  const full = plain(drawing);
  drawing.clear();
  assert.ok(drawing.isBlank);
  drawing.undo();
  assert.equal(plain(drawing), full);
  drawing.redo();
  assert.ok(drawing.isBlank);
});

test("a new stroke ends what could be redone", () => {
  const drawing = new Drawing();
  drawStroke(drawing, 10);
  drawing.undo();
  drawStroke(drawing, 80);
  assert.equal(drawing.canRedo, false);
});

test("a snapshot never changes, whatever is drawn later", () => {
  const drawing = new Drawing();
  drawStroke(drawing, 10);
  drawing.begin({ x: 1, y: 1 }, 6);
  const snapshot = drawing.snapshot();
  const before = JSON.stringify(snapshot);
  drawing.extend({ x: 90, y: 90 });
  drawing.end();
  drawing.clear();
  assert.equal(JSON.stringify(snapshot), before);
});

test("a snapshot cannot be written to", () => {
  const drawing = new Drawing();
  drawing.begin({ x: 1, y: 1 }, 6);
  const snapshot = drawing.snapshot();
  assert.throws(() => snapshot.push(1), TypeError);
  assert.throws(() => snapshot[0].points.push(1), TypeError);
  assert.throws(() => Object.assign(snapshot[0].points[0], { x: 5 }), TypeError);
});

test("the caller's point is copied", () => {
  const drawing = new Drawing();
  const point = { x: 1, y: 2 };
  drawing.begin(point, 6);
  point.x = 99;
  assert.equal(drawing.open.points[0].x, 1);
});

test("points that add no shape are dropped", () => {
  const drawing = new Drawing();
  drawing.begin({ x: 10, y: 10 }, 6);
  assert.equal(drawing.extend({ x: 10.1, y: 10 }), false);
  assert.equal(drawing.extend({ x: 12, y: 10 }), true);
  assert.equal(drawing.open.points.length, 2);
});

test("a cancelled stroke leaves no trace", () => {
  const drawing = new Drawing();
  drawStroke(drawing, 10);
  const before = plain(drawing);
  drawing.begin({ x: 1, y: 1 }, 6);
  drawing.cancel();
  assert.equal(plain(drawing), before);
  assert.equal(drawing.extend({ x: 50, y: 50 }), false);
});

test("undo while the pen is down takes the open stroke, and redo brings it back", () => {
  const drawing = new Drawing();
  drawing.begin({ x: 1, y: 1 }, 6);
  drawing.undo();
  assert.ok(drawing.isBlank);
  drawing.redo();
  assert.equal(drawing.snapshot().length, 1);
});

test("strokes survive as text, and a drawing begins with them", () => {
  const drawing = new Drawing();
  drawStroke(drawing, 100.123, 12);
  drawStroke(drawing, 5);
  const again = new Drawing(fromText(toText(drawing.snapshot())));
  assert.equal(plain(again), plain(drawing));
  assert.deepEqual([again.isBlank, again.canUndo], [false, false]);
  again.clear();
  again.undo();
  assert.equal(again.snapshot().length, 2);
});

for (const text of [null, "", "{}", "[]", "[[18]]", "[[18,[]]]", '[["x",[[1,2,0.5]]]]', "[[18,[[1,null,0.5]]]]", "[1"]) {
  test(`no strokes are read from ${text}`, () => {
    assert.deepEqual(fromText(text), []);
  });
}

for (const [points, tiny] of [
  [[[100, 100]], false],
  [[[100, 100], [103, 102]], false], // a touch that trembled
  [[[100, 100], [112, 101], [104, 125]], true], // a 7 that the brush has filled
  [[[100, 100], [220, 101], [140, 225]], false],
]) {
  test(`strokes at ${points} are ${tiny ? "" : "not "}tiny`, () => {
    assert.equal(isTiny([{ width: 18, points: points.map(([x, y]) => ({ x, y })) }]), tiny);
  });
}

test("strokes fall apart where a gap goes through from top to bottom", () => {
  const line = (from, to) => ({ width: 18, points: [{ x: from, y: 20, pressure: 0.5 }, { x: to, y: 200, pressure: 0.5 }] });
  assert.equal(fallApart([]), false);
  assert.equal(fallApart([line(20, 60)]), false);
  assert.equal(fallApart([line(100, 60), line(20, 40)]), true);
  assert.equal(fallApart([line(20, 60), line(70, 100)]), false); // the brush closes the gap
  assert.equal(fallApart([line(20, 40), line(90, 120), line(30, 100)]), false); // the third joins the others
});
