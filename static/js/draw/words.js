/*
 * A reading in plain words. Pure of the page.
 */

const REASONS = {
  dot: "It is only a dot.",
  scribble: "It looks like a scribble.",
  several: "It looks like several digits. Draw one at a time.",
  unlike_any_digit: "Draw one digit, 0 to 9.",
};
export const NO_DIGIT = "not_a_digit"; // as a verdict, and as what a person meant
const MOST_NAMED = 4; // of a larger set only the three likeliest, which have their places on the page

/** "a 7", "an 8" */
export const aDigit = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;

/** What a person meant: "a 7", "no digit" */
export const meaning = (meant) => (meant === NO_DIGIT ? "no digit" : aDigit(meant));

function listed(words) {
  return words.length === 1 ? words[0] : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

function oneOf(digits) {
  const named = digits.length > MOST_NAMED ? [...digits.slice(0, 3).map(aDigit), "another"] : digits.map(aDigit);
  const words = listed(named);
  return words[0].toUpperCase() + words.slice(1);
}

function verdictOf({ verdict, digits }) {
  if (verdict === "digit") return `It is ${aDigit(digits[0])}`;
  if (verdict === "unsure") return oneOf(digits);
  return verdict === NO_DIGIT ? "That does not look like a digit" : "";
}

function remarkOn({ verdict, reason, coverage }) {
  if (verdict === "unsure") return `${Math.round(coverage * 100)} of 100 doubtful answers hold the right digit.`;
  return REASONS[reason] ?? "";
}

/**
 * What a reading says, and a quieter remark on it (or ""): "A 4 or a 9", "98 of 100 doubtful answers hold the right
 * digit." A blank sheet says nothing.
 */
export function inWords(reading) {
  return { verdict: verdictOf(reading), remark: remarkOn(reading) };
}

/** For the ear: "It is a 7, 98 percent", "A 4 or a 9", "That does not look like a digit. It is only a dot." */
export function spoken(reading) {
  const words = verdictOf(reading);
  if (reading.verdict === "digit") return `${words}, ${spokenPercent(reading.top[0].probability)}`;
  return reading.verdict === NO_DIGIT ? `${words}. ${remarkOn(reading)}`.trim() : words;
}

/** "98 %"; the ends say "<1 %" and ">99 %", since a rounded 0 or 100 would claim certainty. */
export function percent(probability) {
  if (probability >= 0.995) return ">99\u00a0%";
  if (probability < 0.005) return "<1\u00a0%";
  return `${Math.round(probability * 100)}\u00a0%`;
}

function spokenPercent(probability) {
  const [sign, number] = percent(probability).match(/^([<>]?)(\d+)/).slice(1);
  return `${{ "<": "less than ", ">": "more than ", "": "" }[sign]}${number} percent`;
}
