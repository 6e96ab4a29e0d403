import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";

const { ReadClient } = await pageModule("draw/read_client");

const NUMBER = { text: "25", digits: [], symbols: [], lines: [], reading: { verdict: "not_a_digit" } };
const responding = (body, status = 200) => new Response(JSON.stringify(body), { status });

/** A client whose requests and timers wait until the test answers or lets them pass. */
function client(respond) {
  const sent = [];
  const timers = [];
  const fetch = (url, { body, signal }) =>
    new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      sent.push({ url, body: JSON.parse(body), signal, answer: (response) => resolve(response) });
      if (respond) resolve(respond());
    });
  const clock = {
    setTimeout: (run, delay) => timers.push({ run, delay }) - 1,
    clearTimeout: (id) => (timers[id].run = () => {}),
  };
  return { reader: new ReadClient({ url: "/read", fetch, clock, onWait: () => {} }), sent, timers };
}

test("a picture is sent, and the answer is returned", async () => {
  const { reader, sent } = client(() => responding(NUMBER));
  assert.deepEqual(await reader.read(() => ({ image: "data:x" })), { answer: NUMBER });
  assert.deepEqual([sent[0].url, sent[0].body], ["/read", { image: "data:x" }]);
});

test("a request that is dropped while it is delayed is never encoded", async () => {
  const { reader, sent, timers } = client(() => responding(NUMBER));
  const first = reader.read(() => assert.fail("encoded"), 200);
  const second = reader.read(() => ({ image: "second" }), 200);
  assert.deepEqual(timers.map(({ delay }) => delay), [200, 200]);
  for (const { run } of [...timers]) run();
  assert.equal(await first, null);
  assert.deepEqual(await second, { answer: NUMBER });
  assert.deepEqual(sent.map(({ body }) => body.image), ["second"]);
});

test("a request that is cancelled under way is aborted, and its answer dropped", async () => {
  const { reader, sent } = client();
  const outcome = reader.read(() => ({}));
  reader.cancel();
  assert.ok(sent[0].signal.aborted);
  assert.equal(await outcome, null);
});

test("a late answer to the request before is dropped", async () => {
  const { reader, sent } = client();
  const first = reader.read(() => ({ image: "first" }));
  const second = reader.read(() => ({ image: "second" }));
  sent[0].answer(responding(NUMBER));
  sent[1].answer(responding(NUMBER));
  assert.deepEqual([await first, await second], [null, { answer: NUMBER }]);
});

test("a request without an answer ends", async () => {
  const { reader, timers } = client();
  const outcome = reader.read(() => ({}));
  timers.at(-1).run();
  assert.match((await outcome).message, /cannot be reached/);
});

for (const [name, respond, message] of [
  ["the server's sentence", () => responding({ error: { message: "Too large." } }, 413), /^Too large\.$/],
  ["that a proxy's page cannot be read", () => new Response("<html>", { status: 502 }), /no readable answer/],
  ["that another answer cannot be read", () => responding({ digits: "?" }), /no readable answer/],
  ["that the server is away", () => { throw new TypeError("refused"); }, /cannot be reached/],
]) {
  test(`on failure the message is ${name}`, async () => {
    const { reader } = client(respond);
    assert.match((await reader.read(() => ({}))).message, message);
  });
}

test("where too many ask at once, the client says so and asks again after the time named, a few times", async () => {
  const waited = [];
  let said = 0;
  const clock = { setTimeout: (run, delay) => (delay < 30_000 ? (waited.push(delay), run()) : 0), clearTimeout: () => {} };
  const answers = [503, 429, 503].map((status) => new Response("{}", { status, headers: { "Retry-After": "2" } }));
  const fetch = async () => answers.shift() ?? responding(NUMBER);
  const reader = new ReadClient({ url: "/read", fetch, clock, onWait: () => (said += 1), random: () => 0 });
  assert.deepEqual(await reader.read(() => ({})), { answer: NUMBER });
  assert.deepEqual([waited, said], [[2000, 2000, 4000], 3]);
  answers.push(...[1, 2, 3, 4, 5, 6, 7].map(() => responding({ error: { message: "Busy." } }, 503)));
  assert.deepEqual(await reader.read(() => ({})), { message: "Busy." });
  assert.deepEqual([answers.length, waited.slice(3)], [1, [1000, 2000, 4000, 8000, 8000]]);
});
