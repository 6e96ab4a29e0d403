/*
 * The drawing page: which element is which, and who listens to whom.
 */

import { Announcer } from "./announcer.js";
import { Answer } from "./answer.js";
import { toPicture } from "./ink.js";
import { Pad } from "./pad.js";
import { Reader } from "./reader.js";
import { BRUSH } from "./strokes.js";
import { spoken } from "./words.js";

const BRUSH_STEP = 2;
const WORDS = { blank: "Draw a digit from 0 to 9", reading: "Reading while you draw" };

const byId = (id) => document.getElementById(id);
const page = document.querySelector("main");
const buttons = { undo: byId("undo"), redo: byId("redo"), clear: byId("clear") };
const brush = byId("brush");

const pad = new Pad(byId("canvas"));
const answer = new Answer(byId("answer"));
const announcer = new Announcer(byId("spoken"));
const reader = new Reader({
  url: page.dataset.predictUrl,
  fetch: window.fetch.bind(window),
  clock: {
    now: () => performance.now(),
    setTimeout: window.setTimeout.bind(window),
    clearTimeout: window.clearTimeout.bind(window),
  },
  onReading: show,
  onTrouble: ({ kind, message }) => setState(kind, message),
});

let feedback, loading, offered;

function setState(state, message = WORDS[state]) {
  page.dataset.state = state;
  const status = byId("status");
  // A live region speaks at every write, also of the same words.
  if (status.textContent !== message) status.textContent = message;
}

function show(reading, isOfNow) {
  if (reading.verdict === "blank") {
    showBlank();
    return;
  }
  setState("reading");
  answer.show(reading);
  announcer.sayWhenSettled(spoken(reading));
  if (isOfNow) offer(reading);
}

/** Asks what the person says of this reading (null: of none). How that is done is loaded with the first one. */
function offer(reading) {
  offered = reading;
  if (feedback) feedback.offer(reading);
  else if (reading) loading ??= import("./feedback.js").then(beginFeedback).catch(() => (loading = null));
}

function beginFeedback({ Feedback }) {
  feedback = new Feedback(byId("feedback"), () => toPicture(pad.strokes()), (words) => announcer.sayNow(words));
  feedback.offer(offered);
}

function showBlank() {
  setState("blank");
  answer.clear();
  announcer.sayNow("");
}

function enable(button, usable) {
  // A disabled button loses the focus to nowhere; whoever works by keyboard goes on at the sheet.
  if (!usable && button.matches(":focus-visible")) byId("canvas").focus();
  button.disabled = !usable;
}

function drawingChanged({ detail }) {
  offer(null);
  enable(buttons.undo, pad.canUndo);
  enable(buttons.redo, pad.canRedo);
  enable(buttons.clear, !pad.isBlank);
  byId("sheet").classList.toggle("is-empty", pad.isBlank);
  if (pad.isBlank) {
    reader.forget();
    showBlank();
    return;
  }
  if (page.dataset.state === "blank") setState("reading");
  reader.look(() => toPicture(pad.strokes()), detail);
}

function setBrush(width) {
  pad.brush = width;
  brush.value = pad.brush;
  byId("brush-dot").style.transform = `scale(${pad.brush / BRUSH.widest})`;
}

/** What a key does, or undefined. Undo and redo follow each platform's habit. */
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
pad.addEventListener("pen", ({ detail: { down } }) => announcer.sayNow(down ? "Pen down" : "Pen up"));
for (const [name, button] of Object.entries(buttons)) button.addEventListener("click", () => pad[name]());
brush.addEventListener("input", () => setBrush(Number(brush.value)));
document.addEventListener("keydown", (event) => {
  const action = shortcut(event);
  if (!action) return;
  event.preventDefault();
  action();
});
window.addEventListener("online", () => reader.retryNow());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => pad.redraw());

setBrush(Number(brush.value));
