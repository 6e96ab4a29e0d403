/*
 * Text for screen readers in a live region.
 */

const SETTLE_DELAY = 900; // ms

export class Announcer {
  #region;
  #timer = null;

  /** region: an element with aria-live. */
  constructor(region) {
    this.#region = region;
  }

  /** Announce the text unless another one follows soon: do not read out each prediction while a digit is drawn. */
  sayWhenSettled(text) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#region.textContent !== text) this.#region.textContent = text;
    }, SETTLE_DELAY);
  }

  sayNow(text) {
    clearTimeout(this.#timer);
    this.#region.textContent = text;
  }
}
