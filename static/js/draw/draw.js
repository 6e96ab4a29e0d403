/*
 * The drawing page: connect the pad, the prediction client, the answer panel and the feedback to the page's elements;
 * and the readers of numbers and of picture files, which are loaded when they are needed.
 */

import { Announcer } from "./announcer.js";
import { AnswerPanel } from "./answer_panel.js";
import { Pad } from "./pad.js";
import { PredictionClient, WAITING } from "./prediction_client.js";
import { toPicture } from "./rasterize.js";
import { forget, forgetFormerConsent, recall, remember } from "./session.js";
import { BRUSH, fallApart, fromText, isTiny, toText } from "./strokes.js";
import { NO_DIGIT, penText, speechText } from "./words.js";

const BRUSH_STEP = 2;
const NOTICE_TIME = 6000; // ms
const STATUS = { blank: "Draw a digit or a number", reading: "Reading while you draw" };
const PASSING = ["notice", "loading"]; // states that give way to the one before them
const OUTDATED = "Inkling has been updated. Please reload the page; your drawing stays.";
const UNLOADABLE = "The page cannot load what reads files. Is the server there?";

const byId = (id) => document.getElementById(id);
const page = document.querySelector("main");
const buttons = { undo: byId("undo"), redo: byId("redo"), clear: byId("clear") };
const brush = byId("brush");

const pad = new Pad(byId("canvas"));
const answer = new AnswerPanel(byId("answer"));
const announcer = new Announcer(byId("spoken"));
const penAnnouncer = new Announcer(byId("pen-spoken"));
const web = {
  fetch: window.fetch.bind(window),
  clock: {
    now: () => performance.now(),
    setTimeout: window.setTimeout.bind(window),
    clearTimeout: window.clearTimeout.bind(window),
  },
};
const client = new PredictionClient({
  url: page.dataset.predictUrl,
  ...web,
  onPrediction: showPrediction,
  onError: ({ kind, message }) => setState(kind, message),
});

let feedback, numbers, pictures, before, noticeTimer;
let offered = null;
let revision = 0; // of the drawing
let isOutdated = false;

/** Return a function that loads something once, or once more after a failure, for which it returns undefined. */
function once(load) {
  let loading = null;
  return () =>
    (loading ??= load().catch(async () => {
      loading = null;
      await checkRelease();
    }));
}

/** Say, once, if the files of the page's release are gone, as long after an upgrade. */
async function checkRelease() {
  const found = await web.fetch(import.meta.url, { cache: "no-store" }).catch(() => null);
  if (isOutdated || found?.status !== 404) return;
  isOutdated = true;
  announcer.sayNow(OUTDATED);
  if (feedback) showNotice(OUTDATED);
  else byId("feedback").textContent = OUTDATED; // in its place, which no reading overwrites
}

const onWait = () => setState("waiting", WAITING);

const loadFeedback = once(async () => startFeedback(await import("./feedback.js")));
const loadNumbers = once(async () => {
  const { NumberReader } = await import("./number_reader.js");
  const parts = { answer: byId("answer"), panel: answer, announcer, offer: offerFeedback, sheet: byId("sheet") };
  return (numbers = new NumberReader({ url: page.dataset.readUrl, ...web, onWait, ...parts }));
});
const loadPictures = once(async () => {
  const [{ PictureReader }, { ReadClient }, { panel }] = await Promise.all([
    import("./picture_reader.js"),
    import("./read_client.js"),
    loadNumbers(),
  ]);
  const client = new ReadClient({ url: page.dataset.readUrl, ...web, onWait }); // reading a drawing does not cancel it
  const elements = { sheet: byId("sheet"), tools: byId("tools") };
  const say = (text) => penAnnouncer.sayWhenSettled(text);
  const hooks = { opened: pictureOpened, closed: pictureClosed, setState: setPassing, notice: showNotice, say, show };
  return (pictures = new PictureReader({ client, numbers: panel, ...elements, page: hooks }));
});

function setState(state, message = STATUS[state]) {
  page.dataset.state = state;
  const status = byId("status");
  // Screen readers announce a live region at every write, even of an equal text.
  if (status.textContent !== message) status.textContent = message;
}

/** Set a state; note the one before, if this one gives way to it. */
function setPassing(state, message) {
  const current = page.dataset.state;
  if (PASSING.includes(state) && !PASSING.includes(current)) before = [current, byId("status").textContent];
  setState(state, message);
}

/** Show a message in the place of the status and the verdict for a while. */
function showNotice(message) {
  setPassing("notice", message);
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => page.dataset.state === "notice" && setState(...before), NOTICE_TIME);
}

/** Return whether to ask for a number: several digits can look like none at all. */
function mayBeNumber({ verdict, reason }, strokes) {
  const isRefused = verdict === NO_DIGIT && !["dot", "tiny"].includes(reason);
  return (isRefused && (reason === "several" || strokes.length > 1)) || fallApart(strokes);
}

function showPrediction(prediction, isCurrent) {
  if (prediction.verdict === "blank") {
    showBlank();
    return;
  }
  setState("reading");
  const strokes = pad.strokes();
  if (prediction.reason === "dot" && isTiny(strokes)) prediction.reason = "tiny";
  if (!mayBeNumber(prediction, strokes)) numbers?.drop();
  else if (isCurrent) readNumber(strokes, prediction);
  // A number stands until it is read anew.
  if (!numbers?.panel.isShown) show(prediction, isCurrent);
}

function show(prediction, isCurrent = true) {
  answer.show(prediction);
  announcer.sayWhenSettled(speechText(prediction));
  // Of a blank picture nothing can be corrected, and the drawing behind it is not what was read.
  if (isCurrent) offerFeedback(prediction.verdict === "blank" ? null : prediction);
}

async function readNumber(strokes, prediction) {
  const drawn = revision;
  if (!(await loadNumbers()) || drawn !== revision) return;
  const hadNumber = numbers.panel.isShown;
  const outcome = await numbers.read(strokes);
  if (outcome && page.dataset.state === "waiting") setState("reading");
  if (outcome === null || outcome.isNumber) return;
  if (hadNumber) show(prediction);
  if (outcome.message) setState("error", outcome.message);
}

/**
 * Offer feedback on the prediction, or none for null. Load feedback.js only with the first prediction, and not at all
 * where no corrections are taken.
 */
function offerFeedback(prediction) {
  offered = prediction;
  if (feedback) feedback.offer(prediction);
  else if (prediction && byId("feedback")) loadFeedback();
}

function startFeedback({ Feedback }) {
  const getPicture = () => offered?.picture ?? toPicture(pad.strokes());
  feedback = new Feedback(byId("feedback"), byId("keeping"), getPicture, (text) => announcer.sayNow(text));
  feedback.offer(offered);
}

/** A picture has taken the drawing's place. */
function pictureOpened(view) {
  const hadFocus = byId("tools").contains(document.activeElement) || document.activeElement === byId("canvas");
  page.dataset.mode = "picture";
  if (hadFocus) view.takeFocus();
  revision += 1; // drop the number that is being read
  numbers.client.cancel();
  client.reset();
  answer.clear();
  offerFeedback(null);
}

function pictureClosed() {
  delete page.dataset.mode;
  byId("read-picture").focus({ preventScroll: true });
  answer.clear();
  drawingChanged({ detail: { grown: false, ended: true } });
}

async function readFiles(files) {
  if (files.length === 0) return;
  await loadPictures();
  if (pictures) pictures.open(files);
  else showNotice(isOutdated ? OUTDATED : UNLOADABLE);
}

function showBlank() {
  setState("blank");
  numbers?.drop();
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
  revision += 1;
  pictures?.cancel();
  numbers?.client.cancel();
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
  if (["blank", ...PASSING].includes(page.dataset.state)) setState("reading");
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
  if (pictures?.isShown) return ["delete", "backspace"].includes(key) ? () => pictures.close() : undefined;
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
for (const [button, input] of [["read-picture", "picture-file"], ["take-photo", "camera-file"]]) {
  byId(button).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", ({ target }) => {
    readFiles([...target.files]);
    target.value = ""; // so that the same file can be chosen again
  });
}
// A file may be dropped anywhere: elsewhere it would replace the page.
for (const type of ["dragenter", "dragover", "drop"]) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    byId("sheet").classList.toggle("is-awaited", type !== "drop");
    if (type === "drop") readFiles([...event.dataTransfer.files]);
  });
}
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (relatedTarget === null) byId("sheet").classList.remove("is-awaited");
});
document.addEventListener("paste", ({ clipboardData }) => readFiles([...(clipboardData?.files ?? [])]));

forgetFormerConsent();
setBrush(Number(recall("brush") ?? brush.value) || BRUSH.usual);
const strokes = fromText(recall("strokes"));
if (strokes.length > 0) pad.restore(strokes);
if (recall("consent") !== null || recall("outbox") !== null) loadFeedback();
