"""Numbers drawn on the page: read once the pen rests, each digit with its box, its alternatives and a correction."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.browser import wait_for
from tests.support.pictures import number
from tests.support.strokes import DIGITS, draw

SHOWN = """
const answer = document.getElementById("answer");
const sheet = document.getElementById("sheet").getBoundingClientRect();
const text = (id) => document.getElementById(id).textContent;
const box = (element) => {
  const { left, top, right, bottom } = element.getBoundingClientRect();
  return [left - sheet.left, top - sheet.top, right - sheet.left, bottom - sheet.top].map((side) => side / sheet.width);
};
return {
  kind: answer.dataset.number ?? null,
  lines: answer.dataset.number
    ? [...answer.querySelectorAll(".number-line")].map((line) =>
        [...line.querySelectorAll(".sign")].map((sign) => sign.textContent).join(""))
    : [],
  boxes: [...document.querySelectorAll(".boxes i")].map(box),
  chosen: [...answer.querySelectorAll(".number [aria-pressed=true] .sign")].map((sign) => sign.textContent),
  words: [text("verdict"), text("remark")],
  spoken: text("spoken"),
  feedback: [...document.querySelectorAll("#feedback button")].map((button) => button.textContent),
  best: document.getElementById("best").checkVisibility({ visibilityProperty: true }),
};
"""
# Notes what is sent to each address. window.alter changes the answers to /read, where it is a function.
WATCH = """
const ask = window.fetch;
window.sent = [];
window.fetch = async (url, options) => {
  if (options?.body) window.sent.push([new URL(url, location).pathname, JSON.parse(options.body)]);
  const response = await ask(url, options);
  if (!window.alter || !String(url).endsWith("/read")) return response;
  return new Response(JSON.stringify(window.alter(await response.json())));
};
"""


def shown(driver, condition):
    """What the page shows of a number once it fulfils the condition."""

    def look(driver):
        found = driver.execute_script(SHOWN)
        return condition(found) and found

    return wait_for(driver, look)


def sent(driver, path):
    return driver.execute_script("return window.sent.filter(([path]) => path === arguments[0])", path)


@pytest.fixture
def page(browser, server):
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    browser.get(server.url)
    return browser


def test_number_is_read_with_a_box_around_each_digit(either_browser, server):
    page = either_browser
    page.get(server.url)
    draw(page, number("2047"))
    said = shown(page, lambda found: found["lines"] == ["2047"] and found["spoken"] == "It is 2047.")
    assert said["words"] == ["It is 2047", "Choose a digit to see its alternatives."]
    assert (said["kind"], said["chosen"], said["best"], said["feedback"]) == ("whole", [], False, [])
    lefts = [left for left, *_ in said["boxes"]]
    assert len(lefts) == 4 and lefts == sorted(lefts)
    for left, top, right, bottom in said["boxes"]:
        assert 0 < left < right < 1 and 0.2 < top < 0.4 and 0.6 < bottom < 0.8


def test_digits_that_touch_are_cut_apart(page):
    draw(page, number("38", 0.3, 0.4, 0.3, 0.4))
    said = shown(page, lambda found: found["lines"] == ["38"])
    assert len(said["boxes"]) == 2


def test_lines_are_shown_below_each_other(page):
    draw(page, [*number("31", 0.08, 0.35, 0.2, 0.6), *number("47", 0.58, 0.35, 0.2, 0.6)])
    said = shown(page, lambda found: found["lines"] == ["31", "47"] and found["spoken"] == "2 lines: 31; 47.")
    assert said["words"][0] == "2 lines"


# The first digit is a minus, and the last one not sure.
OTHER_SIGNS = """
window.alter = (answer) => {
  const [minus, ...digits] = answer.digits.toSorted((a, b) => a.box[0] - b.box[0]);
  digits.at(-1).verdict = "unsure";
  return { ...answer, digits, symbols: [{ ...minus, symbol: "-" }] };
};
"""


def test_symbols_are_shown_and_unsure_digits_marked(page):
    page.execute_script(OTHER_SIGNS)
    draw(page, number("125"))
    said = shown(
        page, lambda found: found["lines"] == ["\u221225"] and found["spoken"].startswith("Probably minus 25.")
    )
    assert said["words"][1].startswith("The second digit is not sure.") and len(said["boxes"]) == 2
    marked = "return [...document.querySelectorAll(arguments[0])].map((e) => e.classList.contains('is-unsure'))"
    assert page.execute_script(marked, ".number button") == page.execute_script(marked, ".boxes i") == [False, True]
    page.find_elements(By.CSS_SELECTOR, ".number button")[1].click()
    said = shown(page, lambda found: found["chosen"] and "another …" in found["feedback"])
    assert said["words"][0].startswith("The second digit: a 5 or ")


def test_digit_of_a_number_has_alternatives_and_a_correction(page):
    page.execute_script("sessionStorage.setItem('inkling-consent', 'yes')")
    draw(page, number("305"))
    shown(page, lambda found: found["lines"] == ["305"])
    page.find_elements(By.CSS_SELECTOR, ".number button")[1].click()
    said = shown(page, lambda found: found["chosen"] == ["0"] and "Right" in found["feedback"])
    assert said["words"][0] == "The second digit: a 0" and said["words"][1].startswith("0: >99\u00a0%,")
    assert said["spoken"].startswith("The second digit: a 0. 0: ")
    press = "[...document.querySelectorAll('#feedback button')].find((b) => b.textContent === 'Right').click()"
    page.execute_script(press)
    wait_for(page, lambda d: d.find_element(By.ID, "feedback").get_attribute("data-step") == "kept")
    ((_, correction),) = sent(page, "/feedback")
    image = page.find_elements(By.CSS_SELECTOR, ".number img")[1].get_attribute("src")
    assert correction == {"image": image, "meant": 0}
    # with keys alone: another digit, and none
    page.find_elements(By.CSS_SELECTOR, ".number button")[2].send_keys(Keys.ENTER)
    shown(page, lambda found: found["chosen"] == ["5"])
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert shown(page, lambda found: found["kind"] == "whole")["words"][0] == "It is 305"


def test_number_follows_the_drawing(page):
    draw(page, number("25 "))
    shown(page, lambda found: found["lines"] == ["25"])
    draw(page, [[(x + 0.26, y) for x, y in DIGITS[1][0]]])
    shown(page, lambda found: found["lines"] == ["251"])
    page.find_element(By.ID, "undo").click()
    shown(page, lambda found: found["lines"] == ["25"])
    # one digit is left, which is read as ever
    page.find_element(By.ID, "undo").click()
    page.find_element(By.ID, "undo").click()
    said = shown(page, lambda found: found["kind"] is None and found["words"][0].endswith("a 2"))
    assert said["best"] and said["boxes"] == []
    page.find_element(By.ID, "redo").click()
    page.find_element(By.ID, "redo").click()
    shown(page, lambda found: found["lines"] == ["25"])
    page.find_element(By.ID, "clear").click()
    assert shown(page, lambda found: found["kind"] is None)["words"] == ["", ""]


def test_one_digit_asks_for_no_number(page):
    draw(page, DIGITS[4])
    shown(page, lambda found: found["words"][0].endswith("a 4"))
    assert sent(page, "/predict") and not sent(page, "/read")


def test_drawing_that_is_no_number_is_refused_as_ever(page):
    page.execute_script("window.alter = (answer) => ({ ...answer, digits: [], symbols: [], lines: [] })")
    draw(page, number("37"))
    said = shown(page, lambda found: found["words"][0] and sent(page, "/read") and found["spoken"])
    assert said["kind"] is None


@pytest.mark.parametrize("width", [320, pytest.param(1280, marks=pytest.mark.stress)])
def test_number_moves_nothing_on_the_page(page, width):
    screen = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    boxes = (
        "return ['#sheet', '.tools', '#answer', '#status', '#top', '.seen', '#feedback', '#keeping',"
        " '.probabilities', '#version']"
        ".map((part) => JSON.stringify(document.querySelector(part).getBoundingClientRect()))"
    )
    before = page.execute_script(boxes)
    page.find_element(By.TAG_NAME, "body").send_keys("[[[[[[")
    draw(page, number("274305"))
    shown(page, lambda found: found["kind"] == "whole" and found["spoken"])
    assert page.execute_script(boxes) == before
    page.find_element(By.CSS_SELECTOR, ".number button").click()
    shown(page, lambda found: found["kind"] == "digit" and found["feedback"])
    assert page.execute_script(boxes) == before
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
