"""The gallery in a real browser, with the predictions of the shipped version."""

import json
import urllib.request

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from tests.support.browser import turn_the_page, wait_for


@pytest.fixture
def gallery(server, browser):
    """The gallery's address, opened."""
    browser.get(f"{server.url}/gallery")
    return f"{server.url}/gallery"


def text(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector).text


def captions(browser):
    return [element.get_attribute("textContent") for element in browser.find_elements(By.CSS_SELECTOR, ".caption")]


def total(browser):
    return int(text(browser, "#shown").split()[0].replace(",", ""))


def path(browser):
    return browser.execute_script("return location.pathname + location.search + location.hash")


def show(browser, **choices):
    for name, value in choices.items():
        Select(browser.find_element(By.NAME, name)).select_by_value(value)
    turn_the_page(browser, browser.find_element(By.CSS_SELECTOR, ".filters button"))


def follow(browser, selector):
    link = browser.find_element(By.CSS_SELECTOR, selector)
    address = link.get_attribute("href")
    link.click()
    wait_for(browser, lambda page: page.current_url == address)


def set_width(browser, width):
    metrics = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_gallery_page_shows_a_hundred_pictures_from_one_file(browser, gallery):
    assert len(captions(browser)) == 100
    assert captions(browser)[:4] == ["7", "2", "1", "0"], "the first test digits are known"
    images = browser.execute_script(
        "return performance.getEntriesByType('resource').filter(entry => entry.name.includes('/sprite/'))"
    )
    assert len(images) == 1 and images[0]["decodedBodySize"] > 5_000
    size = browser.execute_script(
        "const box = document.querySelector('.pictures .ink').getBoundingClientRect(); return [box.width, box.height]"
    )
    assert size == [56, 56]


TAB_STOPS = """
return [...document.querySelectorAll("a, button, select, input")].filter(
  (element) => element.tabIndex >= 0 && element.checkVisibility(),
).length;
"""


def test_gallery_pictures_and_tables_are_one_tab_stop_each(browser, gallery):
    assert browser.execute_script(TAB_STOPS) <= 25
    pictures = browser.find_elements(By.CSS_SELECTOR, ".picture")
    columns = 10

    def press(*keys):
        browser.switch_to.active_element.send_keys(*keys)
        return browser.switch_to.active_element

    browser.execute_script("arguments[0].focus()", pictures[0])
    assert pictures[0].get_attribute("aria-describedby") == "arrow-keys"
    for keys, place in (
        ((Keys.ARROW_LEFT,), 0),
        ((Keys.ARROW_RIGHT,), 1),
        ((Keys.ARROW_DOWN,), columns + 1),
        ((Keys.END,), 2 * columns - 1),
        ((Keys.ARROW_RIGHT,), 2 * columns),
        ((Keys.PAGE_DOWN,), 9 * columns),
        ((Keys.ARROW_DOWN,), 9 * columns),
        ((Keys.ARROW_UP,), 8 * columns),
        ((Keys.CONTROL, Keys.END), 99),
    ):
        assert press(*keys) == pictures[place], keys
    assert pictures[99].get_attribute("aria-describedby") is None, "the hint is said once"
    assert press(Keys.TAB).find_elements(By.XPATH, "ancestor::nav[@class='leaf']")
    assert press(Keys.SHIFT, Keys.TAB) == pictures[99], "the list remembers the place"
    matrix = browser.find_elements(By.CSS_SELECTOR, ".confusion a")
    browser.execute_script("arguments[0].focus()", matrix[0])
    assert press(Keys.ARROW_DOWN).get_attribute("title") == "0 read as 0"
    assert press(Keys.HOME).get_attribute("title") == "All that are a 0"
    assert browser.execute_script(TAB_STOPS) <= 25


def test_gallery_filters_have_an_address(browser, gallery):
    show(browser, true="4", predicted="9")
    assert path(browser) == "/gallery?true=4&predicted=9"
    found = captions(browser)
    assert len(found) == total(browser) > 0
    assert set(found) == {"4→ read as 9"}
    browser.get(browser.current_url)
    assert captions(browser) == found
    assert Select(browser.find_element(By.NAME, "predicted")).first_selected_option.text == "9"


@pytest.mark.stress
def test_gallery_most_confident_mistakes_are_one_click_away(browser, gallery):
    turn_the_page(browser, browser.find_element(By.LINK_TEXT, "Most confident wrong"))
    assert path(browser) == "/gallery?outcome=wrong&order=sure"
    assert all("→" in caption for caption in captions(browser))
    shares = [element.text for element in browser.find_elements(By.CSS_SELECTOR, ".sureness")]
    numbers = [int(share.strip("<>%\u00a0 ")) for share in shares]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.stress
def test_gallery_matrix_cell_leads_to_its_pictures(browser, gallery):
    cell = browser.find_element(By.CSS_SELECTOR, ".confusion td[class^=level] a")
    count, name = int(cell.text), cell.get_attribute("title")
    turn_the_page(browser, cell)
    assert total(browser) == len(captions(browser)) == count
    current = browser.find_element(By.CSS_SELECTOR, ".confusion tbody [aria-current]")
    assert current.get_attribute("title") == name


def test_gallery_pictures_turn_by_links_and_arrow_keys(browser, gallery):
    browser.get(f"{gallery}?outcome=wrong&order=unsure")
    addresses = [link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, ".picture")][:3]
    follow(browser, ".picture")
    assert browser.current_url == addresses[0]
    assert (
        text(browser, ".verdict h1").startswith("A ")
        and len(browser.find_elements(By.CSS_SELECTOR, ".chances li")) == 10
    )
    follow(browser, "[rel=next]")
    assert browser.current_url == addresses[1]
    for key, address in ((Keys.ARROW_RIGHT, addresses[2]), (Keys.ARROW_LEFT, addresses[1])):
        browser.find_element(By.TAG_NAME, "body").send_keys(key)
        wait_for(browser, lambda page, address=address: page.current_url == address)
    turn_the_page(browser, browser.find_element(By.CSS_SELECTOR, ".back"))
    assert path(browser).startswith("/gallery?outcome=wrong&order=unsure#p")
    target = browser.find_element(By.CSS_SELECTOR, "li:target .picture")
    assert target.get_attribute("href") == addresses[1]


@pytest.mark.stress
def test_gallery_bars_are_as_long_as_probabilities(browser, gallery):
    browser.get(f"{gallery}?order=unsure")
    follow(browser, ".picture")
    bars = browser.execute_script("""
        const width = (element) => element.getBoundingClientRect().width;
        return [...document.querySelectorAll(".chances li")].map((row) => [
          row.querySelector(".chance-value").textContent,
          width(row.querySelector("rect")) / width(row.querySelector("svg")),
        ]);""")
    for share, width in bars:
        assert abs(int(share.strip("<>%\u00a0 ")) - 100 * width) <= 1.01
    assert sum(width for _, width in bars) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("width", [320, pytest.param(768, marks=pytest.mark.stress)])
def test_gallery_scrolls_nowhere_sideways(browser, gallery, width):
    set_width(browser, width)
    for address in ("?outcome=wrong&order=sure", "?page=50", "/8?outcome=right", "?true=0&predicted=1"):
        browser.get(gallery + address)
        assert browser.execute_script("return document.documentElement.scrollWidth") == width, address


def test_gallery_without_javascript_works(server, browser, gallery):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(gallery)
    show(browser, outcome="wrong", true="9")
    assert browser.current_url == f"{gallery}?true=9&outcome=wrong"
    follow(browser, ".picture")
    follow(browser, "[rel=next]")
    assert text(browser, ".place").startswith("2 of ")
    with urllib.request.urlopen(f"{server.url}/gallery/progress") as answer:
        assert json.load(answer)["ready"] is True
