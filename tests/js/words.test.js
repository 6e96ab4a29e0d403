import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";

const { percent, spoken } = await pageModule("answer");

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

test("a reading is said in words", () => {
  assert.equal(spoken({ digit: 7, probability: 0.98 }), "7, 98 percent");
  assert.equal(spoken({ digit: 1, probability: 0.9999 }), "1, more than 99 percent");
  assert.equal(spoken({ digit: 1, probability: 0.001 }), "1, less than 1 percent");
});
