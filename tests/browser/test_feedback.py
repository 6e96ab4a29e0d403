"""Saying what a drawing was meant to be: nothing is sent unasked, and what is sent can be followed and deleted."""

import json
import re
import urllib.request

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.browser import wait_for
from tests.support.strokes import DIGITS, NO_DIGITS, draw

SNAPSHOT = """
const place = document.getElementById("feedback");
const visible = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
return {
  step: place.dataset.step ?? null,
  buttons: [...place.querySelectorAll("button")].filter(visible).map((button) => button.textContent),
  words: place.innerText,
  link: place.querySelector("a")?.href ?? null,
  keeping: document.getElementById("keeping").innerText,
  focus: document.activeElement.textContent,
  spoken: document.getElementById("spoken").textContent,
  sent: window.sent ?? [],
};
"""

# Notes what is sent to /feedback, and answers in the server's place while window.stubbed is a function; readings get
# the fields of window.reading.
WATCH = """
const ask = window.fetch;
window.sent = [];
window.fetch = async (url, options) => {
  if (!String(url).endsWith("/feedback")) {
    const response = await ask(url, options);
    const isReading = window.reading && options.method === "POST";
    return isReading ? new Response(JSON.stringify({ ...(await response.json()), ...window.reading })) : response;
  }
  window.sent.push(JSON.parse(options.body));
  return window.stubbed ? window.stubbed(() => ask(url, options)) : ask(url, options);
};
"""


def settled(driver, condition):
    """The snapshot of the row once it fulfils the condition."""

    def look(driver):
        shown = driver.execute_script(SNAPSHOT)
        return condition(shown) and shown

    return wait_for(driver, look)


def has(*buttons):
    return lambda shown: shown["buttons"] == list(buttons)


def press(driver, words):
    """Clicks the row's button with these words once it is there."""
    settled(driver, lambda shown: words in shown["buttons"])
    driver.execute_script(
        "[...document.querySelectorAll('#feedback button')].find((b) => b.textContent === arguments[0]).click()", words
    )


def agreed(driver):
    driver.execute_script("sessionStorage.setItem('inkling-consent', 'yes')")


def best_is(driver, digit):
    wait_for(driver, lambda d: d.find_element(By.CSS_SELECTOR, "#top li").get_attribute("data-digit") == str(digit))


def heading(driver):
    return driver.execute_script("return document.querySelector('h1')?.textContent")


def receipt(url):
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


HEIGHTS = (
    "const { scrollHeight, clientHeight } = document.getElementById('keeping'); return [scrollHeight, clientHeight]"
)


@pytest.fixture
def page(browser, server):
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    browser.get(server.url)
    return browser


def test_first_correction_is_kept_after_consent_and_can_be_deleted(page):
    draw(page, DIGITS[7])
    best_is(page, 7)
    press(page, "No, it was …")
    settled(page, has("×", *"0123456789", "not a digit"))
    press(page, "1")
    asked = settled(page, has("Yes, keep them", "Keep this one, ask every time", "Not now"))
    assert "Let Inkling keep the drawings you correct?" in asked["words"] and "delete" in asked["words"]
    press(page, "Not now")
    assert settled(page, has("Right", "No, it was …"))["sent"] == []

    press(page, "No, it was …")
    press(page, "1")
    press(page, "Keep this one, ask every time")
    kept = settled(page, lambda shown: shown["step"] == "kept")
    assert kept["words"].startswith("Kept as a 1.") and kept["spoken"] == "Kept as a 1."
    assert [correction["meant"] for correction in kept["sent"]] == [1] and kept["keeping"] == "Your drawings"
    known = receipt(kept["link"])
    assert (known["meant"], known["answered"]["digits"], known["state"]) == (1, [7], "received")

    page.get(kept["link"])
    time = page.find_element(By.TAG_NAME, "time")
    assert time.get_attribute("title").endswith(" UTC)") and time.text not in time.get_attribute("title")
    words = page.find_element(By.TAG_NAME, "main").text
    assert "received" in words and "You meant\na 1" in words and "v1 read\na 7" in words
    assert page.execute_script("return [...document.images].every((image) => image.naturalWidth > 0)")
    page.find_element(By.CSS_SELECTOR, ".panel > button").click()
    assert page.find_element(By.ID, "delete-title").text == "Delete the drawing as a 1?"
    page.find_element(By.CSS_SELECTOR, "form button").click()
    wait_for(page, lambda d: heading(d) == "Deleted")
    page.expected_complaint = "404"
    page.get(kept["link"])
    assert heading(page) == "No drawing here"


def test_consent_is_shown_ends_with_the_tab_and_can_be_stopped(page, server):
    page.execute_script("localStorage.setItem('inkling-keep', '1')")  # by an earlier release, for ever
    page.get(server.url)
    draw(page, DIGITS[7])
    press(page, "Right")
    press(page, "Yes, keep them")
    line = "Drawings you mark are kept. Stop Your drawings"
    assert " ".join(settled(page, lambda shown: shown["step"] == "kept")["keeping"].split()) == line
    page.get(server.url)  # the drawing and the consent outlast a reload
    press(page, "Right")
    again = settled(page, lambda shown: shown["step"] == "kept")
    assert " ".join(again["keeping"].split()) == line
    for width in (1280, 375, 320):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert page.execute_script(HEIGHTS) == [28, 28], width  # the row that is reserved
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.find_element(By.CSS_SELECTOR, "#keeping button").click()
    assert settled(page, lambda shown: shown["keeping"] == "Your drawings")
    press(page, "Change")
    press(page, "1")
    settled(page, has("Yes, keep them", "Keep this one, ask every time", "Not now"))
    press(page, "Not now")
    assert page.execute_script("return localStorage.length") == 0
    page.find_element(By.CSS_SELECTOR, "#keeping a").click()
    assert len(page.find_elements(By.CSS_SELECTOR, ".own li")) == 1 and heading(page) == "Your drawings"


def test_next_correction_is_sent_at_once_with_the_drawing(page):
    agreed(page)
    draw(page, DIGITS[3])
    best_is(page, 3)
    press(page, "Right")
    kept = settled(page, lambda shown: shown["step"] == "kept")
    assert [correction["meant"] for correction in kept["sent"]] == [3]
    difference = page.execute_script(
        "const picture = atob(window.sent[0].image.split(',')[1]);"
        "const [header, width, height] = picture.match(/^P5 (\\d+) (\\d+) 255\\n/);"
        "const sent = new OffscreenCanvas(width, height);"
        "const pixels = new ImageData(Number(width), Number(height));"
        "for (let i = 0; i < width * height; i++) {"
        "  pixels.data[4 * i + 3] = picture.charCodeAt(header.length + i);"
        "}"
        "sent.getContext('2d').putImageData(pixels, 0, 0);"
        "const alpha = (canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
        "  .filter((_, i) => i % 4 === 3);"
        "const cutOut = (canvas) => {"  # the part that has ink, in 60 x 60
        "  const marked = [...alpha(canvas).entries()].filter(([, value]) => value > 64).map(([i]) => i);"
        "  const edges = (values) => [Math.min(...values), Math.max(...values) + 1];"
        "  const [left, right] = edges(marked.map((i) => i % canvas.width));"
        "  const [top, bottom] = edges(marked.map((i) => Math.floor(i / canvas.width)));"
        "  const small = new OffscreenCanvas(60, 60);"
        "  small.getContext('2d').drawImage(canvas, left, top, right - left, bottom - top, 0, 0, 60, 60);"
        "  return [...alpha(small)];"
        "};"
        "const [a, b] = [cutOut(sent), cutOut(document.getElementById('canvas'))];"
        "const total = (values) => values.reduce((sum, value) => sum + value, 0);"
        "return total(a.map((value, i) => Math.abs(value - b[i]))) / total(a);"
    )
    assert difference < 0.2, "the picture that was sent is not what stands on the sheet"
    # a misclick put right: the same receipt, another meaning
    press(page, "Change")
    press(page, "8")
    changed = settled(page, lambda shown: "an 8" in shown["words"] and shown["step"] == "kept")
    assert changed["link"] == kept["link"] and receipt(kept["link"])["meant"] == 8


@pytest.mark.stress
def test_changed_drawing_starts_over_and_keeps_the_receipt(page):
    agreed(page)
    draw(page, DIGITS[4])
    best_is(page, 4)
    press(page, "Right")
    link = settled(page, lambda shown: shown["step"] == "kept")["link"]
    page.find_element(By.ID, "clear").click()
    cleared = settled(page, lambda shown: shown["step"] == "none")
    assert cleared["buttons"] == [] and "Your drawings" in cleared["keeping"]
    draw(page, DIGITS[5])
    assert "Your drawings" in settled(page, has("Right", "No, it was …"))["keeping"]
    page.find_element(By.LINK_TEXT, "Your drawings").click()
    assert page.find_element(By.LINK_TEXT, "Receipt of the drawing as a 4").get_attribute("href") == link


def test_refusal_can_be_right_and_unsure_answer_offers_its_digits(page):
    agreed(page)
    draw(page, NO_DIGITS["scribble"])
    settled(page, has("Right, not a digit", "It was a …"))
    press(page, "Right, not a digit")
    assert settled(page, lambda shown: shown["step"] == "kept")["sent"][0]["meant"] == "not_a_digit"
    page.find_element(By.ID, "clear").click()
    page.execute_script("window.reading = {verdict: 'unsure', digits: [4, 9], reason: null}")
    draw(page, DIGITS[4])
    offered = settled(page, has("4", "9", "another …"))
    assert offered["words"].startswith("It was")
    press(page, "9")
    assert settled(page, lambda shown: shown["step"] == "kept")["sent"][-1]["meant"] == 9


TROUBLE = {
    "no network": ("Promise.reject(new TypeError('offline'))", "The server cannot be reached.", True),
    "a broken server": (
        "Promise.resolve(new Response('<h1>oh</h1>', {status: 502}))", "The server gave no readable answer.", True
    ),
    "a refusal": (
        "Promise.resolve(new Response(JSON.stringify({error: {code: 'x', message: 'There is nothing drawn.'}}),"
        " {status: 400}))",
        "There is nothing drawn.",
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "no network",
        "a refusal",
        pytest.param("a broken server", marks=pytest.mark.stress),
    ],
)
def test_correction_that_fails_is_told_and_not_lost(page, name):
    answer, words, again = TROUBLE[name]
    agreed(page)
    page.execute_script(f"window.stubbed = () => {answer}")
    draw(page, DIGITS[2])
    best_is(page, 2)
    press(page, "Right")
    failed = settled(page, lambda shown: shown["step"] == "failed")
    assert failed["words"].startswith(words) and failed["spoken"] == words
    assert failed["buttons"] == (["Try again"] if again else [])
    if again:
        page.execute_script("window.stubbed = null")
        press(page, "Try again")
        kept = settled(page, lambda shown: shown["step"] == "kept")
        assert len(kept["sent"]) == 2 and kept["sent"][0] == kept["sent"][1]


# The next correction is refused with a Retry-After; those after it are the server's to answer.
TOO_MANY = """
const error = { code: "too_many_corrections", message: "Too many corrections from here." };
const options = { status: 429, headers: { "Retry-After": arguments[0] } };
window.stubbed = () => {
  window.stubbed = null;
  return new Response(JSON.stringify({ error }), options);
};
"""


def test_correction_above_the_limit_is_sent_by_itself(page):
    agreed(page)
    page.execute_script(TOO_MANY, 1)
    draw(page, DIGITS[2])
    best_is(page, 2)
    press(page, "Right")
    waits = settled(page, lambda shown: shown["step"] in ("waiting", "kept"))
    if waits["step"] == "waiting":
        words = "Many are sending corrections. This one waits in this tab, and is sent in a moment."
        assert waits["words"] == waits["spoken"] == words and waits["buttons"] == []
    kept = settled(page, lambda shown: shown["step"] == "kept")
    assert kept["words"].startswith("Kept as a 2.") and kept["keeping"].startswith("Drawings you mark are kept.")
    assert len(kept["sent"]) == 2 and kept["sent"][0] == kept["sent"][1]


def test_corrections_that_wait_say_when_and_outlast_a_reload_but_not_a_stop(page, server):
    agreed(page)
    page.execute_script(TOO_MANY, 2400)
    draw(page, DIGITS[2])
    best_is(page, 2)
    press(page, "Right")
    waits = settled(page, lambda shown: shown["step"] == "waiting")
    assert re.search(r"is sent (tomorrow )?at \d+:\d\d", waits["words"])
    for width in (320, 375, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        assert page.execute_script(HEIGHTS) == [28, 28], width
        assert page.execute_script(
            "const row = document.getElementById('feedback'); return [row.scrollHeight, row.scrollWidth]"
            " .join() === [row.clientHeight, row.clientWidth].join()"
        ), width
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.get(server.url)  # the person may draw on, here another time
    shown = settled(page, lambda shown: re.match(r"1 to be sent (tomorrow )?at \d+:\d\d", shown["keeping"]))
    assert "Your drawings" in shown["keeping"]
    page.execute_script("document.querySelector('#keeping button').click()")
    wait_for(page, lambda d: d.execute_script("return sessionStorage.getItem('inkling-outbox')") is None)
    assert "to be sent" not in page.execute_script(SNAPSHOT)["keeping"]


def test_picker_stands_upright_at_every_width(page):
    draw(page, DIGITS[5])
    press(page, "No, it was …")
    for width in (375, 768, 1280):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        tops = page.execute_script(
            "return [...document.querySelectorAll('.panel-head, .choices button')].map((part) => part.offsetTop)"
        )
        assert len(tops) == 12 and tops == sorted(tops) and tops[0] < tops[1], width


def test_first_correction_whose_answer_is_lost_is_kept_once(page, server):
    page.execute_script("window.stubbed = async (send) => { await send(); throw new TypeError('lost on its way'); }")
    agreed(page)
    draw(page, DIGITS[4])
    best_is(page, 4)
    press(page, "Right")
    settled(page, has("Try again"))
    page.execute_script("window.stubbed = null")
    press(page, "Try again")
    settled(page, lambda shown: shown["step"] == "kept")
    page.get(f"{server.url}/receipts")
    assert len(page.find_elements(By.CSS_SELECTOR, ".own li")) == 1


def test_correction_by_keyboard_alone_is_kept(page):
    agreed(page)
    draw(page, DIGITS[9])
    settled(page, has("Right", "No, it was …"))
    page.execute_script("document.querySelector('#feedback .other').focus()")
    keys = page.switch_to.active_element
    keys.send_keys(Keys.ENTER)
    assert settled(page, lambda shown: shown["step"] == "choose")["focus"] == "0"
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert settled(page, has("Right", "No, it was …"))["focus"] == "No, it was …"
    page.execute_script("document.querySelector('#feedback button').focus()")
    page.switch_to.active_element.send_keys(Keys.ENTER)
    assert settled(page, lambda shown: shown["step"] == "kept")["focus"] == "Follow or delete it"
    press(page, "Change")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert settled(page, lambda shown: shown["step"] == "kept")["focus"] == "Change"


@pytest.mark.parametrize(
    ("width", "height"),
    [(375, 667), *(pytest.param(*size, marks=pytest.mark.stress) for size in ((667, 375), (1280, 800)))],
)
def test_feedback_moves_nothing_and_targets_are_large(page, width, height):
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    boxes = (
        "return ['#sheet', '.tools', '#answer', '.words', '#top', '.seen', '.probabilities', '#version']"
        ".map((part) => JSON.stringify(document.querySelector(part).getBoundingClientRect()))"
    )
    targets = (
        "const room = document.getElementById('answer').getBoundingClientRect();"
        "return [...document.querySelectorAll('#feedback button, #feedback a')]"
        ".map((target) => target.getBoundingClientRect())"
        ".map((box) => [box.left - room.left, room.right - box.right, box.width, box.height])"
    )
    before = page.execute_script(boxes)
    draw(page, DIGITS[7])
    settled(page, has("Right", "No, it was …"))
    steps = ["No, it was …", "1", "Yes, keep them"]
    for number in range(len(steps) + 1):
        assert page.execute_script(boxes) == before
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        for left, right, *size in page.execute_script(targets):
            assert left >= 0 and right >= 0 and min(size) >= 44
        if number < len(steps):
            step = page.execute_script(SNAPSHOT)["step"]
            press(page, steps[number])
            settled(page, lambda shown, step=step: shown["step"] not in (step, "sending"))
    # on a phone the question stands on the first screen
    if width == 375:
        row = "return document.getElementById('feedback').getBoundingClientRect().bottom"
        assert page.execute_script(row) <= height
