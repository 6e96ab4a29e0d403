import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";
import { randomNumbers } from "./random.js";

const { PredictionClient } = await pageModule("draw/prediction_client");

/** A fake clock: time passes only in pass(). */
class Clock {
  #now = 0;
  #next = 1;
  #timers = new Map();

  now() {
    return this.#now;
  }

  setTimeout(run, wait) {
    this.#timers.set(this.#next, { run, at: this.#now + wait });
    return this.#next++;
  }

  clearTimeout(id) {
    this.#timers.delete(id);
  }

  async pass(span) {
    const end = this.#now + span;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter(([, timer]) => timer.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      const [id, timer] = due;
      this.#timers.delete(id);
      this.#now = Math.max(this.#now, timer.at);
      timer.run();
    }
    this.#now = end;
    await settle();
  }
}

/** Run all pending promise callbacks. */
function settle() {
  return new Promise((done) => setImmediate(done));
}

function response(status, body, headers = {}) {
  return {
    ok: status < 400,
    status,
    headers: { get: (name) => headers[name] ?? null },
    text: async () => (typeof body === "string" ? body : JSON.stringify(body)),
  };
}

/** A fake server: the test responds with server.requests[i].answer(digit), .fail() or .refuse(status, body). */
class Server {
  requests = [];
  inFlight = 0;
  maxInFlight = 0;

  fetch = (url, { method, body, signal }) => {
    this.inFlight += 1;
    this.maxInFlight = Math.max(this.maxInFlight, this.inFlight);
    return new Promise((resolve, reject) => {
      const close = (finish) => (value) => {
        this.inFlight -= 1;
        finish(value);
      };
      const succeed = close(resolve);
      const fail = close(reject);
      signal.addEventListener("abort", () => fail(new Error("aborted")));
      this.requests.push({
        url,
        method,
        image: JSON.parse(body).image,
        answer: (digit) => succeed(response(200, prediction(digit))),
        refuse: (status, problem, headers) => succeed(response(status, problem, headers)),
        fail: () => fail(new TypeError("Failed to fetch")),
      });
    });
  };

  get last() {
    return this.requests.at(-1);
  }
}

function prediction(digit) {
  const top = [{ digit, probability: 0.9 }];
  return { verdict: "digit", digits: [digit], top, probabilities: Array(10).fill(0.1), version: "v1" };
}

function setUp(options) {
  const clock = new Clock();
  const server = new Server();
  const predictions = [];
  const current = [];
  const errors = [];
  const client = new PredictionClient({
    url: "/predict",
    fetch: server.fetch,
    clock,
    onPrediction: ({ top }, isCurrent) => {
      predictions.push(top[0].digit);
      current.push(isCurrent);
    },
    onError: (error) => errors.push(error),
    random: () => 0,
    ...options,
  });
  return { clock, server, predictions, current, errors, client };
}

const drawing = (name) => () => name;

test("a drawing is sent, and its prediction is reported", async () => {
  const { clock, server, predictions, client } = setUp();
  client.update(drawing("seven"));
  await clock.pass(1);
  assert.deepEqual([server.last.url, server.last.method, server.last.image], ["/predict", "POST", "seven"]);
  server.last.answer(7);
  await clock.pass(1000);
  assert.deepEqual(predictions, [7]);
  assert.equal(server.requests.length, 1);
});

test("requests during a fast stroke keep the interval", async () => {
  const { clock, server, client } = setUp();
  for (let i = 0; i < 100; i += 1) {
    client.update(drawing(`stage ${i}`), { grown: true });
    await clock.pass(10);
    if (server.inFlight) server.last.answer(1);
  }
  await clock.pass(200);
  const { length } = server.requests;
  assert.ok(length >= 8 && length <= 13, `${length} requests in a second`);
});

test("a finished stroke is sent at once", async () => {
  const { clock, server, client } = setUp();
  client.update(drawing("half"));
  await clock.pass(1);
  server.last.answer(1);
  await clock.pass(10);
  client.update(drawing("nearly"), { grown: true });
  await clock.pass(10);
  assert.equal(server.last.image, "half", "an unfinished stroke waits for the interval");
  client.update(drawing("whole"), { grown: true, ended: true });
  await clock.pass(1);
  assert.equal(server.last.image, "whole");
  await clock.pass(1000);
  assert.equal(server.requests.length, 2);
});

test("a finished stroke waits only for the request in flight", async () => {
  const { clock, server, client } = setUp();
  client.update(drawing("half"));
  await clock.pass(1);
  client.update(drawing("whole"), { grown: true, ended: true });
  await clock.pass(20);
  assert.equal(server.maxInFlight, 1);
  server.last.answer(1);
  await clock.pass(1);
  assert.deepEqual(server.requests.map(({ image }) => image), ["half", "whole"]);
});

test("a finished stroke does not shorten the retry delay", async () => {
  const { clock, server, client } = setUp();
  client.update(drawing("half"));
  await clock.pass(1);
  server.last.fail();
  await clock.pass(10);
  client.update(drawing("whole"), { grown: true, ended: true });
  await clock.pass(900);
  assert.equal(server.requests.length, 1);
  await clock.pass(200);
  assert.equal(server.last.image, "whole");
});

test("only the latest drawing is pending while a request is in flight", async () => {
  const { clock, server, client } = setUp();
  client.update(drawing("first"));
  await clock.pass(1);
  for (const name of ["second", "third", "fourth"]) client.update(drawing(name), { grown: true });
  await clock.pass(1000);
  assert.equal(server.requests.length, 1);
  server.last.answer(1);
  await clock.pass(100);
  assert.deepEqual(server.requests.map(({ image }) => image), ["first", "fourth"]);
});

test("a quick answer about an older revision is accepted while ink is added, a late one dropped", async () => {
  const { clock, server, predictions, client } = setUp();
  client.update(drawing("first"));
  await clock.pass(1);
  client.update(drawing("second"), { grown: true });
  await clock.pass(50);
  server.last.answer(1);
  await clock.pass(100);
  assert.deepEqual(predictions, [1]);
  client.update(drawing("third"), { grown: true });
  await clock.pass(2000);
  server.last.answer(2); // about "second", two seconds late
  await clock.pass(10);
  assert.deepEqual(predictions, [1]);
  server.last.answer(3);
  await clock.pass(10);
  assert.deepEqual(predictions, [1, 3]);
});

test("a prediction is reported with whether it is about the current drawing", async () => {
  const { clock, server, current, client } = setUp();
  client.update(drawing("first"));
  await clock.pass(1);
  client.update(drawing("second"), { grown: true });
  server.last.answer(1);
  await clock.pass(100);
  server.last.answer(2);
  await clock.pass(1);
  assert.deepEqual(current, [false, true]);
});

test("a slow answer about the current drawing is accepted", async () => {
  const { clock, server, predictions, client } = setUp();
  client.update(drawing("seven"));
  await clock.pass(4000);
  server.last.answer(7);
  await clock.pass(1);
  assert.deepEqual(predictions, [7]);
});

test("a quick answer about the drawing before undo or redo is dropped", async () => {
  const { clock, server, predictions, client } = setUp();
  client.update(drawing("eight"));
  await clock.pass(1);
  client.update(drawing("undone"));
  server.last.answer(8);
  await clock.pass(100);
  assert.deepEqual(predictions, []);
  server.last.answer(3);
  await clock.pass(1);
  assert.deepEqual(predictions, [3]);
});

test("after reset the answer is dropped and no request is sent", async () => {
  const { clock, server, predictions, client } = setUp();
  client.update(drawing("seven"));
  await clock.pass(1);
  client.update(drawing("seven and more"), { grown: true });
  client.reset();
  server.last.answer(7);
  await clock.pass(20000);
  assert.deepEqual(predictions, []);
  assert.equal(server.requests.length, 1);
});

test("a drawing that is reset before it is sent is not encoded", async () => {
  const { clock, server, client } = setUp();
  client.update(() => assert.fail("encoded"));
  client.reset();
  await clock.pass(1000);
  assert.equal(server.requests.length, 0);
});

test("an unreachable server is reported, and retried after 1, 2, 4, 8, 8 seconds until it answers", async () => {
  const { clock, server, predictions, errors, client } = setUp();
  client.update(drawing("seven"));
  await clock.pass(0);
  for (const pause of [1000, 2000, 4000, 8000, 8000]) {
    const before = server.requests.length;
    server.last.fail();
    await clock.pass(pause - 1);
    assert.equal(server.requests.length, before, `sent before ${pause} ms`);
    await clock.pass(1);
    assert.equal(server.requests.length, before + 1, `not sent after ${pause} ms`);
  }
  assert.ok(errors.length === 5 && errors.every(({ kind }) => kind === "offline"));
  server.last.answer(7);
  await clock.pass(1);
  assert.deepEqual(predictions, [7]);
  client.update(drawing("next"));
  await clock.pass(90);
  assert.equal(server.last.image, "next", "the interval is the usual one again");
});

test("drawing on while the server is unreachable keeps the retry delay and sends the latest drawing", async () => {
  const { clock, server, client } = setUp();
  client.update(drawing("first"));
  await clock.pass(0);
  server.last.fail();
  await clock.pass(100);
  for (const name of ["second", "third"]) client.update(drawing(name), { grown: true });
  await clock.pass(800);
  assert.equal(server.requests.length, 1);
  await clock.pass(100);
  assert.deepEqual(server.requests.map(({ image }) => image), ["first", "third"]);
});

test("retryNow sends without waiting for the retry delay", async () => {
  const { clock, server, client } = setUp();
  client.update(drawing("seven"));
  await clock.pass(0);
  for (let i = 0; i < 4; i += 1) {
    server.last.fail();
    await clock.pass(8000);
  }
  server.last.fail();
  await clock.pass(10);
  const before = server.requests.length;
  client.retryNow();
  await clock.pass(0);
  assert.equal(server.requests.length, before + 1);
});

test("a request without an answer is aborted after five seconds", async () => {
  const { clock, server, errors, client } = setUp();
  client.update(drawing("seven"));
  await clock.pass(4999);
  assert.equal(server.inFlight, 1);
  await clock.pass(1);
  assert.equal(server.inFlight, 0);
  assert.equal(errors[0].kind, "offline");
});

test("a refused picture is reported with the server's message and not sent again until it changes", async () => {
  const { clock, server, predictions, errors, client } = setUp();
  client.update(drawing("odd"));
  await clock.pass(0);
  server.last.refuse(400, { error: { code: "picture", message: "This picture cannot be read." } });
  await clock.pass(30000);
  assert.deepEqual(errors, [{ kind: "error", message: "This picture cannot be read." }]);
  assert.equal(server.requests.length, 1);
  client.update(drawing("better"), { grown: true });
  await clock.pass(0);
  server.last.answer(4);
  await clock.pass(0);
  assert.deepEqual(predictions, [4]);
});

for (const [name, status, body] of [
  ["a busy server", 503, { error: { code: "busy", message: "No model yet." } }],
  ["a proxy's page", 502, "<h1>Bad gateway</h1>"],
  ["half an answer", 200, '{"top": ['],
  ["an answer of another shape", 200, { hello: 1 }],
  ["an answer that names no digits", 200, { verdict: "digit", top: [], probabilities: [] }],
]) {
  test(`${name} is an error, and is retried`, async () => {
    const { clock, server, predictions, errors, client } = setUp();
    client.update(drawing("seven"));
    await clock.pass(0);
    server.last.refuse(status, body);
    await clock.pass(1000);
    assert.equal(errors[0].kind, "error");
    assert.equal(errors[0].message, body.error?.message ?? errors[0].message);
    server.last.answer(7);
    await clock.pass(0);
    assert.deepEqual(predictions, [7]);
  });
}

for (const [status, code] of [[429, "too_many_requests"], [503, "overloaded"]]) {
  test(`${code} is no error: the page waits as long as Retry-After says, says so, and reads the latest drawing`, async () => {
    const { clock, server, predictions, errors, client } = setUp();
    client.update(drawing("seven"));
    await clock.pass(0);
    server.last.refuse(status, { error: { code, message: "Too many requests." } }, { "Retry-After": "3" });
    await clock.pass(100);
    client.update(drawing("seven and more"), { grown: true, ended: true });
    await clock.pass(2899);
    assert.equal(server.requests.length, 1);
    await clock.pass(1);
    assert.deepEqual(server.requests.map(({ image }) => image), ["seven", "seven and more"]);
    assert.deepEqual(errors.map(({ kind }) => kind), ["waiting"]);
    assert.match(errors[0].message, /^Many are drawing at once\. Reading again/);
    server.last.answer(7);
    await clock.pass(1);
    assert.deepEqual([predictions, server.maxInFlight], [[7], 1]);
  });
}

test("where many ask, a page asks less often while the pen moves, but at once when it is lifted", async () => {
  const { clock, server, client } = setUp();
  const draw = async (seconds) => {
    const before = server.requests.length;
    for (let i = 0; i < 100 * seconds; i += 1) {
      client.update(drawing(`stage ${i}`), { grown: true });
      await clock.pass(10);
      if (server.inFlight) server.last.answer(1);
    }
    return server.requests.length - before;
  };
  client.update(drawing("first"));
  for (const wait of [1000, 2000, 4000]) {
    await clock.pass(0);
    server.last.refuse(429, {});
    await clock.pass(wait);
  }
  server.last.answer(1); // the interval was doubled three times
  const slow = await draw(2);
  assert.ok(slow >= 2 && slow <= 5, `${slow} requests in two seconds`);
  client.update(drawing("whole"), { grown: true, ended: true });
  await clock.pass(1);
  assert.equal(server.last.image, "whole");
  server.last.answer(1);
  await draw(20);
  const usual = await draw(1);
  assert.ok(usual >= 8, `${usual} requests in a second`);
});

test("pages that were told to wait for as long come back spread over half as long again", async () => {
  for (const [chance, wait] of [[0, 4000], [0.5, 5000], [0.99, 5980]]) {
    const { clock, server, client } = setUp({ random: () => chance });
    client.update(drawing("seven"));
    await clock.pass(0);
    server.last.refuse(429, {}, { "Retry-After": "4" });
    await clock.pass(wait - 1);
    assert.equal(server.requests.length, 1);
    await clock.pass(1);
    assert.equal(server.requests.length, 2);
  }
});

test("after random events one request at a time was in flight, and the last drawing is predicted", async () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    const random = randomNumbers(seed);
    const { clock, server, predictions, client } = setUp();
    let onSheet = null;
    for (let step = 0; step < 120; step += 1) {
      const dice = random();
      if (dice < 0.5) {
        onSheet = step;
        client.update(drawing(step), { grown: random() < 0.8 });
      } else if (dice < 0.55) {
        onSheet = null;
        client.reset();
      } else if (dice < 0.6) {
        client.retryNow();
      } else if (server.inFlight > 0) {
        if (random() < 0.2) server.last.fail();
        else server.last.answer(server.last.image);
      }
      await clock.pass(Math.floor(random() * 150));
      assert.ok(server.maxInFlight <= 1, `seed ${seed}: ${server.maxInFlight} requests at once`);
    }
    const before = predictions.length;
    for (let i = 0; i < 6; i += 1) {
      if (server.inFlight > 0) server.last.answer(server.last.image);
      await clock.pass(9000);
    }
    if (onSheet === null) assert.equal(predictions.length, before, `seed ${seed}: prediction of a blank sheet`);
    else assert.equal(predictions.at(-1), onSheet, `seed ${seed}`);
  }
});
