/*
 * Shows a prediction: the verdict, the top three digits, bars for all ten, the digit image, the version.
 * The page holds all elements from the start; only texts, attributes and scales change, to avoid layout shifts.
 * The style sheet selects by `data-verdict`, and by `is-named` on the digits that the verdict names.
 */

import { describe, percent } from "./words.js";

const BLANK = { verdict: "blank", digits: [], top: [], probabilities: [], digit_image: null, version: null };
const REFUSAL_DELAY = 500; // ms; half a digit looks like no digit while the pen moves

export class AnswerPanel {
  #root;
  #verdict;
  #remark;
  #top;
  #bars;
  #image;
  #version;
  #refusalTimer = null;

  /** root: the element that contains .verdict, .remark, .top, .bars, .seen and .version. */
  constructor(root) {
    this.#root = root;
    this.#verdict = root.querySelector(".verdict");
    this.#remark = root.querySelector(".remark");
    this.#top = [...root.querySelector(".top").children];
    this.#bars = [...root.querySelector(".bars").children];
    this.#image = root.querySelector(".seen img");
    this.#version = root.querySelector(".version");
  }

  /** Show a prediction. Delay only the text of a refusal, until the drawing has not changed for a moment. */
  show(prediction) {
    this.#showText(prediction);
    this.#root.dataset.verdict = prediction.verdict;
    this.#top.forEach((item, rank) => this.#fillTop(item, prediction.top[rank], prediction.digits));
    this.#bars.forEach((row, digit) => {
      this.#fillBar(row, prediction.probabilities[digit], prediction.digits.includes(digit));
    });
    this.#fillImage(prediction.digit_image);
    this.#version.textContent = prediction.version ? `Read by ${prediction.version}` : "";
  }

  clear() {
    this.show(BLANK);
  }

  #showText(prediction) {
    clearTimeout(this.#refusalTimer);
    if (prediction.verdict !== "not_a_digit") {
      this.#writeText(prediction);
      return;
    }
    if (this.#root.dataset.verdict !== "not_a_digit") this.#writeText(BLANK);
    this.#refusalTimer = setTimeout(() => this.#writeText(prediction), REFUSAL_DELAY);
  }

  #writeText(prediction) {
    const { verdict, remark } = describe(prediction);
    this.#verdict.textContent = verdict;
    this.#remark.textContent = remark;
  }

  #fillTop(item, candidate, named) {
    const known = candidate !== undefined;
    item.dataset.digit = known ? candidate.digit : "";
    item.dataset.probability = known ? candidate.probability : "";
    item.classList.toggle("is-named", known && named.includes(candidate.digit));
    item.querySelector(".place-digit").textContent = known ? candidate.digit : "";
    item.querySelector(".place-value").textContent = known ? percent(candidate.probability) : "";
  }

  #fillBar(row, probability, isNamed) {
    const known = probability !== undefined;
    row.classList.toggle("is-named", isNamed);
    row.querySelector(".bar").style.transform = `scaleX(${known ? probability : 0})`;
    row.querySelector(".bar-value").textContent = known ? percent(probability) : "";
  }

  #fillImage(image) {
    this.#image.hidden = !image;
    if (image) this.#image.src = image;
    else this.#image.removeAttribute("src");
  }
}
