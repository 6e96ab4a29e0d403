"""The whole way of a correction: sent, followed, approved, learnt from; the version compared, put in service, rolled
back."""

import pytest
from selenium.webdriver.common.by import By

from tests.support.browser import start, stop, wait_for
from tests.support.strokes import draw

STEP_SECONDS = 120
TRAINING_SECONDS = 400

# As small children write a seven, the wrong way round.
MIRRORED_SEVEN = [[(0.7, 0.22), (0.5, 0.21), (0.3, 0.22), (0.4, 0.42), (0.49, 0.62), (0.55, 0.82)]]

READ = """
const [spoken, said, by] = ["spoken", "verdict", "version"].map((id) => document.getElementById(id).textContent);
return { spoken, said, by };
"""


def text(driver):
    return driver.execute_script("return document.querySelector('main').innerText")


def shows(driver, words, seconds=STEP_SECONDS):
    wait_for(driver, lambda d: words in text(d), seconds)


def click(driver, selector, words=None):
    """Clicks what the selector finds, with these words on it, once it is there to be clicked."""
    found = (
        "const all = [...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility() && !e.disabled);"
        "const one = arguments[1] === null ? all[0] : all.find((e) => e.textContent.trim() === arguments[1]);"
        "one?.click(); return Boolean(one);"
    )
    wait_for(driver, lambda d: d.execute_script(found, selector, words))


def reading(driver, url, version):
    """The verdict's words on a freshly drawn mirrored seven, once this version gives it."""

    def drawn(driver):
        driver.get(url)
        draw(driver, MIRRORED_SEVEN)
        read = wait_for(driver, lambda d: (found := d.execute_script(READ))["said"] and found["spoken"] and found)
        return read["by"].startswith(f"Model {version},") and read["said"]

    return wait_for(driver, drawn)


@pytest.fixture
def installation(prepared, tmp_path_factory):
    """An installation of its own: what this changes, other tests shall not meet."""
    server = start(prepared, tmp_path_factory.mktemp("learning"))
    yield server
    stop(server)


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_correction_learnt_from_is_put_in_service_and_rolled_back(browser, installation):
    url = installation.url
    assert reading(browser, url, "v1") == "That does not look like a digit"

    click(browser, "#feedback button", "It was a …")
    click(browser, "#feedback button", "7")
    click(browser, "#feedback button", "Keep this one, ask every time")
    receipt = wait_for(browser, lambda d: d.execute_script("return document.querySelector('#feedback a')?.href"))
    browser.get(receipt)
    shows(browser, "It waits for a person to look at it")

    browser.get(f"{url}/admin")
    browser.find_element(By.ID, "password").send_keys(installation.password)
    click(browser, "main form button")
    shows(browser, "In service")
    browser.get(f"{url}/admin/corrections")
    wait_for(browser, lambda d: d.find_elements(By.CSS_SELECTOR, "#queue .card"))
    browser.find_element(By.TAG_NAME, "body").send_keys("a")
    wait_for(browser, lambda d: d.find_element(By.CSS_SELECTOR, "#tab-approved .count").text == "1")
    browser.get(receipt)
    shows(browser, "A person has looked at it and agrees: a 7.")

    browser.get(f"{url}/admin/runs")
    shows(browser, "1 approved one")
    click(browser, "#start-run [value=fine-tune]")
    browser.execute_script("document.getElementById('epochs').value = 4")
    click(browser, "#start-run button")
    shows(browser, "It waits", TRAINING_SECONDS)
    assert "1 learnt from, 0 held out to compare by" in text(browser)

    browser.get(f"{url}/admin/versions/2")
    criteria = browser.find_elements(By.CSS_SELECTOR, "#criteria [data-passed=true]")
    assert {"digits", "all", "recall-9", "multiplications"} <= {row.get_attribute("data-criterion") for row in criteria}
    shows(browser, "has learnt from corrections, and none are held out to judge it by")
    browser.find_element(By.ID, "reason").send_keys("the correction was looked at by hand")
    click(browser, "#promote button")
    wait_for(browser, lambda d: d.execute_script("return document.getElementById('champion')?.dataset.version") == "2")
    browser.get(receipt)
    wait_for(browser, lambda d: d.get(receipt) or "v2, which is in service, reads" in text(d))
    assert "in v2, which learnt from it" in text(browser)
    assert "v2, which is in service, reads\na 7" in text(browser), text(browser)
    assert "a 7" in reading(browser, url, "v2").lower()

    browser.get(f"{url}/admin/versions")
    click(browser, '.version[data-version="1"] .card-action button')
    wait_for(browser, lambda d: d.execute_script("return document.getElementById('champion')?.dataset.version") == "1")
    assert "rolled back from v2" in text(browser)
    assert reading(browser, url, "v1") == "That does not look like a digit"
