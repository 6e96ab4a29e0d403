/*
 * Reads picture files: prepares them, asks the server, shows the picture and what was found in it. draw.js loads this
 * module with the first file.
 */

import { prepare } from "./picture_file.js";
import { PictureView } from "./picture_view.js";

const READING = "Reading the picture …";
const READ = "The picture is read";
const NOTHING = "No writing is found. Drag a frame around the digits.";

const noteOn = (count) => (count > 1 ? `The first of ${count} files is read.` : "");

/** Return where a frame is, for screen readers. */
function frameText(box) {
  const [left, top, right, bottom] = box.map((share) => Math.round(100 * share));
  return `Frame from ${left} to ${right} % across and from ${top} to ${bottom} % down`;
}

export class PictureReader {
  #client; // ReadClient
  #numbers; // NumberPanel
  #page;
  #view;
  #url = null; // of the picture that is shown
  #isAnswered = false; // whether there is an answer to it
  #chosen = 0; // number of the latest file
  #turn = 0; // number of the latest file that can be read

  /**
   * page: {opened(), closed(), setState(state, message), notice(message), say(text), show(prediction)}: called when a
   * picture replaces the drawing, when the drawing comes back, and with what there is to say.
   */
  constructor({ client, numbers, sheet, tools, page }) {
    this.#client = client;
    this.#numbers = numbers;
    this.#page = page;
    this.#view = new PictureView(sheet, tools);
    this.#view.addEventListener("crop", ({ detail }) => this.#read({ crop: detail }));
    this.#view.addEventListener("mark", ({ detail }) => page.say(frameText(detail)));
    this.#view.addEventListener("close", () => this.close());
  }

  get isShown() {
    return this.#view.isShown;
  }

  /** Read the first of the files. */
  async open(files) {
    const turn = (this.#chosen += 1);
    const note = noteOn(files.length);
    this.#page.setState("loading", READING);
    const [{ url, canvas, message }] = await Promise.all([prepare(files[0]), this.#view.loaded, this.#numbers.loaded]);
    if (turn < this.#turn) return;
    if (message) {
      this.#page.notice(message); // what is being read goes on
      return;
    }
    this.#turn = turn;
    if (canvas) this.#show(url, canvas, canvas, note);
    const answer = await this.#ask({ image: url }, canvas !== null);
    if (!answer) {
      if (!canvas && turn === this.#turn && this.isShown && !this.#isAnswered) await this.#read({}); // the one before
      return;
    }
    if (!canvas) {
      const image = new Image();
      image.alt = "";
      image.src = answer.picture?.image ?? answer.reading.digit_image ?? "";
      await image.decode().catch(() => {});
      if (turn !== this.#turn) return;
      this.#show(url, image, { width: image.naturalWidth || 1, height: image.naturalHeight || 1 }, note);
    }
    this.#showAnswer(answer);
  }

  /** Drop what is under way. */
  cancel() {
    this.#turn = this.#chosen += 1;
    this.#client.cancel();
  }

  /** Go back to the drawing. */
  close() {
    this.cancel();
    if (!this.isShown) return;
    this.#view.hide();
    this.#numbers.hide();
    this.#url = null;
    this.#page.closed();
  }

  #show(url, picture, size, note) {
    this.#url = url;
    this.#isAnswered = false;
    this.#numbers.hide();
    this.#view.show(picture, size, note);
    this.#page.opened(this.#view);
    this.#page.setState("loading", READING);
  }

  async #read({ crop }) {
    this.#page.setState("loading", READING);
    const answer = await this.#ask({ image: this.#url, crop });
    if (answer) this.#showAnswer(answer);
  }

  /** Return the server's answer; null if it was dropped, or if there is none, which is said. */
  async #ask(request, isOnSheet = true) {
    const outcome = await this.#client.read(() => request);
    if (outcome?.message) {
      if (isOnSheet) this.#page.setState("error", outcome.message);
      else this.#page.notice(outcome.message);
    }
    return outcome?.answer ?? null;
  }

  #showAnswer(answer) {
    this.#isAnswered = true;
    this.#view.showFound(answer.picture?.ink ?? null, answer.picture?.box ?? null);
    const { reading } = answer;
    if (this.#numbers.show(answer, this.#view.frame)) {
      this.#page.setState("reading", READ);
    } else if (reading.verdict === "blank") {
      this.#page.show(reading);
      this.#page.setState("blank", NOTHING);
    } else {
      this.#page.setState("reading", READ);
      this.#page.show({ ...reading, picture: reading.digit_image });
    }
  }
}
