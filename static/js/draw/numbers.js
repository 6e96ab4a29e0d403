/*
 * Numbers of several digits: what is sent of a drawing, and what the answer says. Depends on no page.
 */

import { rasterize, toUrl } from "./rasterize.js";
import { SHEET } from "./strokes.js";
import { labelText, NO_DIGIT, percent } from "./words.js";

const SIDE = 400; // pixels of the longest side of a drawing: some 60 for a digit's height
const SPACING = 2; // pixels between two points that are sent
const LIKELY = 0.05; // least probability of a digit that an unsure answer names
// Confidence in digits that touch. Of composed numbers that are refused for another reason than "several" and reach it,
// 65 of 67 are read right; of 150 letters 3 reach it.
const SURE = 0.9;
const MINUS = "\u2212";
const ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];

const round = (value) => Math.round(value * 10) / 10;

/** Return points as pixels, without those close to the one before; the last one stays. */
function thinned(points, place) {
  const kept = [];
  points.forEach((point, i) => {
    const [x, y] = place(point);
    const last = kept.at(-1);
    if (last && i < points.length - 1 && Math.hypot(x - last[0], y - last[1]) < SPACING) return;
    kept.push([round(x), round(y)]);
  });
  return kept;
}

/** Return a drawing as a request: its picture, with more pixels than a digit's, and its strokes in pixels of it. */
export function requestOf(strokes) {
  const picture = rasterize(strokes, SIDE);
  return { image: toUrl(picture), strokes: strokes.map(({ points }) => thinned(points, picture.place)) };
}

/** Return a function that maps a box of the answer to that request to the sheet, in fractions of its side. */
export function sheetOf(strokes) {
  const { width, height, place } = rasterize(strokes, SIDE);
  const [[left, top], [right]] = [place({ x: 0, y: 0 }), place({ x: SHEET, y: 0 })];
  const side = right - left;
  return (box) => box.map((share, i) => (i % 2 ? share * height - top : share * width - left) / side);
}

/** Return the signs of each line from left to right: digits, and symbols, which have `symbol`. */
export function linesOf({ digits, symbols, lines }) {
  const signs = [...digits, ...symbols].sort((a, b) => a.box[0] + a.box[2] - b.box[0] - b.box[2]);
  return lines.map((_, line) => signs.filter((sign) => sign.line === line));
}

const isUnsure = ({ verdict }) => verdict !== "digit";

const isMinusBefore = ({ symbol, box, line }, digit) =>
  symbol === "-" && line === digit.line && box[2] < digit.box[0];

/** Return whether digits stand in several lines, or with a gap between two of them. */
function standApart({ digits, lines }) {
  const boxes = digits.map(({ box }) => box).sort(([a], [b]) => a - b);
  return lines.length > 1 || boxes.some(([left], i) => i > 0 && left > boxes[i - 1][2]);
}

/**
 * Return whether the answer is a number, or several. A letter can be cut into two digits, too: digits that touch are a
 * number only if the whole looks like several digits, or, of a drawing, whose strokes tell more, if all are sure. Beside
 * a single digit a point is a speck, but a minus in front of it is meant.
 */
export function isNumber(answer, isDrawing = false) {
  const { digits, symbols, confidence, reading } = answer;
  const known = digits.filter(({ verdict }) => verdict !== NO_DIGIT).length;
  if (known === 0 || 2 * known < digits.length) return false;
  if (digits.length === 1) return symbols.some((sign) => isMinusBefore(sign, digits[0]));
  if (reading.reason === "several" || standApart(answer)) return true;
  return isDrawing && confidence >= SURE && !digits.some(isUnsure);
}

/** Return a sign as it is shown: a digit, ? for no digit, a symbol. */
export function signText({ digit, verdict, symbol }) {
  if (symbol !== undefined) return symbol === "-" ? MINUS : symbol;
  return verdict === NO_DIGIT ? "?" : String(digit);
}

export const lineText = (signs) => signs.map(signText).join("");

/** Return the place of a digit in words: "The second digit", "The first digit of line 2". */
export function placeText(answer, digit) {
  const lines = linesOf(answer).map((signs) => signs.filter(({ symbol }) => symbol === undefined));
  const place = lines[digit.line].indexOf(digit);
  const ordinal = ORDINALS[place] ? `The ${ORDINALS[place]} digit` : `Digit ${place + 1}`;
  return lines.length > 1 ? `${ordinal} of line ${digit.line + 1}` : ordinal;
}

function hesitation(answer) {
  const unsure = answer.digits.filter(isUnsure);
  if (unsure.length === 0) return "";
  return unsure.length === 1 ? `${placeText(answer, unsure[0])} is not sure.` : `${unsure.length} digits are not sure.`;
}

const leadOf = (answer) => (answer.digits.some(isUnsure) ? "Probably" : "It is");

/** Return the verdict and a remark about a number. */
export function describeNumber(answer) {
  const texts = linesOf(answer).map(lineText);
  const verdict = texts.length > 1 ? `${texts.length} lines` : `${leadOf(answer)} ${texts[0]}`;
  return { verdict, remark: `${hesitation(answer)} Choose a digit to see its alternatives.`.trim() };
}

/** Return the text for screen readers: "It is 2025. The second digit is not sure." */
export function speechOf(answer) {
  const texts = linesOf(answer).map((signs) => lineText(signs).replaceAll(MINUS, "minus "));
  const said = texts.length > 1 ? `${texts.length} lines: ${texts.join("; ")}` : `${leadOf(answer)} ${texts[0]}`;
  return `${said}. ${hesitation(answer)}`.trim();
}

/** Return a digit of a number as a prediction of it alone, for the answer panel and for a correction. */
export function predictionOf(answer, digit) {
  const { top, verdict, digit_image: picture } = digit;
  const named = verdict === "digit" ? top.slice(0, 1) : top.filter(({ probability }, i) => i < 2 || probability > LIKELY);
  const digits = verdict === NO_DIGIT ? [] : named.map((each) => each.digit);
  const said = verdict === NO_DIGIT ? "no digit" : digits.map(labelText).join(" or ");
  const probabilities = [];
  for (const { digit: name, probability } of top) probabilities[name] = probability;
  const { version, test_accuracy, can_refuse, coverage } = answer.reading;
  return {
    ...{ verdict, digits, top, probabilities, picture, version, test_accuracy, can_refuse, coverage },
    words: {
      verdict: `${placeText(answer, digit)}: ${said}`,
      remark: top.map(({ digit: name, probability }) => `${name}: ${percent(probability)}`).join(",  "),
    },
    digit_image: picture,
  };
}
