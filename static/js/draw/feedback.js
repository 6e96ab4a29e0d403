/*
 * Feedback on an answer: "Right" or "No, it was ...". Sends the digit that the person meant and the drawing, once the
 * person has consented to storing it: to this drawing, or to all that are corrected until the tab is closed. draw.js
 * loads this module with the first prediction.
 */

import { addStyleSheet, createElement } from "./elements.js";
import { Outbox } from "./outbox.js";
import { forget, recall, remember } from "./session.js";
import { labelText, NO_DIGIT } from "./words.js";

const CONSENT = "consent"; // kept in the session while it holds
const DOUBLE_TAP = 300; // ms
const TIMEOUT = 10_000; // ms
const SOON = 60_000; // ms
const UNREACHABLE = "The server cannot be reached.";
const UNREADABLE = "The server gave no readable answer.";

const clock = {
  now: () => Date.now(),
  setTimeout: window.setTimeout.bind(window),
  clearTimeout: window.clearTimeout.bind(window),
};

/** Return "in a moment", "at 14:35", or "tomorrow at 9:05", for a time in ms since 1970. */
function whenText(time) {
  if (time - Date.now() < SOON) return "in a moment";
  const at = new Date(time).toLocaleTimeString([], { hour: "numeric", minute: "2-digit" });
  return new Date(time).getDate() === new Date().getDate() ? `at ${at}` : `tomorrow at ${at}`;
}

function createButton(text, action, attributes = {}) {
  const button = createElement("button", { type: "button", ...attributes }, text);
  const createdAt = performance.now();
  button.addEventListener("click", (event) => {
    // Ignore the second click of a double tap, which hits a button that the first one has brought. (Clicks by keyboard
    // have no detail.)
    if (event.detail === 0 || event.timeStamp - createdAt > DOUBLE_TAP) action();
  });
  return button;
}

export class Feedback {
  #root;
  #url;
  #getPicture;
  #announce;
  #keeping; // element that says that corrected drawings are kept
  #hasSent = false;
  #prediction = null; // of the current drawing; null while there is none
  #sending = false;
  #outbox;
  #waiting = null; // correction in the outbox of which the row says so
  #below = () => {}; // shows again what a panel has covered
  #opener = ""; // text of the button that has opened a panel

  /**
   * root, keeping: empty elements of reserved height, with the addresses for corrections and of the list of one's own in
   * data-url. getPicture(): the current drawing as a data URL. announce(text): tell a screen reader.
   */
  constructor(root, keeping, getPicture, announce) {
    this.#root = root;
    this.#keeping = keeping;
    this.#url = root.dataset.url;
    this.#getPicture = getPicture;
    this.#announce = announce;
    this.#outbox = new Outbox({
      send: (correction) => this.#request(correction),
      clock,
      storage: { recall, remember, forget },
      onTried: (outcome, correction) => this.#triedFromOutbox(outcome, correction),
    });
    for (const [name, value] of Object.entries({ role: "group", "aria-label": "Was it right?", tabindex: -1 })) {
      root.setAttribute(name, value);
    }
    this.#loadStyleSheet();
    this.#showKeeping();
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#hasPanel()) this.#closePanel();
    });
    const noteOpener = ({ target }) => {
      if (!this.#hasPanel()) this.#opener = target.textContent;
    };
    root.addEventListener("click", noteOpener, { capture: true });
  }

  /** Load the style sheet, and hide the elements until then. */
  async #loadStyleSheet() {
    this.#root.hidden = this.#keeping.hidden = true;
    await addStyleSheet("feedback");
    this.#root.hidden = this.#keeping.hidden = false;
  }

  /** Say that drawings are kept, while the consent holds, and link to those of the browser. */
  #showKeeping() {
    const hasConsent = recall(CONSENT) !== null;
    const { size } = this.#outbox;
    const waiting = size > 0 ? `${size} to be sent ${whenText(this.#outbox.dueAt)}.` : "";
    const state = waiting || (hasConsent ? "kept" : this.#hasSent ? "stopped" : "none");
    if (this.#keeping.dataset.state === state) return;
    this.#keeping.dataset.state = state;
    const stop = createButton("Stop", () => {
      forget(CONSENT);
      this.#outbox.drop();
      if (this.#waiting) this.#showQuestion();
      this.#showKeeping();
      this.#announce("Stopped. Inkling asks again before it keeps a drawing.");
    });
    const text = waiting || "Drawings you mark are kept.";
    const words = hasConsent || waiting ? [createElement("span", {}, text), stop] : [];
    const own = createElement("a", { href: this.#keeping.dataset.url }, "Your drawings");
    this.#keeping.replaceChildren(...words, ...(state === "none" ? [] : [own]));
  }

  #hasPanel() {
    return this.#root.querySelector(".panel") !== null;
  }

  /** Close a panel, and move the focus to the button that has opened it. */
  #closePanel() {
    this.#below();
    const opener = [...this.#root.querySelectorAll("button")].find((button) => button.textContent === this.#opener);
    opener?.focus({ preventScroll: true });
  }

  /** Set the prediction of the current drawing; null while there is none. A request under way continues. */
  offer(prediction) {
    this.#prediction = prediction;
    if (!this.#sending) this.#showQuestion("offer");
  }

  /** Ask whether the answer is right. The style sheet shows step "offer" only after a delay without changes. */
  #showQuestion(step = "ask") {
    this.#below = () => this.#showQuestion();
    if (this.#prediction === null) {
      this.#show("none");
      return;
    }
    const { verdict, digits } = this.#prediction;
    const text = { unsure: "another …", [NO_DIGIT]: "It was a …" }[verdict] ?? "No, it was …";
    const other = createButton(text, () => this.#showDigits(), { class: "other" });
    if (verdict === "unsure") {
      const named = digits.slice(0, 3).map((digit) => this.#createDigitButton(digit));
      this.#show(step, createElement("span", {}, "It was"), ...named, other);
    } else {
      const right = verdict === NO_DIGIT ? "Right, not a digit" : "Right";
      this.#show(step, createButton(right, () => this.#submit(verdict === NO_DIGIT ? NO_DIGIT : digits[0])), other);
    }
  }

  #createDigitButton(digit) {
    return createButton(String(digit), () => this.#submit(digit), { class: "digit" });
  }

  #showDigits() {
    const digits = Array.from({ length: 10 }, (_, digit) => this.#createDigitButton(digit));
    const close = createButton("×", () => this.#closePanel(), { "aria-label": "Close" });
    const panel = createElement(
      "div",
      { class: "panel", role: "group", "aria-label": "Which digit was it?" },
      createElement("div", { class: "panel-head" }, createElement("span", {}, "It was …"), close),
      createElement("div", { class: "choices" }, ...digits, createButton("not a digit", () => this.#submit(NO_DIGIT))),
    );
    this.#show("choose", panel);
  }

  /** Send what the person meant, with the drawing as it is now; ask for consent first. */
  #submit(meant) {
    const correction = { image: this.#getPicture(), meant };
    if (recall(CONSENT) !== null) this.#send(correction);
    else this.#askForConsent(correction);
  }

  #askForConsent(correction) {
    const keep = () => {
      remember(CONSENT, "yes");
      this.#send(correction);
    };
    const yes = createButton("Yes, keep them", keep, { class: "primary" });
    const once = createButton("Keep this one, ask every time", () => this.#send(correction));
    const no = createButton("Not now", () => this.#closePanel());
    const question = "Let Inkling keep the drawings you correct?";
    const kept = this.#prediction?.picture ? "this digit is kept, cut out of the rest" : "this drawing is kept";
    const panel = createElement(
      "div",
      { class: "panel", role: "group", "aria-labelledby": "keep-question", "aria-describedby": "keep-words" },
      createElement("p", {}, createElement("strong", { id: "keep-question" }, question)),
      createElement(
        "p",
        { id: "keep-words", class: "small" },
        `So that the network can learn, ${kept}, or each that you mark right or correct until you close ` +
          "this tab: with what you meant, what was read, the time, and two codes that tell senders apart without " +
          "names. A person looks at it first. You can follow and delete it. What you do not send is never kept.",
      ),
      createElement("div", { class: "panel-foot" }, yes, once, no),
    );
    this.#show("keep", panel);
    this.#announce(question);
  }

  async #send(correction) {
    this.#sending = true;
    const before = this.#prediction;
    this.#show("sending", createElement("span", {}, "Sending …"));
    const outcome = await this.#request(correction);
    this.#sending = false;
    if (!outcome.receipt) {
      if (!outcome.wait || !this.#outbox.add(correction, outcome.wait)) this.#showFailure(outcome, correction);
      else if (before === this.#prediction) this.#showWaiting(correction);
      else this.#showQuestion();
      this.#showKeeping();
      return;
    }
    this.#hasSent = true;
    this.#showKeeping();
    this.#announce(`Kept as ${labelText(outcome.meant)}.`);
    if (before === this.#prediction) this.#showReceipt(outcome);
    else this.#showQuestion();
  }

  #showReceipt({ receipt, meant }) {
    this.#below = () => this.#showReceipt({ receipt, meant });
    const link = createElement("a", { href: receipt, target: "_blank", rel: "noopener" }, "Follow or delete it");
    const change = createButton("Change", () => this.#showDigits());
    this.#show("kept", createElement("span", {}, `Kept as ${labelText(meant)}.`), link, change);
  }

  /** Too many come at once: say when this one is sent. The person may draw on. */
  #showWaiting(correction) {
    this.#below = () => this.#showWaiting(correction);
    const text = `Many are sending corrections. This one waits in this tab, and is sent ${whenText(this.#outbox.dueAt)}.`;
    this.#show("waiting", createElement("span", {}, text));
    this.#waiting = correction;
    this.#announce(text);
  }

  #triedFromOutbox(outcome, correction) {
    this.#hasSent ||= Boolean(outcome.receipt);
    this.#showKeeping();
    if (this.#waiting !== correction) return;
    if (outcome.receipt) {
      this.#showReceipt(outcome);
      this.#announce(`Kept as ${labelText(outcome.meant)}.`);
    } else if (outcome.retryable) {
      this.#showWaiting(correction);
    } else {
      this.#showFailure(outcome, correction);
    }
  }

  #showFailure({ message, retryable }, correction) {
    const retry = retryable ? [createButton("Try again", () => this.#send(correction))] : [];
    this.#show("failed", createElement("span", {}, message), ...retry);
    this.#announce(message);
  }

  /** Return the server's answer, or {message, retryable, wait} on failure; wait: seconds that it says to wait. */
  async #request(correction) {
    let response;
    try {
      if (!this.#hasSent) {
        // Get the browser's cookie first: if the answer to a correction is lost, sending it again finds it.
        const options = { method: "HEAD", headers: { Accept: "application/json" } };
        await fetch(this.#keeping.dataset.url, { ...options, signal: AbortSignal.timeout(TIMEOUT) });
      }
      response = await fetch(this.#url, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify(correction),
        signal: AbortSignal.timeout(TIMEOUT),
      });
    } catch {
      return { message: UNREACHABLE, retryable: true };
    }
    const body = await response.json().catch(() => null);
    if (response.ok && typeof body?.receipt === "string") return body;
    const retryable = response.ok || response.status === 429 || response.status >= 500;
    const wait = response.status === 429 ? Number(response.headers.get("Retry-After")) || 1 : 0;
    return { message: body?.error?.message || UNREADABLE, retryable, wait };
  }

  /** Replace the content, and keep the focus inside if it was there. */
  #show(step, ...children) {
    if (step === "none" && this.#root.dataset.step === step) return;
    const hadFocus = this.#root.contains(document.activeElement);
    this.#waiting = null;
    this.#root.dataset.step = step;
    this.#root.replaceChildren(...children);
    if (hadFocus) this.#focusTarget().focus({ preventScroll: true });
  }

  #focusTarget() {
    const first = (selector) => this.#root.querySelector(selector);
    // Focus the last button, not "Yes, keep them": a second press of the same key would consent unread.
    return first(".choices button") ?? first(".panel-foot :last-child") ?? first("button, a") ?? this.#root;
  }
}
