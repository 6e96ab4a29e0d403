"""Drawing, as a person does it: the answer comes while the pen moves."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from model.inference.decision import Calibration
from tests.support.browser import wait_for
from tests.support.strokes import DIGITS, NO_DIGITS, OTHER_HANDS, draw

# Every answer of the server, with the fields that a test has put into window.stubbed.
STUB = """
const ask = window.fetch;
window.fetch = async (...request) => {
  const response = await ask(...request);
  const answer = { ...(await response.json()), ...window.stubbed };
  return new Response(JSON.stringify(answer), response);
};
"""


# The mean difference between the picture that is sent and what a canvas of eight times its side paints, in grey values.
COMPARE = """
const [strokes, done] = arguments;
const load = (name) => import(document.querySelector(`link[href$="/${name}.js"]`).href);
Promise.all(["rasterize", "ink"].map(load)).then(([{ rasterize }, { paintInk }]) => {
  const { width, height, pixels, place } = rasterize(strokes);
  const context = new OffscreenCanvas(8 * width, 8 * height).getContext("2d", { willReadFrequently: true });
  const [[left, top], [right]] = [place({ x: 0, y: 0 }), place({ x: 1, y: 0 })];
  context.setTransform(8 * (right - left), 0, 0, 8 * (right - left), 8 * left, 8 * top);
  paintInk(context, strokes, "#000");
  const { data } = context.getImageData(0, 0, 8 * width, 8 * height);
  const painted = new Float64Array(width * height);
  for (let i = 0; i < data.length / 4; i++) {
    painted[Math.floor(i / width / 64) * width + Math.floor((i % (8 * width)) / 8)] += data[4 * i + 3] / 64;
  }
  done(painted.reduce((sum, value, i) => sum + Math.abs(value - pixels[i]), 0) / painted.length);
});
"""


def state(driver):
    return driver.find_element(By.ID, "main").get_attribute("data-state")


def best(driver):
    return driver.find_element(By.CSS_SELECTOR, "#top li").get_attribute("data-digit")


def ink(driver):
    """How many pixels of the canvas carry ink, from the bitmap itself, once what was drawn has been painted."""
    return driver.execute_async_script(
        "const done = arguments[0];"
        "requestAnimationFrame(() => requestAnimationFrame(() => {"
        "  const c = document.getElementById('canvas');"
        "  const copy = new OffscreenCanvas(c.width, c.height).getContext('2d', {willReadFrequently: true});"
        "  copy.drawImage(c, 0, 0);"
        "  const data = copy.getImageData(0, 0, c.width, c.height).data;"
        "  let n = 0; for (let i = 3; i < data.length; i += 4) n += data[i] > 128; done(n)"
        "}))"
    )


def answer(driver):
    """All that the page says at one moment: read piece by piece, it could change in between."""
    return driver.execute_script(
        "const all = (selector) => [...document.querySelectorAll(selector)];"
        "return {"
        "  digits: all('#top li').map((place) => place.dataset.digit),"
        "  shares: all('#top li').map((place) => Number(place.dataset.probability)),"
        "  best: document.getElementById('best').textContent,"
        "  bars: all('#bars [data-digit]').length,"
        "  seen: document.getElementById('seen').naturalWidth,"
        "  version: document.getElementById('version').textContent,"
        "}"
    )


def verdict(driver):
    """The verdict as it stands at one moment, by the eye and by the ear."""
    return driver.execute_script(
        "const named = (list) => [...document.querySelectorAll(`#${list} .is-named`)].map((e) => +e.dataset.digit);"
        "const text = (id) => document.getElementById(id).textContent;"
        "const seen = (selector) => document.querySelector(selector).checkVisibility("
        "  {opacityProperty: true, visibilityProperty: true});"
        "return {"
        "  words: [text('verdict'), text('remark')],"
        "  spoken: text('spoken'),"
        "  places: named('top'),"
        "  bars: named('bars'),"
        "  digitSizes: [...document.querySelectorAll('.place-digit:not(:empty)')]"
        "    .map((e) => parseFloat(getComputedStyle(e).fontSize)),"
        "  status: seen('#status'),"
        "  refusal: seen('.refusal') && document.querySelector('.refusal').innerText.replace(/\\s+/g, ' '),"
        "  unfolded: seen('#bars'),"
        "  top: document.getElementById('top').innerText.replace(/\\s+/g, ' '),"
        "  model: document.getElementById('version').innerText.replace(/\\s+/g, ' '),"
        "}"
    )


def stub(driver, verdict, digits, reason=None, **fields):
    """From now on every drawing has this verdict; the digits that it names are the likeliest, in their order."""
    order = [*digits, *(digit for digit in range(len(DIGITS)) if digit not in digits)]
    probabilities = [0.5 * 0.6 ** order.index(digit) for digit in range(len(DIGITS))]
    answer = {
        "verdict": verdict,
        "digits": digits,
        "reason": reason,
        "top": [{"digit": digit, "probability": probabilities[digit]} for digit in order[:3]],
        "probabilities": probabilities,
        "not_a_digit": 0.97 if verdict == "not_a_digit" else 0.01,
        **fields,
    }
    driver.execute_script("window.stubbed = arguments[0]", answer)


def clear(driver):
    driver.find_element(By.ID, "clear").click()
    wait_for(driver, lambda d: state(d) == "blank")


def set_width(driver, width):
    screen = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


@pytest.fixture
def page(browser, server):
    browser.get(server.url)
    return browser


@pytest.fixture
def either_page(either_browser, server):
    either_browser.get(server.url)
    return either_browser


@pytest.fixture
def stubbed_page(browser, server):
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": STUB})
    browser.get(server.url)
    return browser


@pytest.mark.parametrize("digits", [(3, 4), pytest.param(range(10), marks=pytest.mark.stress)], ids=["two", "all"])
def test_drawing_each_digit_comes_first(either_page, digits):
    page = either_page
    for digit in digits:
        draw(page, DIGITS[digit])
        said = wait_for(
            page,
            lambda d, best=str(digit): (a := answer(d))["best"] == best and a["shares"][0] > 0.5 and a["seen"] and a,
        )
        assert said["digits"][0] == str(digit) and len(set(said["digits"])) == 3
        assert said["shares"] == sorted(said["shares"], reverse=True)
        assert (said["bars"], said["seen"]) == (10, 28)
        assert "v1" in said["version"]
        clear(page)


@pytest.mark.parametrize("brush", [6, 18, 36])
def test_picture_that_is_sent_is_what_the_canvas_paints(page, brush):
    for strokes in [*DIGITS.values(), NO_DIGITS["dot"]]:
        drawn = [
            {
                "width": brush,
                "points": [{"x": 280 * x, "y": 280 * y, "pressure": 0.3 + x * y} for x, y in stroke],
            }
            for stroke in strokes
        ]
        difference = page.execute_async_script(COMPARE, drawn)
        assert difference < 1, difference


@pytest.mark.stress
def test_drawing_in_other_hands_comes_first(page):
    for digit, strokes in OTHER_HANDS.values():
        draw(page, strokes)
        wait_for(page, lambda d, best=str(digit): (a := answer(d))["best"] == best and a["shares"][0] > 0.5)
        clear(page)


@pytest.mark.stress
def test_drawing_no_digit_is_refused(page):
    for strokes in NO_DIGITS.values():
        draw(page, strokes)
        wait_for(page, lambda d: verdict(d)["words"][0] == "That does not look like a digit")
        clear(page)


SET_REMARK = (
    "Too close to call: when it hesitates like this, the digit is among those named "
    f"{Calibration.coverage * 100:.0f} times in 100."
)
VERDICTS = {
    "a digit": (
        ("digit", [8]),
        ["Probably an 8", "Not sure: it stands out less clearly than usual."],
        "Probably an 8, 50 percent",
    ),
    "two digits": (("unsure", [4, 9]), ["A 4 or a 9", SET_REMARK], "A 4 or a 9"),
    "three digits": (("unsure", [4, 9, 8]), ["A 4, a 9 or an 8", SET_REMARK], "A 4, a 9 or an 8"),
    "many digits": (
        ("unsure", [1, 2, 3, 7, 0]),
        ["A 1, a 2, a 3 or another", SET_REMARK],
        "A 1, a 2, a 3 or another",
    ),
    "no digit": (
        ("not_a_digit", [], "several"),
        ["That does not look like a digit", "It looks like several digits. Draw them apart."],
        "That does not look like a digit. It looks like several digits. Draw them apart.",
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "no digit",
        "two digits",
        *(pytest.param(name, marks=pytest.mark.stress) for name in ("a digit", "three digits", "many digits")),
    ],
)
def test_verdict_is_said_in_words_and_marked(stubbed_page, name):
    (kind, digits, *reason), words, spoken = VERDICTS[name]
    stub(stubbed_page, kind, digits, *reason)
    draw(stubbed_page, DIGITS[4])
    said = wait_for(stubbed_page, lambda d: (v := verdict(d))["words"] == words and v["spoken"] == spoken and v)
    assert said["places"] == digits[:3] and said["bars"] == sorted(digits)
    assert not said["status"]
    refused = kind == "not_a_digit"
    assert said["refusal"] == ("Not a digit 97 %" if refused else False) and said["unfolded"] == (not refused)
    assert said["model"] == "Model v1, 99.5 % right on test digits"
    if refused:
        assert "%" not in said["top"]
        stubbed_page.find_element(By.CSS_SELECTOR, ".ten summary").click()
        assert verdict(stubbed_page)["unfolded"]
    large = max(said["digitSizes"], default=0) > 40
    assert large == bool(digits)
    if large:
        assert [size == max(said["digitSizes"]) for size in said["digitSizes"]] == [
            place < len(digits) for place in range(3)
        ]


def test_runners_up_below_one_percent_are_not_shown(stubbed_page):
    shares = (0.98, 0.012, 0.008)
    top = [{"digit": digit, "probability": share} for digit, share in zip((4, 9, 1), shares, strict=True)]
    stub(stubbed_page, "digit", [4], top=top)
    draw(stubbed_page, DIGITS[4])
    shown = (
        "return [...document.querySelectorAll('#top li')].map((li) => li.checkVisibility({visibilityProperty: true}))"
    )
    wait_for(stubbed_page, lambda d: d.execute_script(shown) == [True, True, False])


@pytest.mark.parametrize("width", [320, pytest.param(1280, marks=pytest.mark.stress)])
def test_verdict_moves_nothing_on_the_page(stubbed_page, width):
    set_width(stubbed_page, width)
    boxes = (
        "return ['#sheet', '.tools', '#answer', '#status', '#top', '.seen', '.seen-frame', '#feedback', '#keeping',"
        " '.probabilities', '#version']"
        ".map((part) => JSON.stringify(document.querySelector(part).getBoundingClientRect()))"
    )
    blank = stubbed_page.execute_script(boxes)
    for name, ((kind, digits, *reason), words, _) in VERDICTS.items():
        stub(stubbed_page, kind, digits, *reason)
        draw(stubbed_page, DIGITS[4])
        wait_for(stubbed_page, lambda d, words=words: verdict(d)["words"] == words)
        # what is said of an answer comes with a style sheet of its own, loaded with the first one
        wait_for(stubbed_page, lambda d: d.find_elements(By.CSS_SELECTOR, "#feedback[data-step]:not([hidden])"))
        assert stubbed_page.execute_script(boxes) == blank, name
        words = "const box = (it) => it.getBoundingClientRect(); return box(document.querySelector('.words')).bottom -"
        assert stubbed_page.execute_script(f"{words} box(document.getElementById('remark')).bottom") >= 0, name
        assert stubbed_page.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.stress  # a clock decides
def test_refusal_waits_until_the_pen_rests(stubbed_page):
    stubbed_page.execute_script(
        "window.moments = {};"
        "addEventListener('pointermove', (e) => { if (e.buttons) moments.pen = performance.now() }, true);"
        "new MutationObserver(() => { moments[document.getElementById('verdict').textContent] = performance.now() })"
        ".observe(document.getElementById('verdict'), {childList: true});"
    )
    stub(stubbed_page, "not_a_digit", [], "dot")
    draw(stubbed_page, [line for line in DIGITS[4] for _ in range(4)])
    wait_for(stubbed_page, lambda d: verdict(d)["words"][1] == "It is only a dot.")
    moments = stubbed_page.execute_script("return window.moments")
    assert moments["That does not look like a digit"] - moments["pen"] > 400


def test_blank_sheet_asks_nothing(page):
    assert state(page) == "blank"
    asked = "return performance.getEntriesByType('resource').filter(e => e.name.includes('predict')).length"
    draw(page, DIGITS[7])
    wait_for(page, lambda d: best(d) == "7")
    clear(page)
    before = page.execute_script(asked)
    page.find_element(By.ID, "clear").click()
    page.find_element(By.ID, "canvas").send_keys(Keys.DELETE)
    assert page.execute_script(asked) == before


def test_undo_redo_clear_by_button_and_key(page):
    draw(page, DIGITS[4])
    wait_for(page, lambda d: best(d) == "4")
    whole = ink(page)
    page.find_element(By.ID, "undo").click()
    wait_for(page, lambda d: 0 < ink(d) < whole)
    page.find_element(By.ID, "redo").click()
    wait_for(page, lambda d: ink(d) == whole)
    page.find_element(By.ID, "clear").click()
    wait_for(page, lambda d: ink(d) == 0)
    ActionChains(page).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    wait_for(page, lambda d: ink(d) == whole and best(d) == "4")
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.DELETE)
    wait_for(page, lambda d: ink(d) == 0 and state(d) == "blank")


@pytest.mark.stress
def test_brush_width_changes_the_line(page):
    draw(page, DIGITS[1])
    thin = wait_for(page, lambda d: best(d) == "1" and ink(d))
    page.find_element(By.ID, "clear").click()
    wait_for(page, lambda d: ink(d) == 0)
    page.find_element(By.TAG_NAME, "body").send_keys("]]]]]]")
    draw(page, DIGITS[1])
    wait_for(page, lambda d: ink(d) > 1.2 * thin)


@pytest.mark.stress
def test_resize_keeps_the_strokes(page):
    draw(page, DIGITS[2])
    page.set_window_size(420, 800)
    wait_for(page, lambda d: best(d) == "2" and ink(d) > 0)


@pytest.mark.parametrize("kind", ["pen", pytest.param("touch", marks=pytest.mark.stress)])
def test_other_pointers_draw(page, kind):
    draw(page, DIGITS[3], kind)
    wait_for(page, lambda d: best(d) == "3")


def test_fingers_on_a_phone_draw_or_zoom(page):
    """One finger draws and scrolls nothing; two zoom the page and leave no ink; a palm beside a finger is none."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 667, "deviceScaleFactor": 3, "mobile": True}
    )
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.refresh()
    box = page.execute_script(
        "const b = document.getElementById('canvas').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]"
    )

    def touch(kind, *points):
        touches = [
            {"x": box[0] + x * box[2], "y": box[1] + y * box[3], "id": number, "radiusX": radius, "radiusY": radius}
            for number, (x, y, radius) in enumerate(points)
        ]
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    def draw_beside(digit, *resting):
        for stroke in DIGITS[digit]:
            touch("touchStart", *resting, (*stroke[0], 10))
            for point in stroke[1:]:
                touch("touchMove", *resting, (*point, 10))
            touch("touchEnd", *resting)
        wait_for(page, lambda d: best(d) == str(digit))

    draw_beside(7)
    assert page.execute_script("return [scrollY, visualViewport.scale]") == [0, 1]
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")

    clear(page)
    palm = (0.9, 0.9, 60)
    touch("touchStart", (0.9, 0.9, 20))
    touch("touchMove", palm)  # a palm touches with its edge first
    draw_beside(4, palm)
    touch("touchEnd")
    assert page.execute_script("return visualViewport.scale") == 1

    clear(page)
    touch("touchStart", (0.45, 0.5, 10))
    touch("touchMove", (0.43, 0.52, 10))
    touch("touchStart", (0.43, 0.52, 10), (0.55, 0.5, 10))
    for step in range(1, 6):
        touch("touchMove", (0.43 - 0.06 * step, 0.5, 10), (0.55 + 0.06 * step, 0.5, 10))
    touch("touchEnd", (0.13, 0.5, 10))
    touch("touchMove", (0.13, 0.8, 10))
    touch("touchEnd")
    wait_for(page, lambda d: d.execute_script("return visualViewport.scale") > 1)
    assert ink(page) == 0 and state(page) == "blank"


def test_keyboard_alone_draws_and_is_told_the_pens_place(either_page):
    page = either_page
    canvas = page.find_element(By.ID, "canvas")
    canvas.send_keys(*[Keys.ARROW_UP] * 6, Keys.SPACE, *[Keys.ARROW_DOWN] * 14, Keys.SPACE)
    wait_for(page, lambda d: state(d) == "reading" and best(d) == "1")
    said = "return document.getElementById('pen-spoken').textContent"
    assert page.execute_script(said) == "Pen up, 50 percent from the left, 36 percent from the top"
    canvas.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT)
    wait_for(page, lambda d: d.execute_script(said) == "Pen up, 57 percent from the left, 36 percent from the top")


def test_drawing_and_brush_outlast_a_reload(page, server):
    page.find_element(By.TAG_NAME, "body").send_keys("]]")
    draw(page, DIGITS[4])
    wait_for(page, lambda d: best(d) == "4")
    before = ink(page)
    page.get("about:blank")
    page.get(server.url)
    wait_for(page, lambda d: best(d) == "4" and ink(d) == before)
    assert page.find_element(By.ID, "brush").get_attribute("value") == "22"
    clear(page)
    page.refresh()
    assert (ink(page), state(page)) == (0, "blank")


def test_page_without_javascript_and_with_forced_colours(page, server):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.get(server.url)
    words = page.find_element(By.TAG_NAME, "main").text
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "Drawing needs JavaScript" in words and "Draw a digit\nor a number" not in words
    page.refresh()
    forced = {"features": [{"name": "forced-colors", "value": "active"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", forced)
    track, dot, paper = page.execute_script(
        "const style = (selector) => getComputedStyle(document.querySelector(selector));"
        "return [style('.bar-track').outlineStyle, style('.brush-dot').backgroundColor, style('body').backgroundColor]"
    )
    assert track == "solid" and dot != paper


def test_tiny_drawing_and_version_that_cannot_refuse_are_told(stubbed_page):
    stub(stubbed_page, "not_a_digit", [], "dot")
    draw(stubbed_page, [[(0.5, 0.5), (0.54, 0.5), (0.52, 0.58)]])
    wait_for(stubbed_page, lambda d: verdict(d)["words"][1] == "Draw it larger, or with a thinner brush.")
    clear(stubbed_page)
    stub(stubbed_page, "unsure", [2, 8], can_refuse=False, version="v2", test_accuracy=None)
    draw(stubbed_page, DIGITS[2])
    said = wait_for(stubbed_page, lambda d: (v := verdict(d))["words"][0] == "A 2 or an 8" and v)
    assert said["words"][1] == "" and said["model"] == "Model v2 This version cannot tell letters from digits."


def test_server_away_is_said_and_recovers(page):
    page.expected_complaint = "ERR_INTERNET_DISCONNECTED"
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.execute_cdp_cmd("Network.enable", {})
    page.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **network})
    draw(page, DIGITS[7])
    wait_for(page, lambda d: state(d) == "offline")
    assert page.find_element(By.ID, "status").text
    page.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **network})
    wait_for(page, lambda d: state(d) == "reading" and best(d) == "7")


LIMITED = """
const ask = window.fetch;
window.refusals = 1;
window.asked = [];
window.fetch = async (url, options) => {
  if (!String(url).endsWith("/predict")) return ask(url, options);
  window.asked.push(performance.now());
  if (window.refusals-- <= 0) return ask(url, options);
  const error = { code: "too_many_requests", message: "Too many requests from your address." };
  return new Response(JSON.stringify({ error }), { status: 429, headers: { "Retry-After": "1" } });
};
"""
NOTE_STATES = """
const [main, told] = ["main", "status"].map((id) => document.getElementById(id));
const note = () => window.states.push([main.dataset.state, told.textContent, getComputedStyle(told).color]);
window.states = [];
new MutationObserver(note).observe(main, { attributes: true, attributeFilter: ["data-state"] });
const sample = Object.assign(document.createElement("i"), { style: "color: var(--bad)" });
document.body.append(sample);
window.bad = getComputedStyle(sample).color;
"""


def test_limit_of_readings_is_waited_for_and_said_calmly(page):
    page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LIMITED})
    page.refresh()
    page.execute_script(NOTE_STATES)
    draw(page, DIGITS[7])
    wait_for(page, lambda d: state(d) == "reading" and best(d) == "7")
    states, asked, bad = page.execute_script("return [window.states, window.asked, window.bad]")
    (waiting,) = (told for told in states if told[0] == "waiting")
    assert waiting[1] == "Many are drawing at once. Reading again in a moment …" and waiting[2] != bad
    assert asked[1] - asked[0] >= 999 and "error" not in [told[0] for told in states]


def test_page_whose_release_is_gone_asks_to_be_reloaded_and_keeps_the_drawing(page, server):
    """Feedback is loaded with the first prediction; an upgrade long ago has removed it."""
    page.expected_complaint = "404"
    release = (
        server.data_dir / "static" / page.find_element(By.CSS_SELECTOR, "script").get_attribute("src").split("/")[4]
    )
    release.rename(release.with_name("gone"))
    try:
        draw(page, DIGITS[7])
        wait_for(page, lambda d: "reload the page" in d.find_element(By.ID, "feedback").text)
        wait_for(page, lambda d: state(d) == "reading" and best(d) == "7")
        page.execute_script(
            "const files = new DataTransfer(); files.items.add(new File(['x'], 'x.png', {type: 'image/png'}));"
            "const input = document.getElementById('picture-file');"
            "input.files = files.files; input.dispatchEvent(new Event('change'));"
        )
        wait_for(page, lambda d: "reload the page" in d.find_element(By.ID, "status").text)
    finally:
        release.with_name("gone").rename(release)
    page.refresh()
    wait_for(page, lambda d: best(d) == "7")
    wait_for(page, lambda d: d.find_elements(By.CSS_SELECTOR, "#feedback button"))


def test_first_visit_is_small_and_from_here_alone(page, server):
    entries = page.execute_script(
        "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map(e => [e.name, e.transferSize])"
    )
    assert all(name.startswith(server.url) for name, _ in entries)
    assert sum(size for _, size in entries) < 60_000


def test_second_visit_fetches_nothing_but_the_page(page, server):
    page.get("about:blank")
    page.get(server.url)
    page_bytes, others = page.execute_script(
        "return ['navigation', 'resource'].map("
        "(type) => performance.getEntriesByType(type).map((entry) => entry.transferSize))"
    )
    assert page_bytes[0] > 1000 and len(others) > 10 and not any(others)
