/*
 * Feedback on an answer: "Right" or "No, it was ...". Sends the digit that the person meant and the drawing, once the
 * person has consented to storing it. draw.js loads this module with the first prediction.
 */

import { labelText, NO_DIGIT } from "./words.js";

const CONSENT_KEY = "inkling-keep"; // in local storage, once the person has consented
const TIMEOUT = 10_000; // ms
const UNREACHABLE = "The server cannot be reached.";
const UNREADABLE = "The server gave no readable answer.";

function createElement(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function createButton(text, action, attributes = {}) {
  const button = createElement("button", { type: "button", ...attributes }, text);
  // Ignore the second click of a double tap: it would hit a button that the first one has brought.
  button.addEventListener("click", (event) => event.detail < 2 && action());
  return button;
}

function hasConsented() {
  try {
    return localStorage.getItem(CONSENT_KEY) !== null;
  } catch {
    return false; // storage is disabled: ask each time
  }
}

function rememberConsent() {
  try {
    localStorage.setItem(CONSENT_KEY, "1");
  } catch {
    // storage is disabled: ask again next time
  }
}

export class Feedback {
  #root;
  #url;
  #getPicture;
  #announce;
  #lastReceipt = createElement(
    "a",
    { class: "last", target: "_blank", rel: "noopener", hidden: "" },
    "Your last correction",
  );
  #prediction = null; // of the current drawing; null while there is none
  #sending = false;
  #receipt = null;

  /**
   * root: an empty element of reserved height, with the address for corrections in data-url. getPicture(): the current
   * drawing as a data URL. announce(text): tell a screen reader.
   */
  constructor(root, getPicture, announce) {
    this.#root = root;
    this.#url = root.dataset.url;
    this.#getPicture = getPicture;
    this.#announce = announce;
    for (const [name, value] of Object.entries({ role: "group", "aria-label": "Was it right?", tabindex: -1 })) {
      root.setAttribute(name, value);
    }
    root.parentElement.append(this.#lastReceipt);
    this.#loadStyleSheet();
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && root.querySelector(".panel")) this.#showQuestion();
    });
  }

  /** Load the style sheet, and hide the element until then. */
  #loadStyleSheet() {
    const href = new URL("../../css/draw/feedback.css", import.meta.url);
    const style = createElement("link", { rel: "stylesheet", href });
    this.#root.hidden = true;
    style.onload = style.onerror = () => {
      this.#root.hidden = false;
    };
    document.head.append(style);
  }

  /** Set the prediction of the current drawing; null while there is none. A request under way continues. */
  offer(prediction) {
    this.#prediction = prediction;
    if (!this.#sending) this.#showQuestion("offer");
  }

  /** Ask whether the answer is right. The style sheet shows step "offer" only after a delay without changes. */
  #showQuestion(step = "ask") {
    if (this.#prediction === null) {
      this.#show("none");
      return;
    }
    const { verdict, digits } = this.#prediction;
    const text = verdict === "unsure" ? "another …" : "No, it was …";
    const other = createButton(text, () => this.#showDigits(), { class: "other" });
    if (verdict === "unsure") {
      const named = digits.slice(0, 3).map((digit) => this.#createDigitButton(digit));
      this.#show(step, createElement("span", {}, "It was"), ...named, other);
    } else {
      this.#show(step, createButton("Right", () => this.#submit(verdict === "digit" ? digits[0] : NO_DIGIT)), other);
    }
  }

  #createDigitButton(digit) {
    return createButton(String(digit), () => this.#submit(digit), { class: "digit" });
  }

  #showDigits() {
    const digits = Array.from({ length: 10 }, (_, digit) => this.#createDigitButton(digit));
    const close = createButton("×", () => this.#showQuestion(), { "aria-label": "Close" });
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
    if (hasConsented()) this.#send(correction);
    else this.#askForConsent(correction);
  }

  #askForConsent(correction) {
    const keep = () => {
      rememberConsent();
      this.#send(correction);
    };
    const yes = createButton("Keep it", keep, { class: "primary" });
    const no = createButton("Not now", () => this.#showQuestion());
    const panel = createElement(
      "div",
      { class: "panel", role: "group", "aria-label": "May it be kept?", "aria-describedby": "keep-words" },
      createElement(
        "p",
        { id: "keep-words" },
        createElement("strong", {}, "Keep this drawing? "),
        "So that the network can learn, it is kept with what you meant, what was read, the time and a code made from " +
          "your network address. A person looks at it first. You get a link to follow or delete it. What you do not " +
          "send is never kept.",
      ),
      createElement("div", { class: "panel-foot" }, yes, no),
    );
    this.#show("keep", panel);
    this.#announce("Keep this drawing?");
  }

  async #send(correction) {
    this.#sending = true;
    const before = this.#prediction;
    this.#show("sending", createElement("span", {}, "Sending …"));
    const outcome = await this.#request(correction);
    this.#sending = false;
    if (outcome.receipt) this.#showReceipt(outcome, before === this.#prediction);
    else this.#showFailure(outcome, correction);
  }

  #showReceipt({ receipt, meant }, isCurrent) {
    this.#receipt = receipt;
    this.#announce(`Kept as ${labelText(meant)}.`);
    if (!isCurrent) {
      this.#showQuestion();
      return;
    }
    const link = createElement("a", { href: receipt, target: "_blank", rel: "noopener" }, "Follow or delete it");
    const change = createButton("Change", () => this.#showDigits());
    this.#show("kept", createElement("span", {}, `Kept as ${labelText(meant)}.`), link, change);
  }

  #showFailure({ message, retryable }, correction) {
    const retry = retryable ? [createButton("Try again", () => this.#send(correction))] : [];
    this.#show("failed", createElement("span", {}, message), ...retry);
    this.#announce(message);
  }

  /** Return the server's answer, or {message, retryable} on failure. */
  async #request(correction) {
    let response;
    try {
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
    return { message: body?.error?.message || UNREADABLE, retryable };
  }

  /** Replace the content, and keep the focus inside if it was there. */
  #show(step, ...children) {
    if (step === "none" && this.#root.dataset.step === step) return;
    const hadFocus = this.#root.contains(document.activeElement);
    this.#root.dataset.step = step;
    this.#root.replaceChildren(...children);
    this.#lastReceipt.hidden = this.#receipt === null || step === "kept";
    if (this.#receipt) this.#lastReceipt.href = this.#receipt;
    if (hadFocus) this.#focusTarget().focus({ preventScroll: true });
  }

  #focusTarget() {
    const first = (selector) => this.#root.querySelector(selector);
    // Focus the last button, not "Keep it": a second press of the same key would consent unread.
    return first(".choices button") ?? first(".panel-foot :last-child") ?? first("button, a") ?? this.#root;
  }
}
