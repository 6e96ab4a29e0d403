/*
 * The administrator's pages: updates trainings, imports and measurements while they are active, and the overview and
 * the list of trainings when something has changed elsewhere. The server renders the HTML; this fetches it again and
 * changes only the nodes that differ, to keep focus, open <details> and open popovers.
 */

import { localise } from "../times.js";
import { about } from "./estimate.js";

const POLL_INTERVAL = 1000; // ms
const PULSE_INTERVAL = 3000; // ms
const TIMEOUT = 10_000; // ms
const ACTIVE = new Set(["queued", "running", "measuring"]);

const byId = (id) => document.getElementById(id);

/**
 * Make `old` equal to `next`, reusing its nodes. Match elements with an id by it, so that a button never turns into
 * that of another row just before a click. Keep the open state of <details>.
 */
function morph(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  let at = old.firstChild;
  for (const node of [...next.childNodes]) {
    if (node.id && findSibling(at, node.id)) at = removeUntil(at, findSibling(at, node.id));
    if (at && at.nodeName === node.nodeName && at.id === node.id) {
      if (at.nodeType === Node.ELEMENT_NODE) morph(at, node);
      else if (at.data !== node.data) at.data = node.data;
      at = at.nextSibling;
    } else {
      old.insertBefore(node, at);
    }
  }
  removeUntil(at, null);
}

function findSibling(node, id) {
  while (node && node.id !== id) node = node.nextSibling;
  return node;
}

function removeUntil(node, end) {
  while (node !== end) {
    const next = node.nextSibling;
    node.remove();
    node = next;
  }
  return end;
}

/** Fetch a page, retrying until the server answers. Return null if the session has ended or the page is gone. */
async function fetchPage(url) {
  for (;;) {
    const response = await get(url);
    if (response?.ok) {
      showConnection("");
      const page = new DOMParser().parseFromString(response.text, "text/html");
      localise(page);
      return page;
    }
    if (response?.status === 401) {
      showConnection("You have been signed out. Reload the page to sign in again.");
      return null;
    }
    if (response?.status === 404) {
      showConnection("This is no longer there.");
      return null;
    }
    showConnection("The server cannot be reached; trying again. The work goes on without this page.");
    await sleep(POLL_INTERVAL);
    await untilVisible();
  }
}

/** Return the status and text of the response; undefined if the request fails. */
async function get(url) {
  try {
    const response = await fetch(url, { headers: { "X-Inkling-Poll": "1" }, signal: AbortSignal.timeout(TIMEOUT) });
    return { ok: response.ok, status: response.status, text: await response.text() };
  } catch {
    return undefined;
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function untilVisible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

function showConnection(text) {
  if (byId("connection").textContent !== text) byId("connection").textContent = text;
}

const polled = new WeakSet();

/** Poll the parts of the page that are active, each while it is. */
function pollParts() {
  for (const part of document.querySelectorAll("[data-part]")) {
    if (!polled.has(part) && ACTIVE.has(part.dataset.state)) poll(part);
  }
}

async function poll(part) {
  polled.add(part);
  while (part.isConnected && ACTIVE.has(part.dataset.state)) {
    await sleep(POLL_INTERVAL);
    await untilVisible();
    const before = part.dataset.state;
    const page = await fetchPage(part.dataset.part);
    if (!page) return;
    update(part, page.getElementById(part.id));
    if (part.dataset.state !== before) await refresh();
  }
  polled.delete(part);
}

function update(part, next) {
  const hadFocus = part.contains(document.activeElement);
  morph(part, next);
  // The focused button may be removed when the training ends.
  if (hadFocus && !part.contains(document.activeElement)) part.focus({ preventScroll: true });
}

/** Refresh the page when its pulse changes: a training started elsewhere, a promotion, a correction that came in. */
async function watchPulse({ dataset }) {
  for (;;) {
    await sleep(PULSE_INTERVAL);
    await untilVisible();
    const page = await fetchPage(dataset.pulse);
    if (!page) return;
    if (page.body.textContent !== dataset.token) await refresh();
  }
}

/** Fetch the page again and update what has changed of it: the version in service, the form, the lists. */
async function refresh() {
  const pulse = document.querySelector("[data-pulse]");
  const page = pulse && (await fetchPage(pulse.dataset.page));
  if (!page) return;
  pulse.dataset.token = page.querySelector("[data-pulse]")?.dataset.token;
  for (const old of document.querySelectorAll("[data-refresh]")) {
    const next = page.getElementById(old.id);
    if (next && !keeps(old, next)) morph(old, next);
  }
  showDefaults();
  pollParts();
}

/** Return whether a part stays as it is: a form being filled in, above which nothing may appear; a training's result. */
function keeps(old, next) {
  if (old.id === "watched") return isFilledIn() || !next.querySelector("[data-part]");
  if (old.id !== "start" || !isFilledIn()) return false;
  morph(byId("busy"), next.querySelector("#busy")); // below the form
  return true;
}

/** Return whether something in the form that starts a training has been changed, or has the focus. */
function isFilledIn() {
  const form = byId("start-run");
  if (!form || byId("start").hidden) return false;
  const isChanged = (field) =>
    field.type === "radio" || field.type === "checkbox"
      ? field.checked !== field.defaultChecked
      : field.value !== field.defaultValue;
  return "typed" in form.dataset || form.contains(document.activeElement) || [...form.elements].some(isChanged);
}

/** Show the settings of the chosen preset as placeholders, and how long each preset takes with the epochs typed.
    With a batch size typed, that is not known. */
function showDefaults() {
  const chosen = document.querySelector("#start-run [name=preset]:checked");
  if (!chosen) return;
  const { epochs, batchSize, learningRate, correctingRate } = chosen.dataset;
  byId("epochs").placeholder = epochs;
  byId("batch_size").placeholder = batchSize;
  byId("learning_rate").placeholder = (byId("corrections").checked && correctingRate) || learningRate;
  const typed = Math.min(Math.max(Math.floor(byId("epochs").value), 0), byId("epochs").max);
  for (const { dataset, parentElement } of document.querySelectorAll("#start-run [name=preset]")) {
    const seconds = (typed || dataset.epochs) * dataset.epochSeconds + Number(dataset.restSeconds);
    parentElement.querySelector(".takes").textContent = about(seconds);
    parentElement.querySelector(".estimate").hidden = byId("batch_size").value !== "";
  }
}

showDefaults();
document.addEventListener("input", showDefaults);
pollParts();
for (const page of document.querySelectorAll("[data-pulse]")) watchPulse(page);
