"""Measure the delays of the drawing page in a headless Chromium: `python -m benchmarks.page`.

Digits are drawn stroke by stroke. The page itself measures the time from the lifting of the pen, by the event's time
stamp, to the first frame in which the answer about that drawing has changed the bars. The bytes transferred by a first
and a second visit are counted too.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from benchmarks.figures import Figure, table
from benchmarks.server import ANSWER_SECONDS, WORKERS, Failed, installation, serving
from tests.support.browser import chromium
from tests.support.strokes import DIGITS, draw

STROKES = 60

# Runs before the page's own scripts. Counts only the answer to the request sent after the pen was lifted.
WATCH = """
(() => {
  const state = { lifted: null, answered: false, taken: [] };
  window.watched = state;
  const fetch = window.fetch;
  window.fetch = async (...request) => {
    const counts = state.lifted !== null;
    const response = await fetch(...request);
    if (counts) state.answered = true;
    return response;
  };
  addEventListener("pointerup", (event) => {
    if (event.target.id === "canvas") Object.assign(state, { lifted: event.timeStamp, answered: false });
  }, true);
  const changed = () => {
    if (!state.answered) return;
    const { lifted } = state;
    Object.assign(state, { lifted: null, answered: false });
    requestAnimationFrame(() => setTimeout(() => state.taken.push(performance.now() - lifted)));
  };
  addEventListener("DOMContentLoaded", () => {
    const bars = document.getElementById("bars");
    if (bars) new MutationObserver(changed).observe(bars, { subtree: true, childList: true });
  });
})();
"""
TRANSFERRED = """
const entries = ["navigation", "resource"].map((type) => performance.getEntriesByType(type));
return entries.map((list) => list.reduce((sum, entry) => sum + entry.transferSize, 0));
"""


def figures(strokes: int = STROKES) -> list[Figure]:
    with installation() as folder, tempfile.TemporaryDirectory() as profile, serving(folder, WORKERS) as server:
        driver = chromium(profile)
        try:
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
            first = sum(_visit(driver, server.url))
            taken = _answers(driver, strokes)
            page, others = _visit(driver, server.url)
        finally:
            driver.quit()
    return [
        Figure("answer on the page, from the end of a stroke", "ms", statistics.median(taken), 60),
        Figure("first visit of the drawing page", "kB", first / 1e3, 60),
        Figure("second visit", "kB", (page + others) / 1e3, page / 1e3, "the page alone"),
    ]


def _visit(driver: Chrome, url: str) -> tuple[int, int]:
    """Return the bytes transferred for the page, and for all other files that it loads."""
    driver.get("about:blank")
    driver.get(url)
    return driver.execute_script(TRANSFERRED)


def _answers(driver: Chrome, count: int) -> list[float]:
    """Return the milliseconds from the end of each of `count` strokes to its answer."""
    for done, stroke in enumerate(itertools.islice(_strokes(driver), count)):
        draw(driver, [stroke])
        _wait_for(driver, done + 1)
    return driver.execute_script("return watched.taken")


def _strokes(driver: Chrome) -> Iterator[list[tuple[float, float]]]:
    """Yield the strokes of digits endlessly, clearing the canvas after each digit."""
    for strokes in itertools.cycle(DIGITS.values()):
        yield from strokes
        driver.find_element(By.ID, "clear").click()


def _wait_for(driver: Chrome, answers: int) -> None:
    end = time.monotonic() + ANSWER_SECONDS
    while driver.execute_script("return watched.taken.length") < answers:
        if time.monotonic() > end:
            raise Failed("the page shows no answer")
        time.sleep(0.05)


if __name__ == "__main__":
    print(table(figures()))
