/*
 * Shows a prediction: the verdict, the top three digits, bars for all ten, the digit image, the model. If it is no digit,
 * its probability comes first, and the ten are folded.
 * The page holds all elements from the start; only texts, attributes and scales change, to avoid layout shifts.
 * The style sheet selects by `data-verdict`, and by `is-named` on the digits that the verdict names.
 */

import { describe, describeModel, NO_DIGIT, percent } from "./words.js";

const BLANK = { verdict: "blank", digits: [], top: [], probabilities: [], digit_image: null, version: null };
const NEGLIGIBLE = 0.01; // probability of a digit that is not worth a place among the top three
const REFUSAL_DELAY = 500; // ms; half a digit looks like no digit while the pen moves

export class AnswerPanel {
  #root;
  #verdict;
  #remark;
  #top;
  #bars;
  #refusal;
  #ten;
  #image;
  #model;
  #refusalTimer = null;

  /** root: the element that contains .verdict, .remark, .top, .refusal, .ten, .bars, .seen and .model. */
  constructor(root) {
    this.#root = root;
    this.#verdict = root.querySelector(".verdict");
    this.#remark = root.querySelector(".remark");
    this.#top = [...root.querySelector(".top").children];
    this.#bars = [...root.querySelector(".bars").children];
    this.#refusal = root.querySelector(".refusal");
    this.#ten = root.querySelector(".ten");
    this.#image = root.querySelector(".seen img");
    this.#model = root.querySelector(".model");
  }

  /** Show a prediction, with its own `words` if it has some. Delay a refusal until the drawing has not changed for a moment; show only its bars before. */
  show(prediction) {
    clearTimeout(this.#refusalTimer);
    if (prediction.verdict !== NO_DIGIT || this.#root.dataset.verdict === NO_DIGIT) {
      this.#render(prediction);
      return;
    }
    this.#render({ ...prediction, verdict: "pending", reason: null, top: [] });
    this.#refusalTimer = setTimeout(() => this.#render(prediction), REFUSAL_DELAY);
  }

  clear() {
    this.show(BLANK);
  }

  #render(prediction) {
    const { verdict, remark } = prediction.words ?? describe(prediction);
    const isRefusal = prediction.verdict === NO_DIGIT;
    this.#verdict.textContent = verdict;
    this.#remark.textContent = remark;
    // Fold the ten only when the verdict changes: a person may have opened them.
    if (this.#root.dataset.verdict !== prediction.verdict) this.#ten.open = !isRefusal;
    this.#root.dataset.verdict = prediction.verdict;
    this.#top.forEach((item, rank) => {
      this.#fillTop(item, isRefusal ? undefined : prediction.top[rank], prediction.digits);
    });
    this.#bars.forEach((row, digit) => {
      this.#fillBar(row, prediction.probabilities[digit], prediction.digits.includes(digit));
    });
    this.#fillBar(this.#refusal, isRefusal ? prediction.not_a_digit : undefined, isRefusal);
    this.#fillImage(prediction.digit_image);
    this.#fillModel(prediction);
  }

  #fillTop(item, candidate, named) {
    const known = candidate !== undefined;
    const isNamed = known && named.includes(candidate.digit);
    item.dataset.digit = known ? candidate.digit : "";
    item.dataset.probability = known ? candidate.probability : "";
    item.classList.toggle("is-named", isNamed);
    item.classList.toggle("is-negligible", known && !isNamed && candidate.probability < NEGLIGIBLE);
    item.querySelector(".place-digit").textContent = known ? candidate.digit : "";
    item.querySelector(".place-value").textContent = known ? percent(candidate.probability) : "";
  }

  #fillBar(row, probability, isNamed) {
    const known = probability !== undefined;
    row.classList.toggle("is-named", isNamed);
    row.querySelector(".bar").style.transform = `scaleX(${known ? probability : 0})`;
    row.querySelector(".bar-value").textContent = known ? percent(probability) : "";
  }

  #fillModel(prediction) {
    const { name, accuracy, limit } = describeModel(prediction);
    const [nameText, link, limitText] = this.#model.children;
    nameText.textContent = accuracy ? `${name}, ` : name;
    link.textContent = accuracy;
    link.hidden = !accuracy;
    limitText.textContent = limit;
  }

  #fillImage(image) {
    this.#image.hidden = !image;
    if (image) this.#image.src = image;
    else this.#image.removeAttribute("src");
  }
}
