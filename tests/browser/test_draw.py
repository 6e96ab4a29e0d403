"""Drawing, as a person does it: the answer comes while the pen moves."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from strokes import DIGITS, draw

ANSWER_SECONDS = 10


def wait_for(driver, condition, seconds=ANSWER_SECONDS):
    return WebDriverWait(driver, seconds, poll_frequency=0.05).until(condition)


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


@pytest.fixture
def page(browser, server):
    browser.get(server.url)
    return browser


@pytest.mark.parametrize("digit", DIGITS)
def test_each_digit_comes_first(page, digit):
    draw(page, DIGITS[digit])
    said = wait_for(page, lambda d: (a := answer(d))["best"] == str(digit) and a["shares"][0] > 0.5 and a["seen"] and a)
    assert said["digits"][0] == str(digit) and len(set(said["digits"])) == 3
    assert said["shares"] == sorted(said["shares"], reverse=True)
    assert (said["bars"], said["seen"]) == (10, 28)
    assert "v1" in said["version"]


def test_blank_sheet_asks_nothing(page):
    assert state(page) == "blank"
    asked = "return performance.getEntriesByType('resource').filter(e => e.name.includes('predict')).length"
    draw(page, DIGITS[7])
    wait_for(page, lambda d: best(d) == "7")
    page.find_element(By.ID, "clear").click()
    wait_for(page, lambda d: state(d) == "blank")
    before = page.execute_script(asked)
    page.find_element(By.ID, "clear").click()
    page.find_element(By.ID, "canvas").send_keys(Keys.DELETE)
    assert page.execute_script(asked) == before


def test_undo_redo_and_clear_by_button_and_key(page):
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


def test_brush_width_changes_the_line(page):
    draw(page, DIGITS[1])
    thin = wait_for(page, lambda d: best(d) == "1" and ink(d))
    page.find_element(By.ID, "clear").click()
    wait_for(page, lambda d: ink(d) == 0)
    page.find_element(By.TAG_NAME, "body").send_keys("]]]]]]")
    draw(page, DIGITS[1])
    wait_for(page, lambda d: ink(d) > 1.2 * thin)


def test_strokes_survive_a_resize(page):
    draw(page, DIGITS[2])
    page.set_window_size(420, 800)
    wait_for(page, lambda d: best(d) == "2" and ink(d) > 0)


@pytest.mark.parametrize("kind", ["pen", "touch"])
def test_other_pointers(page, kind):
    draw(page, DIGITS[3], kind)
    wait_for(page, lambda d: best(d) == "3")


def test_a_finger_on_a_phone_draws_and_does_not_scroll(page):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 375, "height": 667, "deviceScaleFactor": 3, "mobile": True}
    )
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.refresh()
    box = page.execute_script(
        "const b = document.getElementById('canvas').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]"
    )
    for stroke in DIGITS[7]:
        points = [{"x": box[0] + x * box[2], "y": box[1] + y * box[3]} for x, y in stroke]
        for kind, point in [("touchStart", points[0]), *(("touchMove", p) for p in points[1:]), ("touchEnd", None)]:
            page.execute_cdp_cmd(
                "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point] if point else []}
            )
    wait_for(page, lambda d: best(d) == "7")
    assert page.execute_script("return window.scrollY") == 0
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_drawing_with_the_keyboard_alone(page):
    canvas = page.find_element(By.ID, "canvas")
    canvas.send_keys(*[Keys.ARROW_UP] * 6, Keys.SPACE, *[Keys.ARROW_DOWN] * 14, Keys.SPACE)
    wait_for(page, lambda d: state(d) == "reading" and ink(d) > 0)


def test_says_when_the_server_is_away_and_recovers(page):
    page.expected_complaint = "ERR_INTERNET_DISCONNECTED"
    network = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.execute_cdp_cmd("Network.enable", {})
    page.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **network})
    draw(page, DIGITS[7])
    wait_for(page, lambda d: state(d) == "offline")
    assert page.find_element(By.ID, "status").text
    page.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **network})
    wait_for(page, lambda d: state(d) == "reading" and best(d) == "7")


@pytest.mark.parametrize("width", [320, 375, 1280])
def test_fits_the_screen(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 667, "deviceScaleFactor": 2, "mobile": False}
    )
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_first_visit_is_small_and_from_here_alone(page, server):
    entries = page.execute_script(
        "return [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map(e => [e.name, e.transferSize])"
    )
    assert all(name.startswith(server.url) for name, _ in entries)
    assert sum(size for _, size in entries) < 60_000
