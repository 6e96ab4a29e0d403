/*
 * Sentences about a prediction. Depends on no page.
 */

const REASONS = {
  dot: "It is only a dot.",
  tiny: "Draw it larger, or with a thinner brush.", // a dot that may be a digit drawn too small
  scribble: "It looks like a scribble.",
  several: "It looks like several digits. Draw them apart.",
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

/** Whether one digit is named although its probability is below that of a confident answer */
const isHesitant = ({ verdict, top, coverage }) => verdict === "digit" && top?.[0]?.probability < coverage;

function verdictText(prediction) {
  const { verdict, digits } = prediction;
  if (verdict === "digit") return `${isHesitant(prediction) ? "Probably" : "It is"} ${aDigit(digits[0])}`;
  if (verdict === "unsure") return alternativesText(digits);
  return verdict === NO_DIGIT ? "That does not look like a digit" : "";
}

function remarkText(prediction) {
  const { verdict, reason, coverage, can_refuse: canRefuse } = prediction;
  if (isHesitant(prediction)) return "Not sure: it stands out less clearly than usual.";
  if (verdict !== "unsure") return REASONS[reason] ?? "";
  // The coverage holds for digits. A version that cannot tell them from letters cannot promise it.
  if (!canRefuse) return "";
  const times = Math.round(coverage * 100);
  return `Too close to call: when it hesitates like this, the digit is among those named ${times} times in 100.`;
}

/**
 * Return the verdict and a remark on it as text: "A 4 or a 9", "Too close to call: ..." Both may be empty, as for a
 * blank sheet.
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

/** Return the version that has made a prediction as text: "Model v1", "99.5 % right on test digits", and its limit. */
export function describeModel({ version, test_accuracy: accuracy, can_refuse: canRefuse }) {
  return {
    name: version ? `Model ${version}` : "",
    accuracy: typeof accuracy === "number" ? `${(accuracy * 100).toFixed(1)}\u00a0% right on test digits` : "",
    limit: canRefuse === false ? "This version cannot tell letters from digits." : "",
  };
}

/** Return the keyboard pen's state and place, from 0 to 1, as text for screen readers. */
export function penText({ down, x, y }) {
  const percents = [x, y].map((share) => Math.round(share * 100));
  return `Pen ${down ? "down" : "up"}, ${percents[0]} percent from the left, ${percents[1]} percent from the top`;
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
