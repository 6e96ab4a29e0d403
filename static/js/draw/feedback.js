/*
 * "Right" or "No, it was ...", under an answer: what a person says of it, sent with the drawing as it was at the tap.
 * Loaded with the first answer. Nothing is sent before the person has agreed once to what is kept.
 */

import { meaning, NO_DIGIT } from "./words.js";

const AGREED = "inkling-keep"; // in this browser's storage: the person has agreed
const ANSWER_WAITS = 10000; // ms
const UNREACHABLE = "The server cannot be reached.";
const UNREADABLE = "The server gave no readable answer.";

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function button(words, action, attributes = {}) {
  const made = make("button", { type: "button", ...attributes }, words);
  // The second half of a double tap would fall on what the first one has brought.
  made.addEventListener("click", (event) => event.detail < 2 && action());
  return made;
}

function hasAgreed() {
  try {
    return localStorage.getItem(AGREED) !== null;
  } catch {
    return false; // storage is switched off: the person is asked each time
  }
}

function rememberAgreement() {
  try {
    localStorage.setItem(AGREED, "1");
  } catch {
    // as above
  }
}

export class Feedback {
  #place;
  #url;
  #picture;
  #say;
  #last = make("a", { class: "last", target: "_blank", rel: "noopener", hidden: "" }, "Your last correction");
  #reading = null; // of the drawing as it is now; null while there is none
  #sending = false;
  #receipt = null;

  /**
   * place: an empty element whose height is reserved and whose data-url says where corrections go; picture(): the
   * drawing of now as a data URL; say(words): for the ear.
   */
  constructor(place, picture, say) {
    this.#place = place;
    this.#url = place.dataset.url;
    this.#picture = picture;
    this.#say = say;
    for (const [name, value] of Object.entries({ role: "group", "aria-label": "Was it right?", tabindex: -1 })) {
      place.setAttribute(name, value);
    }
    place.parentElement.append(this.#last);
    this.#dress();
    place.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && place.querySelector(".panel")) this.#ask();
    });
  }

  /** Nothing is seen before its style is there. */
  #dress() {
    const style = make("link", { rel: "stylesheet", href: new URL("../../css/draw/feedback.css", import.meta.url) });
    this.#place.hidden = true;
    style.onload = style.onerror = () => {
      this.#place.hidden = false;
    };
    document.head.append(style);
  }

  /** The drawing of now has this reading, or null: none yet. What is being sent of an earlier one goes on its way. */
  offer(reading) {
    this.#reading = reading;
    if (!this.#sending) this.#ask("offer");
  }

  /** The first question; as an "offer" it comes by itself, and not before the pen has rested for a moment. */
  #ask(step = "ask") {
    if (this.#reading === null) {
      this.#show("none");
      return;
    }
    const { verdict, digits } = this.#reading;
    const words = verdict === "unsure" ? "another …" : "No, it was …";
    const other = button(words, () => this.#choose(), { class: "other" });
    if (verdict === "unsure") {
      const named = digits.slice(0, 3).map((digit) => this.#digit(digit));
      this.#show(step, make("span", {}, "It was"), ...named, other);
    } else {
      this.#show(step, button("Right", () => this.#mean(verdict === "digit" ? digits[0] : NO_DIGIT)), other);
    }
  }

  #digit(digit) {
    return button(String(digit), () => this.#mean(digit), { class: "digit" });
  }

  #choose() {
    const digits = Array.from({ length: 10 }, (_, digit) => this.#digit(digit));
    const close = button("×", () => this.#ask(), { "aria-label": "Close" });
    const panel = make(
      "div",
      { class: "panel", role: "group", "aria-label": "Which digit was it?" },
      make("div", { class: "panel-head" }, make("span", {}, "It was …"), close),
      make("div", { class: "choices" }, ...digits, button("not a digit", () => this.#mean(NO_DIGIT))),
    );
    this.#show("choose", panel);
  }

  /** The person has said it: the drawing is taken as it is at this moment. */
  #mean(meant) {
    const correction = { image: this.#picture(), meant };
    if (hasAgreed()) this.#send(correction);
    else this.#askToKeep(correction);
  }

  #askToKeep(correction) {
    const keep = () => {
      rememberAgreement();
      this.#send(correction);
    };
    const buttons = [button("Keep it", keep, { class: "primary" }), button("Not now", () => this.#ask())];
    const panel = make(
      "div",
      { class: "panel", role: "group", "aria-label": "May it be kept?", "aria-describedby": "keep-words" },
      make(
        "p",
        { id: "keep-words" },
        make("strong", {}, "Keep this drawing? "),
        "So that the network can learn, it is kept with what you meant, what was read, the time and a code made from " +
          "your network address. A person looks at it first. You get a link to follow or delete it. What you do not " +
          "send is never kept.",
      ),
      make("div", { class: "panel-foot" }, ...buttons),
    );
    this.#show("keep", panel);
    this.#say("Keep this drawing?");
  }

  async #send(correction) {
    this.#sending = true;
    const before = this.#reading;
    this.#show("sending", make("span", {}, "Sending …"));
    const outcome = await this.#request(correction);
    this.#sending = false;
    if (outcome.receipt) this.#kept(outcome, correction, before === this.#reading);
    else this.#failed(outcome, correction);
  }

  #kept({ receipt, meant }, correction, isOfNow) {
    this.#receipt = receipt;
    this.#say(`Kept as ${meaning(meant)}.`);
    if (!isOfNow) {
      this.#ask();
      return;
    }
    const link = make("a", { href: receipt, target: "_blank", rel: "noopener" }, "Follow or delete it");
    const change = button("Change", () => this.#choose());
    this.#show("kept", make("span", {}, `Kept as ${meaning(meant)}.`), link, change);
  }

  #failed({ message, again }, correction) {
    const retry = again ? [button("Try again", () => this.#send(correction))] : [];
    this.#show("failed", make("span", {}, message), ...retry);
    this.#say(message);
  }

  /** The server's answer, or {message, again}: why there is none, and whether it may help to try again. */
  async #request(correction) {
    let response;
    try {
      response = await fetch(this.#url, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify(correction),
        signal: AbortSignal.timeout(ANSWER_WAITS),
      });
    } catch {
      return { message: UNREACHABLE, again: true };
    }
    const body = await response.json().catch(() => null);
    if (response.ok && typeof body?.receipt === "string") return body;
    const again = response.ok || response.status === 429 || response.status >= 500;
    return { message: body?.error?.message || UNREADABLE, again };
  }

  /** Puts these into the place; whoever worked here by keyboard goes on here. */
  #show(step, ...children) {
    if (step === "none" && this.#place.dataset.step === step) return;
    const hadFocus = this.#place.contains(document.activeElement);
    this.#place.dataset.step = step;
    this.#place.replaceChildren(...children);
    this.#last.hidden = this.#receipt === null || step === "kept";
    if (this.#receipt) this.#last.href = this.#receipt;
    if (hadFocus) this.#bestForFocus().focus({ preventScroll: true });
  }

  #bestForFocus() {
    const first = (selector) => this.#place.querySelector(selector);
    // not "Keep it", to which a second press of the same key would agree unread
    return first(".choices button") ?? first(".panel-foot :last-child") ?? first("button, a") ?? this.#place;
  }
}
