/*
 * The administrator's pages: shows times in the local format, and updates runs, imports and measurements while they are
 * active. The server renders the HTML; this fetches it again and changes only the nodes that differ, to keep focus and
 * open <details>.
 */

const POLL_INTERVAL = 1000; // ms
const TIMEOUT = 10_000; // ms
const ACTIVE = new Set(["queued", "running", "measuring"]);

const byId = (id) => document.getElementById(id);
const TIME_FORMAT = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };
const thisYear = new Intl.DateTimeFormat(undefined, TIME_FORMAT);
const otherYear = new Intl.DateTimeFormat(undefined, { ...TIME_FORMAT, year: "numeric" });

/** Show the times in the local time zone and language; keep the UTC text as the tooltip. */
function localise(root) {
  for (const time of root.querySelectorAll("time")) {
    time.title = time.textContent;
    const date = new Date(time.dateTime);
    time.textContent = (date.getFullYear() === new Date().getFullYear() ? thisYear : otherYear).format(date);
  }
}

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
    const response = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT) });
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

/** Poll a part of the page while its state is active. */
async function poll(part) {
  while (ACTIVE.has(part.dataset.state)) {
    await sleep(POLL_INTERVAL);
    await untilVisible();
    const before = part.dataset.state;
    const page = await fetchPage(part.dataset.part);
    if (!page) return;
    update(part, page.getElementById(part.id));
    if (part.dataset.state !== before) await refreshDashboard();
  }
}

function update(part, next) {
  const hadFocus = part.contains(document.activeElement);
  morph(part, next);
  // The focused button may be removed when the run ends.
  if (hadFocus && !part.contains(document.activeElement)) part.focus({ preventScroll: true });
}

/** Update the rest of the dashboard after a run changes state: the champion, the form for the next run, the lists. */
async function refreshDashboard() {
  const parts = document.querySelectorAll("[data-refresh]");
  if (!parts.length) return;
  const page = await fetchPage(location.href);
  for (const old of parts) {
    const next = page?.getElementById(old.id);
    if (next) morph(old, next);
  }
  showDefaultEpochs();
}

/** Show the default number of epochs of the chosen preset as the placeholder. */
function showDefaultEpochs() {
  const chosen = document.querySelector("#start-run [name=preset]:checked");
  if (chosen) byId("epochs").placeholder = chosen.dataset.epochs;
}

localise(document);
showDefaultEpochs();
document.addEventListener("change", showDefaultEpochs);
for (const part of document.querySelectorAll("[data-part]")) poll(part);
