/*
 * Asks the server to read the numbers in a picture. At most one request is of interest: a new one, or cancel(), drops
 * the one before. Depends on no page: fetch and the clock are passed in.
 */

const TIMEOUT = 30_000; // ms, and for the body
const SLOWEST = 100; // bytes per ms; the server waits as long
const TRIES = 6; // while too many ask at once
const MIN_DELAY = 1000; // ms until the second try, doubled after each
const MAX_DELAY = 8000;
const OVERLOADED = [429, 503];
const UNREACHABLE = "The server cannot be reached. Try again.";
const UNREADABLE = "The server gave no readable answer. Try again.";

const isAnswer = (body) => Array.isArray(body?.digits) && Array.isArray(body.lines) && Boolean(body.reading);

export class ReadClient {
  #url;
  #fetch;
  #clock;
  #onWait;
  #random;
  #controller = null;

  /** clock: {setTimeout(f, ms), clearTimeout(id)}. onWait(): too many ask at once; another try follows. */
  constructor({ url, fetch, clock, onWait, random = Math.random }) {
    this.#url = url;
    this.#fetch = fetch;
    this.#clock = clock;
    this.#onWait = onWait;
    this.#random = random;
  }

  /** Drop the request under way. */
  cancel() {
    this.#controller?.abort();
    this.#controller = null;
  }

  /**
   * Return {answer}, or {message} on failure; null if a later request or cancel() has dropped this one. encode(): what
   * to send. It is called after a delay in ms, so that requests that are dropped meanwhile cost nothing.
   */
  async read(encode, delay = 0) {
    this.cancel();
    const controller = (this.#controller = new AbortController());
    if (delay > 0) await new Promise((resolve) => this.#clock.setTimeout(resolve, delay));
    if (controller.signal.aborted) return null;
    const body = JSON.stringify(encode());
    const limit = this.#clock.setTimeout(() => controller.abort(), TIMEOUT + body.length / SLOWEST);
    const outcome = await this.#request(body, controller.signal);
    this.#clock.clearTimeout(limit);
    return this.#controller === controller ? outcome : null;
  }

  async #request(body, signal, tries = 1) {
    let response;
    try {
      response = await this.#fetch(this.#url, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body,
        signal,
      });
    } catch {
      return { message: UNREACHABLE };
    }
    if (OVERLOADED.includes(response.status) && tries < TRIES) {
      this.#onWait();
      const backoff = Math.min(MAX_DELAY, MIN_DELAY * 2 ** (tries - 1));
      const wait = Math.max(backoff, 1000 * (Number(response.headers?.get("Retry-After")) || 0));
      // A class that was told to wait does not come back all at once.
      await new Promise((resolve) => this.#clock.setTimeout(resolve, wait * (1 + this.#random() / 2)));
      if (!signal.aborted) return this.#request(body, signal, tries + 1);
    }
    const answer = await response.json().catch(() => null);
    if (response.ok && isAnswer(answer)) return { answer };
    return { message: answer?.error?.message || UNREADABLE };
  }
}
