/*
 * A reading, shown: the three likeliest digits, bars for all ten, the digit image, the version. Everything has its
 * place in the page beforehand; only texts, attributes and scales change, so nothing moves.
 */

/** "98 %"; the ends say "<1 %" and ">99 %", since a rounded 0 or 100 would claim certainty. */
export function percent(probability) {
  if (probability >= 0.995) return ">99\u00a0%";
  if (probability < 0.005) return "<1\u00a0%";
  return `${Math.round(probability * 100)}\u00a0%`;
}

/** "7, 98 percent", for the ear. */
export function spoken({ digit, probability }) {
  const [sign, number] = percent(probability).match(/^([<>]?)(\d+)/).slice(1);
  const about = { "<": "less than ", ">": "more than ", "": "" }[sign];
  return `${digit}, ${about}${number} percent`;
}

export class Answer {
  #top;
  #bars;
  #seen;
  #version;

  /** top: the ol with three places; bars: the list with ten rows; seen: the img; version: the line that names it. */
  constructor({ top, bars, seen, version }) {
    this.#top = [...top.children];
    this.#bars = [...bars.children];
    this.#seen = seen;
    this.#version = version;
  }

  show(reading) {
    this.#top.forEach((place, rank) => this.#fillPlace(place, reading.top[rank]));
    const best = reading.top[0]?.digit;
    this.#bars.forEach((row, digit) => this.#fillBar(row, reading.probabilities[digit], digit === best));
    this.#fillSeen(reading.digit_image);
    this.#version.textContent = reading.version ? `Read by ${reading.version}` : "";
  }

  clear() {
    this.show({ top: [], probabilities: [], digit_image: null, version: null });
  }

  #fillPlace(place, candidate) {
    const known = candidate !== undefined;
    place.dataset.digit = known ? candidate.digit : "";
    place.dataset.probability = known ? candidate.probability : "";
    place.querySelector(".place-digit").textContent = known ? candidate.digit : "";
    place.querySelector(".place-value").textContent = known ? percent(candidate.probability) : "";
  }

  #fillBar(row, probability, isBest) {
    const known = probability !== undefined;
    row.classList.toggle("is-best", isBest);
    row.querySelector(".bar").style.transform = `scaleX(${known ? probability : 0})`;
    row.querySelector(".bar-value").textContent = known ? percent(probability) : "";
  }

  #fillSeen(image) {
    this.#seen.hidden = !image;
    if (image) this.#seen.src = image;
    else this.#seen.removeAttribute("src");
  }
}
