import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";

const { Outbox } = await pageModule("draw/outbox");

const settle = () => new Promise((done) => setImmediate(done));
const digit = (name, meant = 7) => ({ image: name, meant });
const taken = (meant) => ({ receipt: "/receipts/x", meant });
const full = (wait) => ({ message: "Too many.", retryable: true, wait });

/** An outbox with a clock that the test sets, and a server that answers with what `answers` has next. */
function setUp(storage = new Map(), now = 1_000_000) {
  const [sent, tried, answers] = [[], [], []];
  const timers = new Map();
  const clock = {
    now: () => now,
    setTimeout: (run, wait) => (timers.set(timers.size + 1, { run, at: now + wait }), timers.size),
    clearTimeout: (id) => timers.has(id) && (timers.get(id).at = Infinity),
  };
  const outbox = new Outbox({
    send: async (correction) => (sent.push(correction.image), answers.shift() ?? taken(correction.meant)),
    clock,
    storage: {
      recall: (key) => storage.get(key) ?? null,
      remember: (key, text) => storage.set(key, text),
      forget: (key) => storage.delete(key),
    },
    onTried: (outcome, { image }) => tried.push([image, Boolean(outcome.receipt)]),
  });
  const pass = async (span) => {
    const end = now + span;
    for (;;) {
      const [next] = [...timers.values()].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      now = next.at;
      next.at = Infinity;
      next.run();
      await settle();
    }
    now = end;
  };
  return { outbox, sent, tried, answers, storage, pass, time: () => now };
}

test("corrections are sent when the server said, one after the other, and are then forgotten", async () => {
  const { outbox, sent, tried, storage, pass, time } = setUp();
  for (const name of ["a", "b"]) assert.ok(outbox.add(digit(name), 60));
  assert.deepEqual([outbox.size, outbox.dueAt - time()], [2, 60_000]);
  await pass(59_999);
  assert.deepEqual(sent, []);
  await pass(1);
  assert.deepEqual(sent, ["a"]);
  await pass(1000);
  assert.deepEqual([sent, tried, outbox.size, storage.size], [["a", "b"], [["a", true], ["b", true]], 0, 0]);
});

test("a correction that is still not taken waits as long as the server says then, and half a minute where it is away", async () => {
  const { outbox, sent, answers, pass } = setUp();
  answers.push(full(90), { message: "The server cannot be reached.", retryable: true });
  outbox.add(digit("a"), 1);
  for (const [span, count] of [[1000, 1], [89_999, 1], [1, 2], [29_999, 2], [1, 3]]) {
    await pass(span);
    assert.equal(sent.length, count);
  }
  assert.equal(outbox.size, 0);
});

test("a correction that is refused for good is told and holds up none", async () => {
  const { outbox, tried, answers, pass } = setUp();
  answers.push({ message: "There is nothing drawn.", retryable: false });
  outbox.add(digit("a"), 1);
  outbox.add(digit("b"), 1);
  await pass(2000);
  assert.deepEqual(tried, [["a", false], ["b", true]]);
});

test("another meaning of a drawing that waits takes its place", async () => {
  const { outbox, storage } = setUp();
  outbox.add(digit("a", 1), 60);
  outbox.add(digit("a", 7), 60);
  assert.equal(outbox.size, 1);
  assert.deepEqual(JSON.parse(storage.get("outbox")).corrections, [digit("a", 7)]);
});

test("corrections outlast a reload and come no earlier; more than twenty are not kept", async () => {
  const { outbox, storage } = setUp();
  for (let number = 0; number < 20; number += 1) assert.ok(outbox.add(digit(`${number}`), 60));
  assert.equal(outbox.add(digit("one more"), 60), false);
  const { sent, pass, outbox: again } = setUp(storage, 1_010_000);
  assert.equal(again.size, 20);
  await pass(49_999);
  assert.equal(sent.length, 0);
  await pass(60_000);
  assert.equal(sent.length, 20);
});

test("after drop none is sent", async () => {
  const { outbox, sent, storage, pass } = setUp();
  outbox.add(digit("a"), 1);
  outbox.drop();
  await pass(100_000);
  assert.deepEqual([sent, storage.size], [[], 0]);
});
