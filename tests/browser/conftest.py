"""The installation that all browser tests share, and its browsers."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests.support.browser import (
    CHROMIUM,
    DRIVER,
    FIREFOX,
    START_SECONDS,
    chromium,
    firefox,
    geckodriver,
    start,
    stop,
    wait_for,
)


def pytest_collection_modifyitems(items):
    """Without a browser the tests are skipped, and say so; where CI is set, that is a failure."""
    if (CHROMIUM and DRIVER) or os.environ.get("CI"):
        return
    skip = pytest.mark.skip(reason="Chromium or its driver is not installed; make test installs them")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def server(prepared, tmp_path_factory):
    server = start(prepared, tmp_path_factory.mktemp("served"))
    yield server
    stop(server)


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def session_cookie(driver, server):
    """The cookie of an administrator who has signed in once for all tests."""
    driver.get(f"{server.url}/admin")
    driver.find_element(By.ID, "password").send_keys(server.password)
    driver.find_element(By.CSS_SELECTOR, "main button").click()
    wait_for(driver, lambda d: d.find_elements(By.ID, "champion"), START_SECONDS)
    (cookie,) = driver.get_cookies()
    driver.get("about:blank")
    return {"url": server.url} | {key: cookie[key] for key in ("name", "value", "httpOnly", "sameSite")}


@pytest.fixture
def signed_in(browser, session_cookie):
    """The browser with the cookie of an administrator, on no page yet."""
    browser.execute_cdp_cmd("Network.setCookie", session_cookie)
    return browser


@pytest.fixture(scope="session")
def firefox_driver():
    if not (FIREFOX and geckodriver()) and not os.environ.get("CI"):
        pytest.skip("Firefox or its driver is not installed; make test installs them")
    driver = firefox()
    yield driver
    driver.quit()


@contextmanager
def window(driver):
    """A window without cookies."""
    first = driver.current_window_handle
    profile = driver.browser.create_user_context()
    driver.switch_to.window(driver.browsing_context.create(type="window", user_context=profile))
    driver.set_page_load_timeout(60)
    yield
    driver.switch_to.window(first)
    driver.browser.remove_user_context(profile)


@pytest.fixture
def browser(driver):
    """A window of 1280 x 800 without cookies or emulation; whatever it complains of in its console fails the test."""
    with window(driver):
        driver.expected_complaint = None
        yield driver
        complaints = [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    allowed = driver.expected_complaint
    assert not [entry for entry in complaints if not (allowed and allowed in entry["message"])]


@pytest.fixture(params=["chromium", "firefox"])
def either_browser(request):
    """The window of each browser in turn; Firefox's resists fingerprinting."""
    if request.param == "chromium":
        yield request.getfixturevalue("browser")
        return
    driver = request.getfixturevalue("firefox_driver")
    with window(driver):
        yield driver
