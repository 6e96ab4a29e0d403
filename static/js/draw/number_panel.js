/*
 * Shows a number of several digits: large in the answer, each digit a button, and a box around each in the drawing or
 * the picture. draw.js loads this module with the first number.
 */

import { isNumber, linesOf, predictionOf, describeNumber, signText, speechOf } from "./numbers.js";
import { addStyleSheet, createElement } from "./elements.js";

const MOST_WITH_IMAGES = 2; // lines; more leave no room below the digits

export class NumberPanel {
  #answer; // element
  #panel;
  #announcer;
  #offer;
  #root = createElement("div", { class: "number", role: "group", "aria-label": "The digits of the number" });
  #boxes = createElement("div", { class: "boxes", "aria-hidden": "true" });
  #number = null;
  #parts = new Map(); // digit -> {button, box}
  #chosen = null;

  /**
   * answer: the element of the answer. panel: its AnswerPanel. offer(prediction): offer feedback on a digit; null for
   * none.
   */
  constructor({ answer, panel, announcer, offer }) {
    this.#answer = answer;
    this.#panel = panel;
    this.#announcer = announcer;
    this.#offer = offer;
    this.#root.hidden = true;
    this.loaded = addStyleSheet("number");
    answer.append(this.#root);
    this.#root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#choose(null);
    });
  }

  get isShown() {
    return this.#number !== null;
  }

  /**
   * Show the number of an answer and return true; return false if the answer is none. frame: the element over which the
   * boxes are drawn; toFrame(box): of a drawing, a box of the answer in fractions of the frame.
   */
  show(answer, frame, toFrame = null) {
    if (!isNumber(answer, toFrame !== null)) {
      this.hide();
      return false;
    }
    const hadFocus = this.#root.contains(document.activeElement);
    this.#number = answer;
    this.#parts.clear();
    const lines = linesOf(answer);
    this.#root.replaceChildren(...lines.map((signs) => this.#createLine(signs, lines.length)));
    this.#root.style.setProperty("--lines", lines.length);
    this.#root.style.setProperty("--signs", Math.max(...lines.map((signs) => signs.length)));
    this.#boxes.replaceChildren(...answer.digits.map((digit) => this.#createBox(digit, toFrame?.(digit.box) ?? digit.box)));
    frame.append(this.#boxes);
    this.#root.hidden = false;
    this.#choose(null);
    this.#announcer.sayWhenSettled(speechOf(answer));
    if (hadFocus) this.#root.querySelector("button")?.focus({ preventScroll: true });
    return true;
  }

  hide() {
    if (!this.isShown) return;
    this.#number = this.#chosen = null;
    this.#root.hidden = true;
    this.#boxes.remove();
    delete this.#answer.dataset.number;
  }

  #createLine(signs, lineCount) {
    const children = signs.map((sign) => {
      if (sign.symbol !== undefined) return createElement("span", { class: "sign" }, signText(sign));
      return this.#createButton(sign, lineCount <= MOST_WITH_IMAGES);
    });
    return createElement("div", { class: "number-line" }, ...children);
  }

  #createButton(digit, withImage) {
    const isUnsure = digit.verdict !== "digit";
    const text = createElement("span", { class: "sign" }, signText(digit));
    const image = withImage
      ? [createElement("img", { src: digit.digit_image, width: 28, height: 28, alt: "" })]
      : [];
    const button = createElement("button", { type: "button", "aria-pressed": "false" }, text, ...image);
    button.classList.toggle("is-unsure", isUnsure);
    if (isUnsure) button.append(createElement("span", { class: "visually-hidden" }, ", not sure"));
    button.addEventListener("click", () => this.#choose(this.#chosen === digit ? null : digit));
    this.#parts.set(digit, { button });
    return button;
  }

  #createBox(digit, [left, top, right, bottom]) {
    const box = createElement("i");
    const part = (share) => `${100 * share}%`;
    Object.assign(box.style, { left: part(left), top: part(top), width: part(right - left), height: part(bottom - top) });
    box.classList.toggle("is-unsure", digit.verdict !== "digit");
    this.#parts.get(digit).box = box;
    return box;
  }

  /** Show a digit's top three and offer a correction of it; the whole number for null. */
  #choose(digit) {
    this.#chosen = digit;
    for (const [each, { button, box }] of this.#parts) {
      button.setAttribute("aria-pressed", String(each === digit));
      box.classList.toggle("is-chosen", each === digit);
    }
    this.#answer.dataset.number = digit ? "digit" : "whole";
    const { version, test_accuracy, can_refuse } = this.#number.reading;
    const whole = { verdict: "number", digits: [], top: [], probabilities: [], digit_image: null };
    const prediction = digit
      ? predictionOf(this.#number, digit)
      : { ...whole, words: describeNumber(this.#number), version, test_accuracy, can_refuse };
    this.#panel.show(prediction);
    this.#offer(digit && prediction);
    if (digit) this.#announcer.sayNow(`${prediction.words.verdict}. ${prediction.words.remark}`);
  }
}
