/*
 * Requests predictions of the drawing while it changes: limits the rate, drops stale responses, retries after failures.
 * Depends on no page: fetch and the clock are passed in.
 *
 * Each state of the drawing has a revision number. At most one request is in flight; meanwhile only the latest revision
 * is pending. Accept a response if it is about the latest revision, or if it came quickly and ink was only added since
 * its revision (otherwise no prediction could be shown while the pen moves). Drop all others.
 */

const DEFAULTS = Object.freeze({
  interval: 90, // ms between two requests while the pen moves
  maxInterval: 1500, // where many ask: doubled each time the server says to wait, and shortened with each answer
  timeout: 5000, // ms until a request fails as offline
  minRetryDelay: 1000, // ms, doubled after each failure
  maxRetryDelay: 8000,
  maxWait: 4000, // ms, in its place where the server is there and says to wait
  maxRetryAfter: 30000, // ms, limit on the Retry-After header
  maxAge: 400, // ms between request and response for an older revision to be accepted
  random: Math.random,
});

export const WAITING = "Many are drawing at once. Reading again in a moment …";
const UNREACHABLE = "The server cannot be reached. Trying again…";
const UNREADABLE = "The server gave no readable answer. Trying again…";

function errorOutcome(status, body, retryAfter) {
  const message = body?.error?.message;
  const isBusy = status === 429 || body?.error?.code === "overloaded"; // nothing is wrong
  return {
    error: isBusy
      ? { kind: "waiting", message: WAITING }
      : { kind: "error", message: typeof message === "string" && message ? message : UNREADABLE },
    // Do not retry after other statuses: they reject this picture for good.
    retryable: status === 429 || status >= 500,
    retryAfter: Number(retryAfter) > 0 ? Number(retryAfter) * 1000 : 0,
  };
}

function isPrediction(body) {
  if (body === null || typeof body !== "object") return false;
  return [body.digits, body.top, body.probabilities].every(Array.isArray);
}

export class PredictionClient {
  #url;
  #fetch;
  #clock;
  #onPrediction;
  #onError;
  #options;

  #revision = 0; // of the current drawing
  #oldestAccepted = 0; // drop responses about earlier revisions, regardless of their age
  #encode = null; // returns the picture of the latest revision; null for a blank sheet
  #pending = false; // the latest revision has not been requested yet
  #inFlight = false;
  #timer = null;
  #notBefore = -Infinity;
  #failures = 0;
  #interval;

  /**
   * clock: {now(), setTimeout(f, ms), clearTimeout(id)}. onPrediction(prediction, isCurrent): whether it is about the
   * latest revision. onError({kind: "offline" | "waiting" | "error", message}): the next onPrediction ends the error.
   */
  constructor({ url, fetch, clock, onPrediction, onError, ...options }) {
    this.#url = url;
    this.#fetch = fetch;
    this.#clock = clock;
    this.#onPrediction = onPrediction;
    this.#onError = onError;
    this.#options = { ...DEFAULTS, ...options };
    this.#interval = this.#options.interval;
  }

  /**
   * Request a prediction of a changed drawing. encode() returns its picture, and is called only when a request is sent.
   * grown: ink was only added since the last update. ended: a stroke has ended; do not wait for the interval.
   */
  update(encode, { grown = false, ended = false } = {}) {
    this.#revision += 1;
    if (ended && this.#failures === 0) this.#clearDelay();
    if (!grown) this.#oldestAccepted = this.#revision;
    this.#encode = encode;
    this.#pending = true;
    this.#schedule();
  }

  /** The sheet is blank: send no request, and drop the response of the one in flight. */
  reset() {
    this.#revision += 1;
    this.#oldestAccepted = this.#revision;
    this.#encode = null;
    this.#pending = false;
    this.#failures = 0;
    this.#clearDelay();
  }

  /** The network is back: retry without waiting for the delay. */
  retryNow() {
    if (this.#failures === 0) return;
    this.#clearDelay();
    this.#schedule();
  }

  #clearDelay() {
    this.#notBefore = this.#clock.now();
    if (this.#timer !== null) this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule() {
    if (!this.#pending || this.#inFlight || this.#timer !== null) return;
    const wait = Math.max(0, this.#notBefore - this.#clock.now());
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = null;
      this.#send();
    }, wait);
  }

  async #send() {
    const revision = this.#revision;
    const sentAt = this.#clock.now();
    this.#pending = false;
    this.#inFlight = true;
    this.#notBefore = sentAt + this.#interval;
    const outcome = await this.#request(this.#encode());
    this.#inFlight = false;
    this.#handle(outcome, revision, sentAt);
    this.#schedule();
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
      return this.#parse(response, text);
    } catch {
      // No response: connection refused, broken off or timed out.
      return { error: { kind: "offline", message: UNREACHABLE }, retryable: true };
    } finally {
      this.#clock.clearTimeout(limit);
    }
  }

  #parse(response, text) {
    let body = null;
    try {
      body = JSON.parse(text);
    } catch {
      // Not JSON: a proxy's error page or a truncated response. Report it below as unreadable.
    }
    if (response.ok && isPrediction(body)) return { prediction: body };
    return errorOutcome(response.ok ? 502 : response.status, body, response.headers?.get("Retry-After"));
  }

  #handle(outcome, revision, sentAt) {
    if (outcome.prediction) {
      this.#failures = 0;
      this.#interval = Math.max(this.#options.interval, 0.9 * this.#interval);
      if (this.#accepts(revision, sentAt)) this.#onPrediction(outcome.prediction, revision === this.#revision);
    } else if (this.#encode !== null) {
      this.#handleError(outcome, revision);
    }
  }

  #accepts(revision, sentAt) {
    if (revision === this.#revision) return true;
    return revision >= this.#oldestAccepted && this.#clock.now() - sentAt <= this.#options.maxAge;
  }

  #handleError({ error, retryable, retryAfter = 0 }, revision) {
    if (retryable) {
      const { minRetryDelay, maxRetryDelay, maxRetryAfter, maxWait, maxInterval, random } = this.#options;
      const isTold = error.kind === "waiting";
      const backoff = Math.min(isTold ? maxWait : maxRetryDelay, minRetryDelay * 2 ** this.#failures);
      // A class that was told to wait does not come back all at once.
      const spread = isTold ? 1 + random() / 2 : 1;
      this.#failures += 1;
      if (isTold) this.#interval = Math.min(maxInterval, 2 * this.#interval);
      this.#notBefore = this.#clock.now() + spread * Math.max(backoff, Math.min(maxRetryAfter, retryAfter));
      this.#pending = true;
    } else if (revision !== this.#revision) {
      return;
    }
    this.#onError(error);
  }
}
