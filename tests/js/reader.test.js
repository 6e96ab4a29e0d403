import assert from "node:assert/strict";
import test from "node:test";

import { pageModule } from "./page_modules.js";
import { randomNumbers } from "./random.js";

const { Reader } = await pageModule("draw/reader");

/** A clock that moves only when told to. */
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

/** Lets every promise that can go on do so. */
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

/** A server whose answers the test gives by hand: server.asked[i].answer(digit), .fail(), .refuse(status, body). */
class Server {
  asked = [];
  underWay = 0;
  mostUnderWay = 0;

  fetch = (url, { method, body, signal }) => {
    this.underWay += 1;
    this.mostUnderWay = Math.max(this.mostUnderWay, this.underWay);
    return new Promise((resolve, reject) => {
      const close = (finish) => (value) => {
        this.underWay -= 1;
        finish(value);
      };
      const succeed = close(resolve);
      const fail = close(reject);
      signal.addEventListener("abort", () => fail(new Error("aborted")));
      this.asked.push({
        url,
        method,
        image: JSON.parse(body).image,
        answer: (digit) => succeed(response(200, reading(digit))),
        refuse: (status, problem, headers) => succeed(response(status, problem, headers)),
        fail: () => fail(new TypeError("Failed to fetch")),
      });
    });
  };

  get last() {
    return this.asked.at(-1);
  }
}

function reading(digit) {
  const top = [{ digit, probability: 0.9 }];
  return { verdict: "digit", digits: [digit], top, probabilities: Array(10).fill(0.1), version: "v1" };
}

function bench() {
  const clock = new Clock();
  const server = new Server();
  const readings = [];
  const ofNow = [];
  const troubles = [];
  const reader = new Reader({
    url: "/predict",
    fetch: server.fetch,
    clock,
    onReading: ({ top }, isOfNow) => {
      readings.push(top[0].digit);
      ofNow.push(isOfNow);
    },
    onTrouble: (trouble) => troubles.push(trouble),
  });
  return { clock, server, readings, ofNow, troubles, reader };
}

const drawing = (name) => () => name;

test("a drawing is asked about, and its reading is told", async () => {
  const { clock, server, readings, reader } = bench();
  reader.look(drawing("seven"));
  await clock.pass(1);
  assert.deepEqual([server.last.url, server.last.method, server.last.image], ["/predict", "POST", "seven"]);
  server.last.answer(7);
  await clock.pass(1000);
  assert.deepEqual(readings, [7]);
  assert.equal(server.asked.length, 1);
});

test("a fast pen does not ask more often than the interval", async () => {
  const { clock, server, reader } = bench();
  for (let i = 0; i < 100; i += 1) {
    reader.look(drawing(`stage ${i}`), { grown: true });
    await clock.pass(10);
    if (server.underWay) server.last.answer(1);
  }
  await clock.pass(200);
  assert.ok(server.asked.length >= 8 && server.asked.length <= 13, `${server.asked.length} questions in a second`);
});

test("a finished stroke is asked about at once", async () => {
  const { clock, server, reader } = bench();
  reader.look(drawing("half"));
  await clock.pass(1);
  server.last.answer(1);
  await clock.pass(10);
  reader.look(drawing("nearly"), { grown: true });
  await clock.pass(10);
  assert.equal(server.last.image, "half", "a moving pen waits for its turn");
  reader.look(drawing("whole"), { grown: true, ended: true });
  await clock.pass(1);
  assert.equal(server.last.image, "whole");
  await clock.pass(1000);
  assert.equal(server.asked.length, 2);
});

test("a finished stroke waits for the question under way, and no longer", async () => {
  const { clock, server, reader } = bench();
  reader.look(drawing("half"));
  await clock.pass(1);
  reader.look(drawing("whole"), { grown: true, ended: true });
  await clock.pass(20);
  assert.equal(server.mostUnderWay, 1);
  server.last.answer(1);
  await clock.pass(1);
  assert.deepEqual(server.asked.map(({ image }) => image), ["half", "whole"]);
});

test("a finished stroke does not press a server that is in trouble", async () => {
  const { clock, server, reader } = bench();
  reader.look(drawing("half"));
  await clock.pass(1);
  server.last.fail();
  await clock.pass(10);
  reader.look(drawing("whole"), { grown: true, ended: true });
  await clock.pass(900);
  assert.equal(server.asked.length, 1);
  await clock.pass(200);
  assert.equal(server.last.image, "whole");
});

test("while a question is under way only the latest drawing waits", async () => {
  const { clock, server, reader } = bench();
  reader.look(drawing("first"));
  await clock.pass(1);
  for (const name of ["second", "third", "fourth"]) reader.look(drawing(name), { grown: true });
  await clock.pass(1000);
  assert.equal(server.asked.length, 1);
  server.last.answer(1);
  await clock.pass(100);
  assert.deepEqual(server.asked.map(({ image }) => image), ["first", "fourth"]);
});

test("a quick answer counts while the drawing grows, a late one does not", async () => {
  const { clock, server, readings, reader } = bench();
  reader.look(drawing("first"));
  await clock.pass(1);
  reader.look(drawing("second"), { grown: true });
  await clock.pass(50);
  server.last.answer(1);
  await clock.pass(100);
  assert.deepEqual(readings, [1]);
  reader.look(drawing("third"), { grown: true });
  await clock.pass(2000);
  server.last.answer(2); // about "second", two seconds late
  await clock.pass(10);
  assert.deepEqual(readings, [1]);
  server.last.answer(3);
  await clock.pass(10);
  assert.deepEqual(readings, [1, 3]);
});

test("a reading says whether it is about the drawing as it is now", async () => {
  const { clock, server, ofNow, reader } = bench();
  reader.look(drawing("first"));
  await clock.pass(1);
  reader.look(drawing("second"), { grown: true });
  server.last.answer(1);
  await clock.pass(100);
  server.last.answer(2);
  await clock.pass(1);
  assert.deepEqual(ofNow, [false, true]);
});

test("a slow answer about the drawing as it still is counts", async () => {
  const { clock, server, readings, reader } = bench();
  reader.look(drawing("seven"));
  await clock.pass(4000);
  server.last.answer(7);
  await clock.pass(1);
  assert.deepEqual(readings, [7]);
});

test("after undo or redo even a quick answer about the drawing before is dropped", async () => {
  const { clock, server, readings, reader } = bench();
  reader.look(drawing("eight"));
  await clock.pass(1);
  reader.look(drawing("undone"));
  server.last.answer(8);
  await clock.pass(100);
  assert.deepEqual(readings, []);
  server.last.answer(3);
  await clock.pass(1);
  assert.deepEqual(readings, [3]);
});

test("after clear the answer is dropped and nothing more is asked", async () => {
  const { clock, server, readings, reader } = bench();
  reader.look(drawing("seven"));
  await clock.pass(1);
  reader.look(drawing("seven and more"), { grown: true });
  reader.forget();
  server.last.answer(7);
  await clock.pass(20000);
  assert.deepEqual(readings, []);
  assert.equal(server.asked.length, 1);
});

test("a sheet that is blank again before its turn is never encoded", async () => {
  const { clock, server, reader } = bench();
  reader.look(() => assert.fail("encoded"));
  reader.forget();
  await clock.pass(1000);
  assert.equal(server.asked.length, 0);
});

test("an unreachable server is said, asked again after 1, 2, 4, 8, 8 seconds, and found again", async () => {
  const { clock, server, readings, troubles, reader } = bench();
  reader.look(drawing("seven"));
  await clock.pass(0);
  for (const pause of [1000, 2000, 4000, 8000, 8000]) {
    const before = server.asked.length;
    server.last.fail();
    await clock.pass(pause - 1);
    assert.equal(server.asked.length, before, `asked before ${pause} ms`);
    await clock.pass(1);
    assert.equal(server.asked.length, before + 1, `not asked after ${pause} ms`);
  }
  assert.ok(troubles.length === 5 && troubles.every(({ kind }) => kind === "offline"));
  server.last.answer(7);
  await clock.pass(1);
  assert.deepEqual(readings, [7]);
  reader.look(drawing("next"));
  await clock.pass(90);
  assert.equal(server.last.image, "next", "the pause between questions is the usual one again");
});

test("drawing on while the server is away keeps the pause and sends the latest drawing", async () => {
  const { clock, server, reader } = bench();
  reader.look(drawing("first"));
  await clock.pass(0);
  server.last.fail();
  await clock.pass(100);
  for (const name of ["second", "third"]) reader.look(drawing(name), { grown: true });
  await clock.pass(800);
  assert.equal(server.asked.length, 1);
  await clock.pass(100);
  assert.deepEqual(server.asked.map(({ image }) => image), ["first", "third"]);
});

test("when the network is back it is tried at once", async () => {
  const { clock, server, reader } = bench();
  reader.look(drawing("seven"));
  await clock.pass(0);
  for (let i = 0; i < 4; i += 1) {
    server.last.fail();
    await clock.pass(8000);
  }
  server.last.fail();
  await clock.pass(10);
  const before = server.asked.length;
  reader.retryNow();
  await clock.pass(0);
  assert.equal(server.asked.length, before + 1);
});

test("a question without an answer is given up after five seconds", async () => {
  const { clock, server, troubles, reader } = bench();
  reader.look(drawing("seven"));
  await clock.pass(4999);
  assert.equal(server.underWay, 1);
  await clock.pass(1);
  assert.equal(server.underWay, 0);
  assert.equal(troubles[0].kind, "offline");
});

test("a refused picture shows the server's words and is not sent again until it changes", async () => {
  const { clock, server, readings, troubles, reader } = bench();
  reader.look(drawing("odd"));
  await clock.pass(0);
  server.last.refuse(400, { error: { code: "picture", message: "This picture cannot be read." } });
  await clock.pass(30000);
  assert.deepEqual(troubles, [{ kind: "error", message: "This picture cannot be read." }]);
  assert.equal(server.asked.length, 1);
  reader.look(drawing("better"), { grown: true });
  await clock.pass(0);
  server.last.answer(4);
  await clock.pass(0);
  assert.deepEqual(readings, [4]);
});

for (const [story, status, body] of [
  ["a busy server", 503, { error: { code: "busy", message: "No model yet." } }],
  ["a proxy's page", 502, "<h1>Bad gateway</h1>"],
  ["half an answer", 200, '{"top": ['],
  ["an answer of another shape", 200, { hello: 1 }],
  ["an answer that names no digits", 200, { verdict: "digit", top: [], probabilities: [] }],
]) {
  test(`${story} is trouble, and is asked again`, async () => {
    const { clock, server, readings, troubles, reader } = bench();
    reader.look(drawing("seven"));
    await clock.pass(0);
    server.last.refuse(status, body);
    await clock.pass(1000);
    assert.equal(troubles[0].kind, "error");
    assert.equal(troubles[0].message, body.error?.message ?? troubles[0].message);
    server.last.answer(7);
    await clock.pass(0);
    assert.deepEqual(readings, [7]);
  });
}

test("a server that asks for patience gets it", async () => {
  const { clock, server, reader } = bench();
  reader.look(drawing("seven"));
  await clock.pass(0);
  server.last.refuse(429, { error: { code: "slow", message: "Slow down." } }, { "Retry-After": "3" });
  await clock.pass(2999);
  assert.equal(server.asked.length, 1);
  await clock.pass(1);
  assert.equal(server.asked.length, 2);
});

test("whatever happens in whatever order, one question at a time, and the last drawing is the one read", async () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    const random = randomNumbers(seed);
    const { clock, server, readings, reader } = bench();
    let onSheet = null;
    for (let step = 0; step < 120; step += 1) {
      const dice = random();
      if (dice < 0.5) {
        onSheet = step;
        reader.look(drawing(step), { grown: random() < 0.8 });
      } else if (dice < 0.55) {
        onSheet = null;
        reader.forget();
      } else if (dice < 0.6) {
        reader.retryNow();
      } else if (server.underWay > 0) {
        if (random() < 0.2) server.last.fail();
        else server.last.answer(server.last.image);
      }
      await clock.pass(Math.floor(random() * 150));
      assert.ok(server.mostUnderWay <= 1, `seed ${seed}: ${server.mostUnderWay} questions at once`);
    }
    const before = readings.length;
    for (let i = 0; i < 6; i += 1) {
      if (server.underWay > 0) server.last.answer(server.last.image);
      await clock.pass(9000);
    }
    if (onSheet === null) assert.equal(readings.length, before, `seed ${seed}: read a blank sheet`);
    else assert.equal(readings.at(-1), onSheet, `seed ${seed}`);
  }
});
