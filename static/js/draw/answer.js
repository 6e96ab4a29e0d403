/*
 * A reading, shown: its verdict in words, the three likeliest digits, bars for all ten, the digit image, the version.
 * Everything has its place in the page beforehand; only texts, attributes and scales change, so nothing moves. How a
 * verdict looks is the style sheet's affair: `data-verdict` names it, `is-named` marks the digits that it names.
 */

import { inWords, percent } from "./words.js";

const NOTHING = { verdict: "blank", digits: [], top: [], probabilities: [], digit_image: null, version: null };
const REFUSE_AFTER = 500; // ms: while the pen moves, half a digit looks like no digit

export class Answer {
  #place;
  #verdict;
  #remark;
  #top;
  #bars;
  #seen;
  #version;
  #refusal = null;

  /** place: the element around the two lines of words, the three places, the ten rows, the image and the version. */
  constructor(place) {
    this.#place = place;
    this.#verdict = place.querySelector(".verdict");
    this.#remark = place.querySelector(".remark");
    this.#top = [...place.querySelector(".top").children];
    this.#bars = [...place.querySelector(".bars").children];
    this.#seen = place.querySelector(".seen img");
    this.#version = place.querySelector(".version");
  }

  /** Shows a reading at once; only the words of a refusal wait until the drawing has rested for a moment. */
  show(reading) {
    this.#say(reading);
    this.#place.dataset.verdict = reading.verdict;
    this.#top.forEach((place, rank) => this.#fillPlace(place, reading.top[rank], reading.digits));
    this.#bars.forEach((row, digit) => this.#fillBar(row, reading.probabilities[digit], reading.digits.includes(digit)));
    this.#fillSeen(reading.digit_image);
    this.#version.textContent = reading.version ? `Read by ${reading.version}` : "";
  }

  clear() {
    this.show(NOTHING);
  }

  #say(reading) {
    clearTimeout(this.#refusal);
    if (reading.verdict !== "not_a_digit") {
      this.#write(reading);
      return;
    }
    if (this.#place.dataset.verdict !== "not_a_digit") this.#write(NOTHING);
    this.#refusal = setTimeout(() => this.#write(reading), REFUSE_AFTER);
  }

  #write(reading) {
    const { verdict, remark } = inWords(reading);
    this.#verdict.textContent = verdict;
    this.#remark.textContent = remark;
  }

  #fillPlace(place, candidate, named) {
    const known = candidate !== undefined;
    place.dataset.digit = known ? candidate.digit : "";
    place.dataset.probability = known ? candidate.probability : "";
    place.classList.toggle("is-named", known && named.includes(candidate.digit));
    place.querySelector(".place-digit").textContent = known ? candidate.digit : "";
    place.querySelector(".place-value").textContent = known ? percent(candidate.probability) : "";
  }

  #fillBar(row, probability, isNamed) {
    const known = probability !== undefined;
    row.classList.toggle("is-named", isNamed);
    row.querySelector(".bar").style.transform = `scaleX(${known ? probability : 0})`;
    row.querySelector(".bar-value").textContent = known ? percent(probability) : "";
  }

  #fillSeen(image) {
    this.#seen.hidden = !image;
    if (image) this.#seen.src = image;
    else this.#seen.removeAttribute("src");
  }
}
