"""Sign-in and sign-out in a real browser: where they lead, what Back shows, and the wait after wrong passwords."""

import contextlib
import time

from selenium.webdriver.common.by import By
from sqlalchemy import delete

from tests.support.browser import turn_the_page, wait_for
from webapp.auth import ATTEMPT_WINDOW_SECONDS, ATTEMPTS_PER_ADDRESS, Authenticator, NameRefused
from webapp.storage.engine import Database
from webapp.storage.schema import SignInAttempt


def find(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def send(driver, password):
    find(driver, "#password").send_keys(password)
    turn_the_page(driver, find(driver, ".sign-in .button"))


def test_signed_out_back_shows_no_page_of_the_administrator(browser, server):
    browser.get(f"{server.url}/admin/promotions")
    send(browser, server.password)
    assert browser.current_url == f"{server.url}/admin/promotions", "the page that was asked for"
    browser.get(f"{server.url}/admin/versions")
    turn_the_page(browser, find(browser, "#sign-out"))
    assert browser.current_url == f"{server.url}/"
    for page in ("versions", "promotions"):
        browser.back()
        wait_for(browser, lambda d: find(d, "#password").is_displayed())
        assert browser.current_url == f"{server.url}/admin/sign-in?next=/admin/{page}"


def test_sign_in_after_too_many_attempts_counts_down_and_opens_again(browser, server):
    browser.expected_complaint = "Failed to load resource"
    browser.get(f"{server.url}/admin/sign-in")
    send(browser, "wrong")
    assert "4 attempts are left" in find(browser, "[role=alert]").text
    database = Database(f"sqlite:///{server.data_dir}/inkling.db")
    with database.writing() as session:
        (attempt,) = session.query(SignInAttempt)
        attempt.at = time.time() - ATTEMPT_WINDOW_SECONDS + 6
        earlier = [SignInAttempt(address=attempt.address, at=attempt.at) for _ in range(ATTEMPTS_PER_ADDRESS - 1)]
        session.add_all(earlier)
    browser.get(f"{server.url}/admin/sign-in")
    assert "the right password is refused too" in find(browser, "#wait").text
    wait_for(browser, lambda d: find(d, ".sign-in .button").is_enabled())
    assert not find(browser, "#wait").is_displayed() and find(browser, "#wait-over").text == "You can try again now."
    with database.writing() as session:
        session.execute(delete(SignInAttempt))
    database.close()


def test_sign_in_by_name_and_end_by_removal(browser, server):
    database = Database(f"sqlite:///{server.data_dir}/inkling.db")
    administrators, name = Authenticator(database), "anna" * 16
    administrators.add(name, "another password")
    try:
        browser.set_window_size(320, 800)
        browser.get(f"{server.url}/admin")
        assert browser.switch_to.active_element.get_attribute("id") == "username"
        browser.switch_to.active_element.send_keys(name.upper())
        send(browser, "another password")
        assert name in find(browser, ".admin-head").text
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 320
        administrators.remove(name)
        browser.get(f"{server.url}/admin/promotions")
        assert "/admin/sign-in" in browser.current_url and not browser.find_elements(By.ID, "username")
    finally:
        browser.set_window_size(1280, 800)
        with contextlib.suppress(NameRefused):
            administrators.remove(name)
        database.close()
