/*
 * The drawing page: connect the pad, the prediction client, the answer panel and the feedback to the page's elements.
 */

import { Announcer } from "./announcer.js";
import { AnswerPanel } from "./answer_panel.js";
import { Pad } from "./pad.js";
import { PredictionClient } from "./prediction_client.js";
import { toPicture } from "./rasterize.js";
import { forget, forgetFormerConsent, recall, remember } from "./session.js";
import { BRUSH, fromText, isTiny, toText } from "./strokes.js";
import { penText, speechText } from "./words.js";

const BRUSH_STEP = 2;
const NOTICE_TIME = 6000; // ms
const STATUS = { blank: "Draw a digit from 0 to 9", reading: "Reading while you draw" };

const byId = (id) => document.getElementById(id);
const page = document.querySelector("main");
const buttons = { undo: byId("undo"), redo: byId("redo"), clear: byId("clear") };
const brush = byId("brush");

const pad = new Pad(byId("canvas"));
const answer = new AnswerPanel(byId("answer"));
const announcer = new Announcer(byId("spoken"));
const penAnnouncer = new Announcer(byId("pen-spoken"));
const client = new PredictionClient({
  url: page.dataset.predictUrl,
  fetch: window.fetch.bind(window),
  clock: {
    now: () => performance.now(),
    setTimeout: window.setTimeout.bind(window),
    clearTimeout: window.clearTimeout.bind(window),
  },
  onPrediction: showPrediction,
  onError: ({ kind, message }) => setState(kind, message),
});

let feedback, loading, beforeNotice, noticeTimer;
let offered = null;

function setState(state, message = STATUS[state]) {
  page.dataset.state = state;
  const status = byId("status");
  // Screen readers announce a live region at every write, even of an equal text.
  if (status.textContent !== message) status.textContent = message;
}

/** Show a message in the place of the status and the verdict for a while. */
function showNotice(message) {
  if (page.dataset.state !== "notice") beforeNotice = [page.dataset.state, byId("status").textContent];
  setState("notice", message);
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => page.dataset.state === "notice" && setState(...beforeNotice), NOTICE_TIME);
}

function showPrediction(prediction, isCurrent) {
  if (prediction.verdict === "blank") {
    showBlank();
    return;
  }
  setState("reading");
  if (prediction.reason === "dot" && isTiny(pad.strokes())) prediction.reason = "tiny";
  answer.show(prediction);
  announcer.sayWhenSettled(speechText(prediction));
  if (isCurrent) offerFeedback(prediction);
}

/** Offer feedback on the prediction, or none for null. Load feedback.js only with the first prediction. */
function offerFeedback(prediction) {
  offered = prediction;
  if (feedback) feedback.offer(prediction);
  else if (prediction) loadFeedback();
}

function loadFeedback() {
  loading ??= import("./feedback.js").then(startFeedback).catch(() => (loading = null));
}

function startFeedback({ Feedback }) {
  const getPicture = () => toPicture(pad.strokes());
  feedback = new Feedback(byId("feedback"), byId("keeping"), getPicture, (text) => announcer.sayNow(text));
  feedback.offer(offered);
}

function showBlank() {
  setState("blank");
  answer.clear();
  announcer.sayNow("");
}

function setEnabled(button, enabled) {
  // A button loses the focus when it is disabled: move a keyboard user's focus to the sheet.
  if (!enabled && button.matches(":focus-visible")) byId("canvas").focus();
  button.disabled = !enabled;
}

function rememberDrawing() {
  if (pad.isBlank) forget("strokes");
  else remember("strokes", toText(pad.strokes()));
}

function drawingChanged({ detail }) {
  offerFeedback(null);
  if (detail.ended || !detail.grown) rememberDrawing();
  setEnabled(buttons.undo, pad.canUndo);
  setEnabled(buttons.redo, pad.canRedo);
  setEnabled(buttons.clear, !pad.isBlank);
  byId("sheet").classList.toggle("is-empty", pad.isBlank);
  if (pad.isBlank) {
    client.reset();
    showBlank();
    return;
  }
  if (["blank", "notice"].includes(page.dataset.state)) setState("reading");
  client.update(() => toPicture(pad.strokes()), detail);
}

function setBrush(width) {
  pad.brush = width;
  remember("brush", String(pad.brush));
  brush.value = pad.brush;
  byId("brush-dot").style.transform = `scale(${pad.brush / BRUSH.widest})`;
}

/** Return the action of a keyboard event, or undefined. Accept the undo and redo keys of all platforms. */
function shortcut(event) {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (command && !event.altKey) {
    if (key === "z") return () => (event.shiftKey ? pad.redo() : pad.undo());
    return key === "y" ? () => pad.redo() : undefined;
  }
  return {
    delete: () => pad.clear(),
    backspace: () => pad.clear(),
    "[": () => setBrush(pad.brush - BRUSH_STEP),
    "]": () => setBrush(pad.brush + BRUSH_STEP),
  }[key];
}

pad.addEventListener("change", drawingChanged);
pad.addEventListener("pen", ({ detail }) => {
  if (detail.moved) penAnnouncer.sayWhenSettled(penText(detail));
  else penAnnouncer.sayNow(penText(detail));
});
for (const [name, button] of Object.entries(buttons)) button.addEventListener("click", () => pad[name]());
brush.addEventListener("input", () => setBrush(Number(brush.value)));
document.addEventListener("keydown", (event) => {
  const action = shortcut(event);
  if (!action) return;
  event.preventDefault();
  action();
});
window.addEventListener("online", () => client.retryNow());
for (const feature of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
  matchMedia(feature).addEventListener("change", () => pad.redraw());
}
// A file that is dropped anywhere would replace the page.
for (const type of ["dragover", "drop"]) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (type === "drop") showNotice("Files are not read yet. Draw the digit instead.");
  });
}

forgetFormerConsent();
setBrush(Number(recall("brush") ?? brush.value) || BRUSH.usual);
const strokes = fromText(recall("strokes"));
if (strokes.length > 0) pad.restore(strokes);
if (recall("consent") !== null) loadFeedback();
