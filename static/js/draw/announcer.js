/*
 * Says a thing once it has stopped changing: a screen reader should hear the reading, not every guess on the way.
 */

const SETTLED_AFTER = 900; // ms

export class Announcer {
  #line;
  #timer = null;

  /** line: an element with aria-live. */
  constructor(line) {
    this.#line = line;
  }

  sayWhenSettled(text) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#line.textContent !== text) this.#line.textContent = text;
    }, SETTLED_AFTER);
  }

  sayNow(text) {
    clearTimeout(this.#timer);
    this.#line.textContent = text;
  }
}
