/*
 * Corrections that the server does not take yet since too many come at once: kept in the tab, and sent one after the
 * other when it will take them. Depends on no page: what sends them, the clock and the storage are passed in.
 */

const KEY = "outbox";
const MOST = 20; // corrections; a picture has some 17 kB, and the tab keeps 1 MB
const PAUSE = 1000; // ms between two
const RETRY = 30_000; // ms, while the server cannot be reached

export class Outbox {
  #send;
  #clock;
  #storage;
  #onTried;
  #corrections = [];
  #dueAt = 0; // ms since 1970
  #timer = null;

  /**
   * send(correction): returns {receipt}, or {retryable, wait} on failure, `wait` in seconds. clock: {now(), setTimeout(f,
   * ms), clearTimeout(id)}. storage: {recall, remember, forget}. onTried(outcome, correction): one has been sent; it is
   * kept if the outcome is retryable. Corrections of before a reload are there again.
   */
  constructor({ send, clock, storage, onTried }) {
    this.#send = send;
    this.#clock = clock;
    this.#storage = storage;
    this.#onTried = onTried;
    const kept = JSON.parse(storage.recall(KEY) ?? "null");
    if (kept) {
      this.#corrections = kept.corrections;
      this.#schedule(kept.dueAt - clock.now());
    }
  }

  get size() {
    return this.#corrections.length;
  }

  /** When the next one is sent, in ms since 1970. */
  get dueAt() {
    return this.#dueAt;
  }

  /**
   * Keep a correction that is to wait some seconds, in place of one of the same drawing. Return whether there is room
   * for it.
   */
  add(correction, wait) {
    const others = this.#corrections.filter(({ image }) => image !== correction.image);
    if (others.length >= MOST) return false;
    this.#corrections = [...others, correction];
    this.#schedule(1000 * wait);
    return true;
  }

  /** Send none of them. */
  drop() {
    this.#corrections = [];
    this.#schedule(0);
  }

  #schedule(wait) {
    this.#clock.clearTimeout(this.#timer);
    if (this.size === 0) {
      this.#storage.forget(KEY);
      return;
    }
    this.#dueAt = this.#clock.now() + Math.max(0, wait);
    this.#storage.remember(KEY, JSON.stringify({ dueAt: this.#dueAt, corrections: this.#corrections }));
    this.#timer = this.#clock.setTimeout(() => this.#sendFirst(), Math.max(0, wait));
  }

  async #sendFirst() {
    const [first] = this.#corrections;
    const outcome = await this.#send(first);
    const isDone = Boolean(outcome.receipt) || !outcome.retryable;
    if (isDone) this.#corrections = this.#corrections.filter((each) => each !== first);
    this.#schedule(isDone ? PAUSE : outcome.wait ? 1000 * outcome.wait : RETRY);
    this.#onTried(outcome, first);
  }
}
