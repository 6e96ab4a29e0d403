import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";

const { describe, describeModel, penText, percent, speechText } = await pageModule("draw/words");

for (const [probability, words] of [
  [1, ">99 %"],
  [0.9951, ">99 %"],
  [0.995, ">99 %"],
  [0.994, "99 %"],
  [0.98, "98 %"],
  [0.5, "50 %"],
  [0.01, "1 %"],
  [0.006, "1 %"],
  [0.0049, "<1 %"],
  [0, "<1 %"],
]) {
  test(`${probability} is shown as ${words}`, () => {
    assert.equal(percent(probability).replace("\u00a0", " "), words);
  });
}

for (const [digits, words] of [
  [[4, 9], "A 4 or a 9"],
  [[9, 4], "A 9 or a 4"],
  [[8, 3], "An 8 or a 3"],
  [[4, 9, 8], "A 4, a 9 or an 8"],
  [[4, 9, 8, 1], "A 4, a 9, an 8 or a 1"],
  [[4, 9, 8, 1, 0], "A 4, a 9, an 8 or another"],
  [[8, 1, 2, 3, 4, 5, 6, 7, 9, 0], "An 8, a 1, a 2 or another"],
]) {
  test(`the set of ${digits} is described as "${words}", with its coverage`, () => {
    const prediction = { verdict: "unsure", digits, reason: null, coverage: 0.98, can_refuse: true };
    const remark =
      "Too close to call: when it hesitates like this, the digit is among those named 98 times in 100.";
    assert.deepEqual(describe(prediction), { verdict: words, remark });
    assert.equal(describe({ ...prediction, can_refuse: false }).remark, "");
  });
}

for (let digit = 0; digit <= 9; digit += 1) {
  test(`a ${digit} has its article`, () => {
    const words = digit === 8 ? "It is an 8" : `It is a ${digit}`;
    assert.deepEqual(describe({ verdict: "digit", digits: [digit], reason: null }), { verdict: words, remark: "" });
  });
}

test("one digit that is hardly likelier than others is named with doubt", () => {
  const prediction = { verdict: "digit", digits: [8], reason: null, coverage: 0.98, top: [{ digit: 8, probability: 0.97 }] };
  const remark = "Not sure: it stands out less clearly than usual.";
  assert.deepEqual(describe(prediction), { verdict: "Probably an 8", remark });
  assert.equal(speechText(prediction), "Probably an 8, 97 percent");
  const confident = { ...prediction, top: [{ digit: 8, probability: 0.98 }] };
  assert.deepEqual(describe(confident), { verdict: "It is an 8", remark: "" });
});

for (const [reason, remark] of [
  ["dot", "It is only a dot."],
  ["tiny", "Draw it larger, or with a thinner brush."],
  ["scribble", "It looks like a scribble."],
  ["several", "It looks like several digits. Draw them apart."],
  ["unlike_any_digit", "Draw one digit, 0 to 9."],
  ["a later reason", ""],
]) {
  test(`no digit because of ${reason}`, () => {
    const prediction = { verdict: "not_a_digit", digits: [], reason };
    assert.deepEqual(describe(prediction), { verdict: "That does not look like a digit", remark });
    assert.equal(speechText(prediction), `That does not look like a digit. ${remark}`.trim());
  });
}

for (const [prediction, name, accuracy, limit] of [
  [{ version: "v1", test_accuracy: 0.9953, can_refuse: true }, "Model v1", "99.5 % right on test digits", ""],
  [{ version: "v2", test_accuracy: null, can_refuse: true }, "Model v2", "", ""],
  [
    { version: "v3", test_accuracy: 0.968, can_refuse: false },
    "Model v3",
    "96.8 % right on test digits",
    "This version cannot tell letters from digits.",
  ],
  [{ version: null }, "", "", ""],
]) {
  test(`the model ${prediction.version} is described with what it can do`, () => {
    const found = describeModel(prediction);
    assert.deepEqual({ ...found, accuracy: found.accuracy.replace("\u00a0", " ") }, { name, accuracy, limit });
  });
}

test("the pen's place is told in percent", () => {
  const told = penText({ down: true, x: 0.5, y: 0.256 });
  assert.equal(told, "Pen down, 50 percent from the left, 26 percent from the top");
});

test("a blank sheet has no text", () => {
  assert.deepEqual(describe({ verdict: "blank", digits: [], reason: null }), { verdict: "", remark: "" });
});

test("the text for screen readers is the verdict, with its probability", () => {
  const certain = (digit, probability) => ({ verdict: "digit", digits: [digit], top: [{ digit, probability }] });
  assert.equal(speechText(certain(7, 0.98)), "It is a 7, 98 percent");
  assert.equal(speechText(certain(8, 0.9999)), "It is an 8, more than 99 percent");
  assert.equal(speechText(certain(1, 0.001)), "It is a 1, less than 1 percent");
  assert.equal(speechText({ verdict: "unsure", digits: [4, 9] }), "A 4 or a 9");
});
