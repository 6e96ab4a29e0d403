/*
 * The review of corrections by keyboard, and without waiting: a decision takes its cards away at once, the server is
 * told one decision after the other, and what it then has to show fills the places. The page works without this, as a
 * plain form.
 */

const WAITS = 15_000; // ms until the server counts as silent
const JUDGED_AFTER = 2_000; // ms between two looks whether those that wait have been judged
const DIGITS = "0123456789";
const NO_DIGIT = "not_a_digit";
// The places that two cards of one row may differ by, for fractions of a pixel.
const SAME_ROW = 4;

const byId = (id) => document.getElementById(id);
const form = byId("review");
const queue = byId("queue");
const refusing = byId("refusing");
const state = form.dataset.state;
const token = form.elements.csrf_token.value;

/** Where a range began. */
let anchor = null;
/** The batches that were decided here, the latest last: what Undo takes back first. */
const batches = [];
/** What the server is told, one after the other: how much it has been in all, and how much is still to come. */
let telling = Promise.resolve();
let told = 0;
let untold = 0;

// The cards

const cards = () => [...queue.children];
const current = () => queue.querySelector(".is-current");
const box = (card) => card.querySelector(".card-pick");
const number = (card) => Number(card.dataset.id);
const chosen = () => cards().filter((card) => box(card).checked);

/** What a decision is about: the chosen cards, or the one at hand. */
function targets() {
  const picked = chosen();
  return picked.length ? picked : [current()].filter(Boolean);
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

/** The card so many places, or with `rows` so many rows, from the current one; itself at the end. */
function beside(card, step, rows) {
  const all = cards();
  const at = all.indexOf(card);
  if (!rows) return all[at + step] ?? card;
  const { offsetTop, offsetLeft } = card;
  const further = step > 0 ? all.slice(at + 1) : all.slice(0, at).reverse();
  const next = further.find((other) => Math.abs(other.offsetTop - offsetTop) > SAME_ROW);
  if (!next) return card;
  const row = all.filter((other) => Math.abs(other.offsetTop - next.offsetTop) <= SAME_ROW);
  return row.reduce((best, other) =>
    Math.abs(other.offsetLeft - offsetLeft) < Math.abs(best.offsetLeft - offsetLeft) ? other : best,
  );
}

function chooseRange(from, to) {
  const all = cards();
  const [first, last] = [all.indexOf(from), all.indexOf(to)].sort((a, b) => a - b);
  if (first < 0) return;
  for (const card of all.slice(first, last + 1)) box(card).checked = true;
}

function chooseAll() {
  const some = cards().some((card) => !box(card).checked);
  for (const card of cards()) box(card).checked = some;
  tellChosen();
}

function tellChosen() {
  const count = chosen().length;
  const words = count ? `${count} chosen` : "This one";
  if (byId("chosen").textContent !== words) byId("chosen").textContent = words;
  byId("all").textContent = count && count === cards().length ? "None" : "All";
}

// Decisions

function decide(action, about, more = {}) {
  if (!about.length) return;
  const ids = about.map(number);
  take(about);
  if (refusing) refusing.open = false;
  const body = { action, ids, state, ...more };
  tell(form.action, () => body, (answer) => {
    if (answer.batch) batches.push(answer.batch);
  });
}

/** Takes cards away and hands over to the one that takes the place of the first of them. */
function take(gone) {
  const all = cards();
  const rest = all.filter((card) => !gone.includes(card));
  const at = all.indexOf(gone.includes(current()) ? current() : gone[0]);
  const next = all.slice(at).find((card) => !gone.includes(card)) ?? rest.at(-1);
  for (const card of gone) card.remove();
  if (next) moveTo(next);
  showWhetherEmpty();
  tellChosen();
}

function undo() {
  const last = () => (batches.length ? { batch: batches.pop() } : {});
  tell(byId("undo").action, last, null, (answer) => moveTo(byId(`c${answer.undone[0]}`)));
}

/**
 * Tells the server what `body()` returns, after what it is being told already, and shows what it then has to show.
 * `then` gets the answer at once, `afterwards` when it is shown; neither where something is wrong.
 */
function tell(url, body, then, afterwards) {
  told += 1;
  untold += 1;
  telling = telling.then(async () => {
    const answer = await post(url, body());
    untold -= 1;
    say(answer.error ?? answer.said, Boolean(answer.error));
    if (!answer.error) then?.(answer);
    if (untold === 0) await refill();
    if (!answer.error) afterwards?.(answer);
  });
}

/** The answer, or what is wrong as `error`, a sentence. */
async function post(url, body) {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": token },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(WAITS),
    });
    const answer = await response.json();
    return response.ok ? answer : { error: answer.error.message };
  } catch {
    return { error: "The server cannot be reached. Reload the page to see what was decided." };
  }
}

function say(words, isBad) {
  byId("told").textContent = words;
  byId("told").classList.toggle("is-bad", isBad);
}

function showWhetherEmpty() {
  byId("nothing").hidden = queue.children.length > 0;
  byId("bar").hidden = queue.children.length === 0;
}

// What the server shows

/**
 * Fetches the page anew. Cards that are there stay where they are, whatever the order is by now, so that none moves
 * away from under a finger; new ones, and those that were taken back, come in where they belong among them.
 */
async function refill() {
  const before = told;
  const page = await fetchPage();
  if (!page || told !== before || untold) return; // it shows what has been decided by now
  const hadCurrent = cards().indexOf(current());
  const next = [...page.getElementById("queue").children];
  if (page.getElementById("review").dataset.pages === "1") removeAllBut(next);
  let last = null;
  for (const card of next) {
    const old = byId(card.id);
    if (old) renew(old, card);
    else if (last) last.after(card);
    else queue.prepend(card);
    last = old ?? card;
  }
  showFigures(page);
  if (!current()) moveTo(cards()[Math.min(Math.max(hadCurrent, 0), cards().length - 1)], focusIsNowhere());
  showWhetherEmpty();
  tellChosen();
}

/** Those that the only page does not show are decided or deleted; of several pages it may be that others came first. */
function removeAllBut(next) {
  const there = new Set(next.map((card) => card.id));
  for (const card of cards()) if (!there.has(card.id)) card.remove();
}

function showFigures(page) {
  for (const count of page.querySelectorAll(".tabs .count")) {
    byId(count.parentElement.id).querySelector(".count").textContent = count.textContent;
  }
  form.dataset.unjudged = page.getElementById("review").dataset.unjudged;
}

/** What is said on a card may have changed; its box and its place stay. */
function renew(old, next) {
  const mine = old.querySelector(".card-words");
  const theirs = next.querySelector(".card-words");
  if (mine.innerHTML === theirs.innerHTML) return;
  const isCurrent = old.classList.contains("is-current");
  old.className = next.className;
  old.classList.toggle("is-current", isCurrent);
  mine.replaceWith(theirs);
}

async function fetchPage() {
  try {
    const response = await fetch(location.href, {
      headers: { Accept: "text/html" },
      signal: AbortSignal.timeout(WAITS),
    });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    return page.getElementById("queue") ? page : null;
  } catch {
    return null;
  }
}

let watching = false;

/** As long as some are being judged, looks again. */
async function watchJudging() {
  if (watching) return;
  watching = true;
  while (Number(form.dataset.unjudged) > 0) {
    await new Promise((resume) => setTimeout(resume, JUDGED_AFTER));
    if (!document.hidden && untold === 0) await refill();
  }
  watching = false;
}

/** What an import has brought is shown when admin.js has seen it end. */
function watchImports() {
  const observer = new MutationObserver(async () => {
    if (untold === 0) await refill();
    watchJudging();
  });
  for (const part of document.querySelectorAll(".import")) {
    observer.observe(part, { attributes: true, attributeFilter: ["data-state"] });
  }
}

// Keys and clicks

const focusIsNowhere = () => document.activeElement === document.body;

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
  if (refusing?.open ? refuseByKey(event) : actByKey(event)) event.preventDefault();
}

const isTyping = (element) => element.matches("input:not([type=checkbox]), textarea, select");

/** While the reasons are open, a figure is one of them. Whether the key meant anything. */
function refuseByKey(event) {
  if (event.key === "Escape") {
    refusing.open = false;
    current()?.focus();
    return true;
  }
  const reasons = [...refusing.querySelectorAll("[name=because]")];
  const reason = event.key === "r" ? reasons[0] : DIGITS.includes(event.key) && reasons[Number(event.key) - 1];
  if (!reason) return false;
  decide("refuse", targets(), { reason: reason.value });
  return true;
}

function actByKey(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in MOVES) return move(...MOVES[key], event.shiftKey);
  if (key === "u") return undo(), true;
  if (key === "s") return chooseAll(), true;
  if (key === " " && !event.target.matches("button, summary, input")) return toggle(current());
  if (key === "a" && form.querySelector(".bar [name=approve]")) return decide("approve", targets()), true;
  if (key === "r" && refusing) return openReasons();
  if (key === "n") return decide("relabel", targets(), { label: NO_DIGIT }), true;
  if (DIGITS.includes(key)) return decide("relabel", targets(), { label: Number(key) }), true;
  return false;
}

function move(step, rows, range) {
  const from = current() ?? cards()[0];
  if (!from) return false;
  const to = beside(from, step, rows);
  if (range) chooseRange(from, to);
  anchor = to;
  moveTo(to);
  tellChosen();
  return true;
}

function toggle(card) {
  if (!card) return false;
  box(card).checked = !box(card).checked;
  anchor = card;
  tellChosen();
  return true;
}

function openReasons() {
  if (!targets().length) return false;
  refusing.open = true;
  refusing.querySelector("[name=because]").focus();
  return true;
}

function onClick(event) {
  const card = event.target.closest(".card");
  const button = event.target.closest("button");
  if (card && !button) pick(event, card);
  if (button?.id === "all") chooseAll();
  if (!button || button.type !== "submit") return;
  event.preventDefault();
  press(button, card);
}

/** A click on a card makes it the one at hand; with shift it chooses all from the last one. */
function pick(event, card) {
  const isBox = event.target.matches(".card-pick");
  const from = queue.contains(anchor) ? anchor : current();
  moveTo(card, !isBox);
  if (event.shiftKey) {
    if (!isBox) event.preventDefault(); // its label would turn the box back
    chooseRange(from, card);
    tellChosen();
  }
  anchor = card;
}

/** A submit button of the form does what it says, here. */
function press(button, card) {
  const about = card ? [card] : targets();
  if (button.name === "approve") decide("approve", about);
  else if (button.name === "relabel") decide("relabel", about, { label: Number(button.value) });
  else if (button.name === "because") decide("refuse", about, { reason: button.value });
  else if (card) refuseOne(card);
  else refuseFor(byId("reason"));
}

function refuseOne(card) {
  for (const other of chosen()) box(other).checked = false;
  moveTo(card, false);
  tellChosen();
  openReasons();
}

function refuseFor(field) {
  const reason = field.value.trim();
  if (!reason) return field.focus();
  decide("refuse", targets(), { reason });
  field.value = "";
}

byId("all").hidden = false;
document.addEventListener("keydown", onKey);
form.addEventListener("click", onClick);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", tellChosen);
queue.addEventListener("focusin", (event) => moveTo(event.target.closest(".card"), false));
byId("undo").addEventListener("submit", (event) => {
  event.preventDefault();
  undo();
});
byId("reason")?.addEventListener("keydown", (event) => {
  if (event.key === "Enter") refuseFor(event.target);
  else if (event.key === "Escape") {
    refusing.open = false;
    current()?.focus();
  } else return;
  event.preventDefault();
});
// A click beside the reasons closes them.
document.addEventListener("pointerdown", (event) => {
  if (refusing?.open && !refusing.contains(event.target)) refusing.open = false;
});
moveTo(cards()[0], focusIsNowhere());
tellChosen();
watchJudging();
watchImports();
