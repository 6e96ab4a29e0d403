/*
 * The review of corrections: keyboard control, and decisions without a page load. A decision removes its cards at once;
 * requests are sent one after the other, and the page is refreshed after the last one. The page works without this, as
 * a plain form.
 */

const TIMEOUT = 15_000; // ms
const POLL_INTERVAL = 2_000; // ms between refreshes while corrections wait for the label check
const DIGITS = "0123456789";
const NO_DIGIT = "not_a_digit";
const ROW_TOLERANCE = 4; // px between the tops of cards of one row


const byId = (id) => document.getElementById(id);
const form = byId("review");
const queue = byId("queue");
const refusing = byId("refusing");
const state = form.dataset.state;
const token = form.elements.csrf_token.value;

let anchor = null; // card at which a range starts
let opener = null; // element that opened the reasons, to which the focus returns
const batches = []; // ids of the decisions made here; Undo reverts the last one
let requests = Promise.resolve(); // resolves after the last request
let requestCount = 0;
let pendingCount = 0;

// Cards

const cards = () => [...queue.children];
const current = () => queue.querySelector(".is-current");
const checkbox = (card) => card.querySelector(".card-pick");
const idOf = (card) => Number(card.dataset.id);
const chosen = () => cards().filter((card) => checkbox(card).checked);
const isJudged = (card) => !card.classList.contains("card--unjudged");

/** Return the chosen cards, or the current one if none is chosen. */
function getTargets() {
  const cards = chosen();
  return cards.length ? cards : [current()].filter(Boolean);
}

function moveTo(card, focus = true) {
  if (!card) return;
  for (const other of queue.querySelectorAll(".is-current")) {
    if (other === card) continue;
    other.classList.remove("is-current");
    other.tabIndex = -1;
  }
  card.classList.add("is-current");
  card.tabIndex = 0;
  if (focus) card.focus();
}

/** Return the card `step` places from a card, or with `rows` in the next row in that direction; itself at the end. */
function neighbour(card, step, rows) {
  const all = cards();
  const at = all.indexOf(card);
  if (!rows) return all[at + step] ?? card;
  const { offsetTop, offsetLeft } = card;
  const candidates = step > 0 ? all.slice(at + 1) : all.slice(0, at).reverse();
  const next = candidates.find((other) => Math.abs(other.offsetTop - offsetTop) > ROW_TOLERANCE);
  if (!next) return card;
  const row = all.filter((other) => Math.abs(other.offsetTop - next.offsetTop) <= ROW_TOLERANCE);
  return row.reduce((best, other) =>
    Math.abs(other.offsetLeft - offsetLeft) < Math.abs(best.offsetLeft - offsetLeft) ? other : best,
  );
}

function chooseRange(from, to) {
  const all = cards();
  const [first, last] = [all.indexOf(from), all.indexOf(to)].sort((a, b) => a - b);
  if (first >= 0) chooseJudged(all.slice(first, last + 1));
}

function chooseAll() {
  if (areAllChosen()) {
    for (const card of cards()) checkbox(card).checked = false;
    showChosenCount();
  } else {
    chooseJudged(cards());
  }
}

/** Choose those of the cards whose label has been judged, and say how many are left: nobody has looked at each. */
function chooseJudged(some) {
  for (const card of some.filter(isJudged)) checkbox(card).checked = true;
  showChosenCount(some.filter((card) => !checkbox(card).checked).length);
}

/** Tell whether all cards are chosen that "All" would choose. */
const areAllChosen = () => chosen().length > 0 && cards().every((card) => checkbox(card).checked || !isJudged(card));

function showChosenCount(left = 0) {
  const count = chosen().length;
  let text = count ? `${count} chosen` : "This one";
  if (left) text += `; ${left} not judged yet ${left === 1 ? "is" : "are"} left`;
  if (byId("chosen").textContent !== text) byId("chosen").textContent = text;
  byId("all").textContent = areAllChosen() ? "None" : "All";
}

// Decisions

function decide(action, targets, more = {}) {
  if (!targets.length) return;
  const ids = targets.map(idOf);
  removeCards(targets);
  if (refusing) refusing.open = false;
  const body = { action, ids, state, ...more };
  send(form.action, () => body, (answer) => {
    if (answer.batch) batches.push(answer.batch);
  });
}

/** Remove cards, and make the next remaining one current. */
function removeCards(removed) {
  const all = cards();
  const rest = all.filter((card) => !removed.includes(card));
  const at = all.indexOf(removed.includes(current()) ? current() : removed[0]);
  const next = all.slice(at).find((card) => !removed.includes(card)) ?? rest.at(-1);
  for (const card of removed) card.remove();
  if (next) moveTo(next);
  showIfEmpty();
  showChosenCount();
}

function undo() {
  const last = () => (batches.length ? { batch: batches.pop() } : {});
  send(byId("undo").action, last, null, (answer) => moveTo(byId(`c${answer.undone[0]}`)));
}

/**
 * Post what `body()` returns, after the requests sent before, and refresh the page after the last one. Call `onAnswer`
 * with the answer before the refresh and `onRefresh` after it, neither on failure.
 */
function send(url, body, onAnswer, onRefresh) {
  requestCount += 1;
  pendingCount += 1;
  requests = requests.then(async () => {
    const answer = await post(url, body());
    pendingCount -= 1;
    showStatus(answer.error ?? answer.said, Boolean(answer.error));
    if (!answer.error) onAnswer?.(answer);
    if (pendingCount === 0) await refresh();
    if (!answer.error) onRefresh?.(answer);
  });
}

/** Return the server's answer, or {error}, a sentence. */
async function post(url, body) {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": token },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT),
    });
    const answer = await response.json();
    return response.ok ? answer : { error: answer.error.message };
  } catch {
    return { error: "The server cannot be reached. Reload the page to see what was decided." };
  }
}

function showStatus(text, isBad) {
  byId("told").textContent = text;
  byId("told").classList.toggle("is-bad", isBad);
}

function showIfEmpty() {
  byId("nothing").hidden = queue.children.length > 0;
  byId("bar").hidden = queue.children.length === 0;
  byId("remove").hidden = queue.children.length === 0;
}

// Refresh

/**
 * Fetch the page again. Keep the order of the present cards, so that none moves just before a click; insert new and
 * restored ones after their predecessor in the fetched page.
 */
async function refresh() {
  const before = requestCount;
  const page = await fetchPage();
  if (!page || requestCount !== before || pendingCount) return; // outdated: it shows cards decided meanwhile
  const currentIndex = cards().indexOf(current());
  const next = [...page.getElementById("queue").children];
  if (page.getElementById("review").dataset.pages === "1") removeMissing(next);
  let last = null;
  for (const card of next) {
    const old = byId(card.id);
    if (old) updateCard(old, card);
    else if (last) last.after(card);
    else queue.prepend(card);
    last = old ?? card;
  }
  showCounts(page);
  if (!current()) moveTo(cards()[Math.min(Math.max(currentIndex, 0), cards().length - 1)], focusIsNowhere());
  showIfEmpty();
  showChosenCount();
}

/** Remove the cards that the only page does not show any more. With several pages they may be on another one. */
function removeMissing(next) {
  const ids = new Set(next.map((card) => card.id));
  for (const card of cards()) if (!ids.has(card.id)) card.remove();
}

function showCounts(page) {
  for (const count of page.querySelectorAll(".tabs .count")) {
    byId(count.parentElement.id).querySelector(".count").textContent = count.textContent;
  }
  const sections = page.getElementById("sections").innerHTML;
  if (byId("sections").innerHTML !== sections) byId("sections").innerHTML = sections;
  form.dataset.unjudged = page.getElementById("review").dataset.unjudged;
}

/** Update the text of a card; keep its checkbox and its place. */
function updateCard(old, next) {
  const oldText = old.querySelector(".card-words");
  const nextText = next.querySelector(".card-words");
  if (oldText.innerHTML === nextText.innerHTML) return;
  const isCurrent = old.classList.contains("is-current");
  old.className = next.className;
  old.classList.toggle("is-current", isCurrent);
  oldText.replaceWith(nextText);
}

async function fetchPage() {
  try {
    const response = await fetch(form.dataset.page, {
      headers: { Accept: "text/html" },
      signal: AbortSignal.timeout(TIMEOUT),
    });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    return page.getElementById("queue") ? page : null;
  } catch {
    return null;
  }
}

let polling = false;

/** Refresh while corrections wait for the label check. */
async function pollUnjudged() {
  if (polling) return;
  polling = true;
  while (Number(form.dataset.unjudged) > 0) {
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL));
    if (!document.hidden && pendingCount === 0) await refresh();
  }
  polling = false;
}

/** Refresh when admin.js changes the state of an import. */
function observeImports() {
  const observer = new MutationObserver(async () => {
    if (pendingCount === 0) await refresh();
    pollUnjudged();
  });
  for (const part of document.querySelectorAll(".import")) {
    observer.observe(part, { attributes: true, attributeFilter: ["data-state"] });
  }
}

// Keys and clicks

const focusIsNowhere = () => document.activeElement === document.body;

// [step, rows] of neighbour()
const MOVES = {
  ArrowRight: [1, false],
  ArrowLeft: [-1, false],
  ArrowDown: [1, true],
  ArrowUp: [-1, true],
  j: [1, false],
  k: [-1, false],
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (!(focusIsNowhere() || form.contains(event.target) || byId("undo").contains(event.target))) return;
  if (refusing?.open ? handleReasonKey(event) : handleKey(event)) event.preventDefault();
}

const isTyping = (element) => element.matches("input:not([type=checkbox]), textarea, select");

/** While the reasons are open, number keys pick one. Return whether the key was handled. */
function handleReasonKey(event) {
  if (event.key === "Escape") return closeReasons(), true;
  const reasons = [...refusing.querySelectorAll("[name=because]")];
  const reason = event.key === "r" ? reasons[0] : DIGITS.includes(event.key) && reasons[Number(event.key) - 1];
  if (!reason) return false;
  decide("refuse", getTargets(), { reason: reason.value });
  return true;
}

/** Return whether the key was handled. */
function handleKey(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in MOVES) return move(...MOVES[key], event.shiftKey);
  if (key === "u") return undo(), true;
  if (key === "s") return chooseAll(), true;
  if (key === " " && !event.target.matches("button, summary, input")) return toggle(current());
  if (key === "a" && form.querySelector(".bar [name=approve]")) return decide("approve", getTargets()), true;
  if (key === "r" && refusing) return openReasons(document.activeElement);
  if (key === "n") return decide("relabel", getTargets(), { label: NO_DIGIT }), true;
  if (DIGITS.includes(key)) return decide("relabel", getTargets(), { label: Number(key) }), true;
  return false;
}

function move(step, rows, range) {
  const from = current() ?? cards()[0];
  if (!from) return false;
  const to = neighbour(from, step, rows);
  anchor = to;
  moveTo(to);
  if (range) chooseRange(from, to);
  else showChosenCount();
  return true;
}

function toggle(card) {
  if (!card) return false;
  checkbox(card).checked = !checkbox(card).checked;
  anchor = card;
  showChosenCount();
  return true;
}

/** Open the reasons; `by` is the element that gets the focus back when they are closed without a decision. */
function openReasons(by) {
  if (!getTargets().length) return false;
  opener = by;
  byId("reason-error").hidden = true;
  refusing.open = true;
  refusing.querySelector("[name=because]").focus();
  return true;
}

function closeReasons() {
  refusing.open = false;
  (opener?.isConnected && opener !== document.body ? opener : current())?.focus();
}

function onClick(event) {
  const card = event.target.closest(".card");
  const button = event.target.closest("button");
  const summary = event.target.closest("#refusing summary");
  if (summary) opener = summary;
  if (card && !button) selectCard(event, card);
  if (button?.id === "all") chooseAll();
  if (!button || button.type !== "submit") return;
  event.preventDefault();
  submit(button, card);
}

/** Make the clicked card current; with shift, choose the range from the last one to it. */
function selectCard(event, card) {
  const isBox = event.target.matches(".card-pick");
  const from = queue.contains(anchor) ? anchor : current();
  moveTo(card, !isBox);
  if (event.shiftKey) {
    if (!isBox) event.preventDefault(); // or the click on the label would toggle the checkbox back
    chooseRange(from, card);
  }
  anchor = card;
}

/** Do the action of a submit button, without submitting the form. */
function submit(button, card) {
  const targets = card ? [card] : getTargets();
  if (button.name === "approve") decide("approve", targets);
  else if (button.name === "relabel") decide("relabel", targets, { label: Number(button.value) });
  else if (button.name === "because") decide("refuse", targets, { reason: button.value });
  else if (card) openReasonsFor(card, button);
  else refuseWithReason(byId("reason"));
}

function openReasonsFor(card, button) {
  for (const other of chosen()) checkbox(other).checked = false;
  moveTo(card, false);
  showChosenCount();
  openReasons(button);
}

function refuseWithReason(field) {
  const reason = field.value.trim();
  byId("reason-error").hidden = Boolean(reason);
  field.setAttribute("aria-invalid", String(!reason));
  if (!reason) return field.focus();
  decide("refuse", getTargets(), { reason });
  field.value = "";
}

byId("all").hidden = false;
document.addEventListener("keydown", onKey);
form.addEventListener("click", onClick);
form.addEventListener("submit", (event) => {
  if (event.submitter?.name !== "remove") event.preventDefault();
  else for (const card of getTargets()) checkbox(card).checked = true; // a page asks before they go
});
form.addEventListener("change", () => showChosenCount());
queue.addEventListener("focusin", (event) => moveTo(event.target.closest(".card"), false));
byId("undo").addEventListener("submit", (event) => {
  event.preventDefault();
  undo();
});
byId("reason")?.addEventListener("keydown", (event) => {
  if (event.key === "Enter") refuseWithReason(event.target);
  else if (event.key === "Escape") closeReasons();
  else return;
  event.preventDefault();
});
// Close the reasons on a click outside them.
document.addEventListener("pointerdown", (event) => {
  if (refusing?.open && !refusing.contains(event.target)) refusing.open = false;
});
// A refused form has the focus in the field to be corrected.
moveTo(cards()[0], focusIsNowhere() && !document.querySelector("[autofocus]"));
showChosenCount();
pollUnjudged();
observeImports();
