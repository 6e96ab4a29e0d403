"""All of it below a path, in a real browser: a digit is drawn and corrected, and the gallery and the sign-in work."""

import pytest
from selenium.webdriver.common.by import By

from tests.support.browser import start, stop, turn_the_page, wait_for
from tests.support.strokes import DIGITS, draw

PRESS = """
const button = [...document.querySelectorAll("#feedback button")].find((one) => one.textContent === arguments[0]);
button?.click();
return Boolean(button);
"""


@pytest.fixture
def below(prepared, tmp_path):
    server = start(prepared, tmp_path / "data", BASE_PATH="/inkling")
    yield server
    stop(server)


def test_page_below_a_path_is_whole(below, browser):
    assert below.url.endswith("/inkling")
    browser.get(f"{below.url}/")
    browser.execute_script("sessionStorage.setItem('inkling-consent', 'yes')")
    draw(browser, DIGITS[7])
    wait_for(browser, lambda d: d.find_element(By.ID, "best").text == "7")
    for words in ("No, it was …", "1"):
        wait_for(browser, lambda d, words=words: d.execute_script(PRESS, words))
    receipt = wait_for(browser, lambda d: d.find_elements(By.CSS_SELECTOR, "#feedback a"))[0].get_attribute("href")
    assert receipt.startswith(f"{below.url}/receipts/")
    browser.get(receipt)
    assert browser.find_element(By.TAG_NAME, "h1").text == "Your drawing"
    turn_the_page(browser, browser.find_element(By.LINK_TEXT, "Gallery"))
    assert browser.current_url == f"{below.url}/gallery"
    picture = wait_for(browser, lambda d: d.find_elements(By.CSS_SELECTOR, ".pictures a"))[0]
    turn_the_page(browser, picture)
    assert browser.current_url.startswith(f"{below.url}/gallery/")
    browser.get(f"{below.url}/admin/corrections")
    assert browser.current_url == f"{below.url}/admin/sign-in?next=/inkling/admin/corrections"
    browser.find_element(By.ID, "password").send_keys(below.password)
    turn_the_page(browser, browser.find_element(By.CSS_SELECTOR, ".sign-in .button"))
    assert browser.current_url == f"{below.url}/admin/corrections"
    assert "Corrections" in browser.find_element(By.TAG_NAME, "h1").text
