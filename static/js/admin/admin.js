/*
 * The administrator's pages: moments in local words, and a run, or a version, that is watched while it trains, or while
 * its strength is measured. The server renders all there is to see; this only fetches it again and changes what
 * differs, so that focus and open details stay.
 */

const LOOK_EVERY = 1000; // ms
const LOOK_WAITS = 10_000; // ms until the server counts as silent
const ACTIVE = new Set(["queued", "running", "measuring"]);

const byId = (id) => document.getElementById(id);
const MOMENT = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };
const thisYear = new Intl.DateTimeFormat(undefined, MOMENT);
const otherYear = new Intl.DateTimeFormat(undefined, { ...MOMENT, year: "numeric" });

function localise(root) {
  for (const time of root.querySelectorAll("time")) {
    time.title = time.textContent;
    const date = new Date(time.dateTime);
    time.textContent = (date.getFullYear() === new Date().getFullYear() ? thisYear : otherYear).format(date);
  }
}

/**
 * Makes `old` equal to `next`, keeping every node that can stay: what has an id stays the thing it is, so that the button
 * under a finger never becomes another row's. Whether a <details> is open is the reader's matter.
 */
function become(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  let at = old.firstChild;
  for (const node of [...next.childNodes]) {
    if (node.id && ahead(at, node.id)) at = removeUpTo(at, ahead(at, node.id));
    if (at && at.nodeName === node.nodeName && at.id === node.id) {
      if (at.nodeType === Node.ELEMENT_NODE) become(at, node);
      else if (at.data !== node.data) at.data = node.data;
      at = at.nextSibling;
    } else {
      old.insertBefore(node, at);
    }
  }
  removeUpTo(at, null);
}

function ahead(node, id) {
  while (node && node.id !== id) node = node.nextSibling;
  return node;
}

function removeUpTo(node, end) {
  while (node !== end) {
    const gone = node;
    node = node.nextSibling;
    gone.remove();
  }
  return end;
}

/** The page at an address, once the server answers, however long that takes; null when nobody is signed in any more. */
async function fetchPage(url) {
  for (;;) {
    const response = await ask(url);
    if (response?.ok) {
      say("");
      const page = new DOMParser().parseFromString(response.text, "text/html");
      localise(page);
      return page;
    }
    if (response?.status === 401) {
      say("You have been signed out. Reload the page to sign in again.");
      return null;
    }
    if (response?.status === 404) {
      say("This is no longer there.");
      return null;
    }
    say("The server cannot be reached; trying again. The work goes on without this page.");
    await pause(LOOK_EVERY);
    await inSight();
  }
}

/** The answer's status and text; undefined where the server is silent or breaks off. */
async function ask(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(LOOK_WAITS) });
    return { ok: response.ok, status: response.status, text: await response.text() };
  } catch {
    return undefined;
  }
}

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

function inSight() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resume) => document.addEventListener("visibilitychange", resume, { once: true }));
}

function say(text) {
  if (byId("connection").textContent !== text) byId("connection").textContent = text;
}

async function watch(part) {
  while (ACTIVE.has(part.dataset.state)) {
    await pause(LOOK_EVERY);
    await inSight();
    const before = part.dataset.state;
    const page = await fetchPage(part.dataset.part);
    if (!page) return;
    show(part, page.getElementById(part.id));
    if (part.dataset.state !== before) await refreshSurroundings();
  }
}

function show(part, next) {
  const hadFocus = part.contains(document.activeElement);
  become(part, next);
  // The button that had the focus may be gone with the run's end.
  if (hadFocus && !part.contains(document.activeElement)) part.focus({ preventScroll: true });
}

/** What stands around a run on the dashboard: the version that answers, the form for the next run, the lists. */
async function refreshSurroundings() {
  const parts = document.querySelectorAll("[data-refresh]");
  if (!parts.length) return;
  const page = await fetchPage(location.href);
  for (const old of parts) {
    const next = page?.getElementById(old.id);
    if (next) become(old, next);
  }
  suggestEpochs();
}

/** The chosen preset's own number of epochs, shown where none is typed. */
function suggestEpochs() {
  const chosen = document.querySelector("#start-run [name=preset]:checked");
  if (chosen) byId("epochs").placeholder = chosen.dataset.epochs;
}

localise(document);
suggestEpochs();
document.addEventListener("change", suggestEpochs);
for (const part of document.querySelectorAll("[data-part]")) watch(part);
