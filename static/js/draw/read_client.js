/*
 * Asks the server to read the numbers in a picture. At most one request is of interest: a new one, or cancel(), drops
 * the one before. Depends on no page: fetch and the clock are passed in.
 */

const TIMEOUT = 30_000; // ms; a large file on a slow line
const UNREACHABLE = "The server cannot be reached. Try again.";
const UNREADABLE = "The server gave no readable answer. Try again.";

const isAnswer = (body) => Array.isArray(body?.digits) && Array.isArray(body.lines) && Boolean(body.reading);

export class ReadClient {
  #url;
  #fetch;
  #clock;
  #controller = null;

  /** clock: {setTimeout(f, ms), clearTimeout(id)}. */
  constructor({ url, fetch, clock }) {
    this.#url = url;
    this.#fetch = fetch;
    this.#clock = clock;
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
    const limit = this.#clock.setTimeout(() => controller.abort(), TIMEOUT);
    const outcome = await this.#request(encode(), controller.signal);
    this.#clock.clearTimeout(limit);
    return this.#controller === controller ? outcome : null;
  }

  async #request(body, signal) {
    let response;
    try {
      response = await this.#fetch(this.#url, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify(body),
        signal,
      });
    } catch {
      return { message: UNREACHABLE };
    }
    const answer = await response.json().catch(() => null);
    if (response.ok && isAnswer(answer)) return { answer };
    return { message: answer?.error?.message || UNREADABLE };
  }
}
