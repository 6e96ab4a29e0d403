/*
 * The discipline of asking: how often the server is asked, which answers still count, and what happens when none comes.
 * Pure of the page: fetch and the clock are handed in.
 *
 * Every state of the drawing has a number. At most one request is under way; while it is, only the latest drawing
 * waits. An answer counts if it is about the drawing as it is now, or about an earlier stage of a drawing that has only
 * grown since and the answer came quickly (otherwise nothing could be read while a pen is moving). All others are
 * dropped.
 */

const DEFAULTS = Object.freeze({
  interval: 90, // ms between two questions
  timeout: 5000, // ms until an unanswered question counts as unreachable
  firstRetry: 1000, // ms, doubled at each failure
  lastRetry: 8000,
  longestWait: 30000, // ms, however much longer a Retry-After asks for
  freshFor: 400, // ms within which an answer about an earlier stage still counts
});

const UNREACHABLE = "The server cannot be reached. Trying again…";
const UNREADABLE = "The server gave no readable answer. Trying again…";

function refusal(status, body, retryAfter) {
  const message = body?.error?.message;
  return {
    trouble: { kind: "error", message: typeof message === "string" && message ? message : UNREADABLE },
    // The same picture would be refused again, unless the server was only busy or broken.
    again: status === 429 || status >= 500,
    wait: Number(retryAfter) > 0 ? Number(retryAfter) * 1000 : 0,
  };
}

function isReading(body) {
  if (body === null || typeof body !== "object") return false;
  return [body.digits, body.top, body.probabilities].every(Array.isArray);
}

export class Reader {
  #url;
  #fetch;
  #clock;
  #onReading;
  #onTrouble;
  #options;

  #latest = 0; // number of the drawing as it is now
  #oldestWelcome = 0; // answers about drawings before this one are dropped, however quick
  #encode = null; // makes the picture of the latest drawing; null when the sheet is blank
  #waiting = false; // the latest drawing has yet to be asked about
  #inFlight = false;
  #timer = null;
  #notBefore = -Infinity;
  #failures = 0;

  /**
   * clock is {now(), setTimeout(f, ms), clearTimeout(id)}; onReading gets the server's answer and whether
   * it is about the drawing as it is now, onTrouble {kind: "offline" | "error", message}. A reading after trouble means
   * that the trouble is over.
   */
  constructor({ url, fetch, clock, onReading, onTrouble, ...options }) {
    this.#url = url;
    this.#fetch = fetch;
    this.#clock = clock;
    this.#onReading = onReading;
    this.#onTrouble = onTrouble;
    this.#options = { ...DEFAULTS, ...options };
  }

  /**
   * There is a new drawing. encode() gives its picture and is called only if it is asked about; grown says that ink was
   * only added since the last one, ended that a stroke is finished: now one looks up and wants the answer at once.
   */
  look(encode, { grown = false, ended = false } = {}) {
    this.#latest += 1;
    if (ended && this.#failures === 0) this.#askSoon();
    if (!grown) this.#oldestWelcome = this.#latest;
    this.#encode = encode;
    this.#waiting = true;
    this.#plan();
  }

  /** The sheet is blank: nothing is asked, and no answer that is still to come counts. */
  forget() {
    this.#latest += 1;
    this.#oldestWelcome = this.#latest;
    this.#encode = null;
    this.#waiting = false;
    this.#failures = 0;
    this.#askSoon();
  }

  /** The network is back: do not sit out the pause between two retries. */
  retryNow() {
    if (this.#failures === 0) return;
    this.#askSoon();
    this.#plan();
  }

  #askSoon() {
    this.#notBefore = this.#clock.now();
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
  }

  #plan() {
    if (!this.#waiting || this.#inFlight || this.#timer !== null) return;
    const wait = Math.max(0, this.#notBefore - this.#clock.now());
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = null;
      this.#askNow();
    }, wait);
  }

  async #askNow() {
    const number = this.#latest;
    const asked = this.#clock.now();
    this.#waiting = false;
    this.#inFlight = true;
    this.#notBefore = asked + this.#options.interval;
    const outcome = await this.#request(this.#encode());
    this.#inFlight = false;
    this.#take(outcome, number, asked);
    this.#plan();
  }

  async #request(image) {
    const controller = new AbortController();
    const limit = this.#clock.setTimeout(() => controller.abort(), this.#options.timeout);
    try {
      const response = await this.#fetch(this.#url, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify({ image }),
        signal: controller.signal,
      });
      const text = await response.text();
      return this.#understand(response, text);
    } catch {
      // fetch rejects for one reason only here: no answer (refused, cut off, or timed out).
      return { trouble: { kind: "offline", message: UNREACHABLE }, again: true };
    } finally {
      this.#clock.clearTimeout(limit);
    }
  }

  #understand(response, text) {
    let body = null;
    try {
      body = JSON.parse(text);
    } catch {
      // Not JSON: a proxy's page, or half an answer. refusal() has words for it.
    }
    if (response.ok && isReading(body)) return { reading: body };
    return refusal(response.ok ? 502 : response.status, body, response.headers?.get("Retry-After"));
  }

  #take(outcome, number, asked) {
    if (outcome.reading) {
      this.#failures = 0;
      if (this.#counts(number, asked)) this.#onReading(outcome.reading, number === this.#latest);
    } else if (this.#encode !== null) {
      this.#takeTrouble(outcome, number);
    }
  }

  #counts(number, asked) {
    if (number === this.#latest) return true;
    return number >= this.#oldestWelcome && this.#clock.now() - asked <= this.#options.freshFor;
  }

  #takeTrouble({ trouble, again, wait = 0 }, number) {
    if (again) {
      const { firstRetry, lastRetry, longestWait } = this.#options;
      const pause = Math.max(Math.min(longestWait, wait), Math.min(lastRetry, firstRetry * 2 ** this.#failures));
      this.#failures += 1;
      this.#notBefore = this.#clock.now() + pause;
      this.#waiting = true;
    } else if (number !== this.#latest) {
      return;
    }
    this.#onTrouble(trouble);
  }
}
