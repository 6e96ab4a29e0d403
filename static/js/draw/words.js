/*
 * Sentences about a prediction. Depends on no page.
 */

const REASONS = {
  dot: "It is only a dot.",
  scribble: "It looks like a scribble.",
  several: "It looks like several digits. Draw one at a time.",
  unlike_any_digit: "Draw one digit, 0 to 9.",
};
export const NO_DIGIT = "not_a_digit"; // a verdict, and a label of a correction
const MAX_NAMED = 4; // digits; of a larger set name only the three that the page shows

/** "a 7", "an 8" */
const aDigit = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;

/** Label of a correction: "a 7", "no digit" */
export const labelText = (label) => (label === NO_DIGIT ? "no digit" : aDigit(label));

function joinWithOr(names) {
  return names.length === 1 ? names[0] : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;
}

function alternativesText(digits) {
  const names = digits.length > MAX_NAMED ? [...digits.slice(0, 3).map(aDigit), "another"] : digits.map(aDigit);
  const text = joinWithOr(names);
  return text[0].toUpperCase() + text.slice(1);
}

function verdictText({ verdict, digits }) {
  if (verdict === "digit") return `It is ${aDigit(digits[0])}`;
  if (verdict === "unsure") return alternativesText(digits);
  return verdict === NO_DIGIT ? "That does not look like a digit" : "";
}

function remarkText({ verdict, reason, coverage }) {
  if (verdict === "unsure") return `${Math.round(coverage * 100)} of 100 doubtful answers hold the right digit.`;
  return REASONS[reason] ?? "";
}

/**
 * Return the verdict and a remark on it as text: "A 4 or a 9", "98 of 100 doubtful answers hold the right digit." Both
 * may be empty, as for a blank sheet.
 */
export function describe(prediction) {
  return { verdict: verdictText(prediction), remark: remarkText(prediction) };
}

/** Return the text for screen readers: "It is a 7, 98 percent", "That does not look like a digit. It is only a dot." */
export function speechText(prediction) {
  const text = verdictText(prediction);
  if (prediction.verdict === "digit") return `${text}, ${speechPercent(prediction.top[0].probability)}`;
  return prediction.verdict === NO_DIGIT ? `${text}. ${remarkText(prediction)}`.trim() : text;
}

/** Return "98 %", at the ends "<1 %" and ">99 %": a rounded 0 or 100 would claim certainty. */
export function percent(probability) {
  if (probability >= 0.995) return ">99\u00a0%";
  if (probability < 0.005) return "<1\u00a0%";
  return `${Math.round(probability * 100)}\u00a0%`;
}

function speechPercent(probability) {
  const [sign, number] = percent(probability).match(/^([<>]?)(\d+)/).slice(1);
  return `${{ "<": "less than ", ">": "more than ", "": "" }[sign]}${number} percent`;
}
