/*
 * Reads a drawing of several digits as a number, once the pen rests. draw.js loads this module with the first one.
 */

import { NumberPanel } from "./number_panel.js";
import { requestOf, sheetOf } from "./numbers.js";
import { ReadClient } from "./read_client.js";

const REST = 200; // ms without a change; a refusal is shown later, and would only flicker

export class NumberReader {
  #sheet;

  /** sheet: element of the sheet. The others are those of ReadClient and NumberPanel. */
  constructor({ sheet, url, fetch, clock, onWait, ...panel }) {
    this.#sheet = sheet;
    this.client = new ReadClient({ url, fetch, clock, onWait });
    this.panel = new NumberPanel(panel);
  }

  /**
   * Read strokes and show their number. Return {isNumber}, or {message} on failure; null if the drawing has changed
   * meanwhile.
   */
  async read(strokes) {
    await this.panel.loaded;
    const outcome = await this.client.read(() => requestOf(strokes), REST);
    if (outcome?.answer) return { isNumber: this.panel.show(outcome.answer, this.#sheet, sheetOf(strokes)) };
    if (outcome) this.panel.hide();
    return outcome;
  }

  /** Show no number, and drop the request under way. */
  drop() {
    this.client.cancel();
    this.panel.hide();
  }
}
