import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";

const { describeNumber, isNumber, lineText, linesOf, predictionOf, requestOf, sheetOf, speechOf } =
  await pageModule("draw/numbers");

const IMAGE = "data:image/png;base64,AA==";
const MODEL = { version: "v1", test_accuracy: 0.995, can_refuse: true, coverage: 0.98 };

/** An answer with the signs of each line apart from left to right; "?" is no digit, "8!" an unsure 8. */
function answerOf(...lines) {
  const [digits, symbols] = [[], []];
  lines.forEach((signs, line) =>
    signs.forEach((sign, place) => {
      const box = [place / 10, line / 10, (place + 0.9) / 10, (line + 0.9) / 10];
      const verdict = sign === "?" ? "not_a_digit" : sign.endsWith("!") ? "unsure" : "digit";
      const digit = Number.parseInt(sign, 10);
      if (sign !== "?" && Number.isNaN(digit)) symbols.push({ symbol: sign, box, line });
      else {
        const top = [digit || 0, 1, 2].map((each, i) => ({ digit: each, probability: [0.6, 0.3, 0.02][i] }));
        digits.push({ digit: digit || 0, box, top, verdict, line, digit_image: IMAGE });
      }
    }),
  );
  // the order of the answer says nothing
  return { digits: digits.reverse(), symbols, lines: lines.map((signs) => ({ text: signs.join("") })), reading: MODEL };
}

test("signs stand in the order of their boxes, line by line", () => {
  assert.deepEqual(linesOf(answerOf(["-", "2", "0"], ["1", ".", "5", "?"])).map(lineText), ["\u221220", "1.5?"]);
});

for (const [signs, isOne] of [
  [["2", "5"], true],
  [["-", "5"], true],
  [["2", "?"], true],
  [["5"], false],
  [["5", "."], false],
  [["?"], false],
  [["?", "?", "2"], false],
  [["-"], false],
  [[], false],
]) {
  test(`"${signs.join("")}" is ${isOne ? "a number" : "no number"}`, () => {
    assert.equal(isNumber(answerOf(signs)), isOne);
  });
}

for (const [name, signs, change, isDrawing, isOne] of [
  ["sure ones in a drawing", ["1", "3"], {}, true, true],
  ["sure ones in a picture", ["1", "3"], {}, false, false],
  ["sure ones in a picture that looks like several", ["1", "3"], { reading: { reason: "several" } }, false, true],
  ["one unsure in a drawing", ["1", "3!"], {}, true, false],
  ["ones of little confidence in a drawing", ["1", "3"], { confidence: 0.7 }, true, false],
]) {
  test(`touching digits, ${name}, are ${isOne ? "a number" : "no number"}`, () => {
    const answer = answerOf(signs);
    for (const digit of answer.digits) digit.box[2] += 0.05;
    assert.equal(isNumber({ ...answer, confidence: 0.97, ...change }, isDrawing), isOne);
  });
}

test("a number is described, and what is not sure of it", () => {
  assert.deepEqual(describeNumber(answerOf(["2", "5"])), {
    verdict: "It is 25",
    remark: "Choose a digit to see its alternatives.",
  });
  assert.match(describeNumber(answerOf(["-", "2", "5!"])).remark, /^The second digit is not sure\. /);
  assert.equal(describeNumber(answerOf(["2", "5!"])).verdict, "Probably 25");
  assert.match(describeNumber(answerOf(["2!", "?", "5"])).remark, /^2 digits are not sure\. /);
  const two = describeNumber(answerOf(["1", "2"], ["3", "4!"]));
  assert.equal(two.verdict, "2 lines");
  assert.match(two.remark, /^The second digit of line 2 is not sure\. /);
});

test("a screen reader says the number", () => {
  assert.equal(speechOf(answerOf(["-", "2", "5"])), "It is minus 25.");
  assert.equal(speechOf(answerOf(["1", "2"], ["3", "4!"])), "2 lines: 12; 34. The second digit of line 2 is not sure.");
});

test("a digit of a number is a prediction of its own", () => {
  const answer = answerOf(["4", "7!", "?"]);
  const of = (place) => predictionOf(answer, linesOf(answer)[0][place]);
  const sure = of(0);
  assert.deepEqual([sure.verdict, sure.digits, sure.picture, sure.version], ["digit", [4], IMAGE, "v1"]);
  assert.deepEqual(sure.words, { verdict: "The first digit: a 4", remark: "4: 60\u00a0%,  1: 30\u00a0%,  2: 2\u00a0%" });
  assert.equal(sure.probabilities[4], 0.6);
  assert.deepEqual([of(1).digits, of(1).words.verdict], [[7, 1], "The second digit: a 7 or a 1"]);
  assert.deepEqual([of(2).digits, of(2).words.verdict], [[], "The third digit: no digit"]);
});

const STROKES = [
  { width: 18, points: [{ x: 40, y: 100, pressure: 0.5 }, { x: 40.3, y: 100.4, pressure: 0.5 }, { x: 60, y: 180, pressure: 0.5 }] },
  { width: 18, points: [{ x: 200, y: 90, pressure: 0.5 }] },
];

test("a drawing is sent with its strokes in pixels of the picture, without points that say nothing", () => {
  const { image, strokes } = requestOf(STROKES);
  const [, width, height] = atob(image.split(",")[1]).match(/^P5 (\d+) (\d+) 255\n/).map(Number);
  assert.equal(Math.max(width, height), 404);
  assert.deepEqual(strokes.map(({ length }) => length), [2, 1]);
  for (const [x, y] of strokes.flat()) assert.ok(x > 0 && x < width && y > 0 && y < height);
});

test("a box of the picture lies over the same ink on the sheet", () => {
  const { image, strokes } = requestOf(STROKES);
  const [, width, height] = atob(image.split(",")[1]).match(/^P5 (\d+) (\d+) 255\n/).map(Number);
  const [[x0, y0], [x1, y1]] = strokes[0];
  const box = sheetOf(STROKES)([x0 / width, y0 / height, x1 / width, y1 / height]);
  [40, 100, 60, 180].forEach((place, i) => assert.ok(Math.abs(280 * box[i] - place) < 0.2, `${box}`));
});
