/*
 * Values that the tab keeps until it is closed, in session storage: the next person at a shared device starts anew.
 * Without storage (disabled or full) nothing is kept, and nothing fails.
 */

const PREFIX = "inkling-";
const MAX_LENGTH = 1_000_000; // characters; browsers keep about 5 million

export function recall(key) {
  try {
    return sessionStorage.getItem(PREFIX + key);
  } catch {
    return null;
  }
}

export function forget(key) {
  try {
    sessionStorage.removeItem(PREFIX + key);
  } catch {
    // nothing was kept
  }
}

/** Keep a text; forget the earlier one if the new one cannot be kept. */
export function remember(key, text) {
  forget(key);
  if (text.length > MAX_LENGTH) return;
  try {
    sessionStorage.setItem(PREFIX + key, text);
  } catch {
    // storage is full
  }
}

/** Remove the consent that earlier releases kept for ever. */
export function forgetFormerConsent() {
  try {
    localStorage.removeItem("inkling-keep");
  } catch {
    // nothing was kept
  }
}
