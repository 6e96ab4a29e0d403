import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";

const { about } = await pageModule("admin/estimate");

// As in tests/webapp/presentation/test_wording.py: the page says what the server does.
for (const [seconds, words] of [
  [0, "seconds"],
  [19, "seconds"],
  [20, "under a minute"],
  [60, "about a minute"],
  [370, "about 6 minutes"],
  [45 * 60, "about an hour"],
  [4210, "about an hour"],
  [8000, "about 2 hours"],
]) {
  test(`${seconds} seconds are ${words}`, () => assert.equal(about(seconds), words));
}
