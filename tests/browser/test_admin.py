"""The administrator's work, done with the mouse: sign in, train, watch, promote, cancel, sign out."""

import json
import urllib.request

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.browser import wait_for
from tests.support.strokes import DIGITS, draw
from tests.support.versions import add_version, figures, measured, promotions, turned
from webapp.storage.engine import Database

TRAINING_SECONDS = 150
# Five on an idle machine; here the other tests run beside.
CANCEL_SECONDS = 40
CHANGE_OVER_SECONDS = 40
EPOCHS = 24  # of the quickest preset: long enough to be watched, few enough for a dot each


def find(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def run_state(driver):
    return find(driver, "#run").get_attribute("data-state")


def sign_in(driver, server, password):
    driver.get(f"{server.url}/admin")
    assert driver.switch_to.active_element.get_attribute("id") == "password"
    find(driver, "#password").send_keys(password)
    find(driver, "main button").click()


def start_run(driver, server, preset, epochs=""):
    driver.get(f"{server.url}/admin/runs")
    find(driver, f"#start-run [value={preset}]").click()
    find(driver, "#start-run [name=epochs]").send_keys(epochs)
    find(driver, "#start-run button").click()
    wait_for(driver, lambda d: "/admin/runs/" in d.current_url and find(d, "#run"))


def promote(driver, server, version, reason):
    """From the list of versions to the version's page, where the reason is written, and to the overview."""
    driver.get(f"{server.url}/admin/versions")
    find(driver, f'.version[data-version="{version}"] .card-action a').click()
    wait_for(driver, lambda d: find(d, "#promote textarea")).send_keys(reason)
    find(driver, "#promote button").click()
    wait_for(driver, lambda d: champion(d) == version)


def roll_back(driver, server, version):
    driver.get(f"{server.url}/admin/versions")
    find(driver, f'.version[data-version="{version}"] .card-action button').click()
    wait_for(driver, lambda d: champion(d) == version)


def champion(driver):
    """The version that the overview says is in service; None on another page."""
    return driver.execute_script("return document.getElementById('champion')?.dataset.version")


def marks(driver):
    """Which criteria the version on this page passed, by name."""
    return driver.execute_script(
        "const rows = [...document.querySelectorAll('#criteria [data-criterion]')];"
        "return Object.fromEntries(rows.map((row) => [row.dataset.criterion, row.dataset.passed === 'true']));"
    )


def version_that_reads(driver, server):
    """Draws a seven on a fresh page; the version that the page names below its answer."""
    driver.get(server.url)
    draw(driver, DIGITS[7])
    return wait_for(driver, lambda d: find(d, "#version span").text.removeprefix("Model ").removesuffix(","))


def post(server, path, **sent):
    """What a script is answered that posts this, behind the page's back."""
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(sent).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def cancel(server, run):
    post(server, f"/admin/runs/{run}/cancel")


def sideways(driver):
    """How far the page reaches beyond a phone's screen, for two phones."""
    beyond = []
    for width in (375, 320):
        screen = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        beyond.append(driver.execute_script("return document.documentElement.scrollWidth") - width)
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return beyond


@pytest.fixture
def admin(signed_in, server):
    """A signed-in browser on the overview. Leaves no run behind for the next test, however this one ends."""
    signed_in.get(f"{server.url}/admin")
    yield signed_in
    signed_in.get(f"{server.url}/admin")
    for run in signed_in.find_elements(By.ID, "run"):
        cancel(server, run.get_attribute("data-run"))
        wait_for(signed_in, lambda d: run_state(d) == "cancelled", TRAINING_SECONDS)


def test_sign_in_wrong_password_is_refused(browser, server):
    browser.expected_complaint = "403"
    sign_in(browser, server, "not the password")
    assert "not the password" in wait_for(browser, lambda d: find(d, "[role=alert]")).text
    assert find(browser, "#password").get_attribute("aria-invalid") == "true"
    browser.get(f"{server.url}/admin")
    assert browser.current_url.endswith("/admin/sign-in")


def under_way(driver):
    """The number of epochs and the focused element's id, read at one moment; None before there is progress."""
    return driver.execute_script(
        "const bar = document.querySelector('#run progress');"
        "if (!bar || bar.value === 0) return null;"
        "const [said] = document.querySelector('.run-state').textContent.match(/of \\d+/) ?? [''];"
        "return [said, document.activeElement.id];"
    )


@pytest.mark.stress
def test_run_from_start_to_promotion_is_shown(admin, server):
    shipped = find(admin, "#champion").get_attribute("data-version")
    start_run(admin, server, "basic", str(EPOCHS))
    address = admin.current_url
    admin.execute_script("window.sameDocument = true; document.getElementById('cancel').focus()")

    wait_for(admin, lambda d: under_way(d) == [f"of {EPOCHS}", "cancel"], TRAINING_SECONDS)  # around what has the focus
    wait_for(admin, lambda d: run_state(d) == "finished", TRAINING_SECONDS)
    assert admin.execute_script("return window.sameDocument")
    accuracy, loss = admin.find_elements(By.CSS_SELECTOR, ".chart")
    assert len(accuracy.find_elements(By.TAG_NAME, "circle")) == EPOCHS + 1
    assert len(loss.find_elements(By.TAG_NAME, "circle")) == 2 * EPOCHS + 1  # no training loss before training

    run = server.get(address.removeprefix(server.url))
    version = run["version"].removeprefix("v")
    assert "It waits" in find(admin, "#run").text
    assert sideways(admin) == [0, 0]
    admin.get(f"{server.url}/admin")
    assert f"v{version}" in find(admin, "#undecided").text
    promote(admin, server, version, "it is small enough for our class")
    assert "it is small enough for our class" in find(admin, "#champion").text
    assert sideways(admin) == [0, 0]
    # A page shows what its own last question was answered with: ask again until the web workers have changed over.
    wait_for(admin, lambda d: version_that_reads(d, server) == f"v{version}", CHANGE_OVER_SECONDS)
    admin.get(f"{server.url}/admin/versions/{version}")
    passed = marks(admin)
    assert passed["usable"] and passed["multiplications"] and not passed["digits"] and not passed["refused-others"]
    assert len(admin.find_elements(By.CSS_SELECTOR, "#digits-lost img")) == 60
    assert find(admin, "#digits-lost img").size == {"width": 56, "height": 56}
    assert sideways(admin) == [0, 0]
    roll_back(admin, server, shipped)
    first = find(admin, "#promotions tbody tr").text
    assert f"v{version}" in first and f"v{shipped}" in first and f"rolled back from v{version}" in first
    wait_for(admin, lambda d: version_that_reads(d, server) == f"v{shipped}", CHANGE_OVER_SECONDS)


def test_promotion_without_reason_is_refused(admin, server):
    database = Database(f"sqlite:///{server.data_dir}/inkling.db")
    version = add_version(database, turned(1))
    before = promotions(database)
    admin.get(f"{server.url}/admin/versions/{version}")
    find(admin, "#promote button").click()
    assert find(admin, "#reason:invalid") == admin.switch_to.active_element
    assert admin.current_url.endswith(f"/versions/{version}") and promotions(database) == before
    database.close()


def test_strength_report_shows_progress_then_figures(admin, server):
    database = Database(f"sqlite:///{server.data_dir}/inkling.db")
    measured(database, 1, figures=None, fraction=0.4)  # as if a worker were at it
    admin.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"})
    admin.get(f"{server.url}/admin/versions")
    find(admin, "#version-1 .card-title a").click()
    wait_for(admin, lambda d: find(d, "#strength").get_attribute("data-state") == "measuring")
    admin.execute_script("window.sameDocument = true")
    time = find(admin, "time")
    assert "GMT+9 (20" in time.get_attribute("title") and time.get_attribute("title").endswith("UTC)")
    assert time.text.endswith("GMT+9")
    assert float(find(admin, "#measuring progress").get_attribute("value")) == pytest.approx(0.4)
    measured(database, 1)
    database.close()
    wait_for(admin, lambda d: find(d, "#strength").get_attribute("data-state") == "measured")
    assert admin.execute_script("return window.sameDocument")
    assert len(admin.find_elements(By.CSS_SELECTOR, ".small-multiples .chart")) == len(figures()["curves"])
    assert find(admin, ".reliability svg").is_displayed() and "Scribbles" in find(admin, "#verdicts").text
    assert sideways(admin) == [0, 0]


def test_training_started_elsewhere_is_told_and_cancelled_after_a_question(admin, server):
    admin.get(f"{server.url}/admin/runs")
    assert sideways(admin) == [0, 0]
    assert find(admin, "[value=thorough] ~ * .takes").text == "about an hour"
    find(admin, "#epochs").send_keys("7")
    assert find(admin, "[value=thorough] ~ * .takes").text == "about a minute"
    details = find(admin, "#start-run details summary")
    details.click()
    find(admin, "#batch_size").send_keys("4")
    assert not find(admin, "[value=thorough] ~ * .takes").is_displayed()
    find(admin, "#batch_size").send_keys(Keys.BACKSPACE)
    wait_for(admin, lambda d: find(d, "[value=thorough] ~ * .takes").is_displayed())
    details.click()
    place = find(admin, "#epochs").location
    run = post(server, "/admin/retrain", preset="basic", epochs=1000)["id"]
    wait_for(admin, lambda d: find(d, "#busy").text.startswith(f"Training {run} is still going"))
    assert find(admin, "#epochs").get_attribute("value") == "7" and find(admin, "#epochs").location == place
    assert find(admin, f"#run-{run}").is_displayed()

    find(admin, "#busy a").click()
    wait_for(admin, lambda d: "of 1000" in find(d, ".run-state").text, TRAINING_SECONDS)
    admin.get(f"{server.url}/admin")
    assert run_state(admin) == "running" and sideways(admin) == [0, 0]
    find(admin, "#cancel").click()
    assert f"Cancel training {run}?" in find(admin, "#cancelling").text
    before = find(admin, ".run-state").text
    wait_for(admin, lambda d: find(d, ".run-state").text != before)
    assert find(admin, "#cancelling:popover-open") and run_state(admin) == "running"
    admin.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert admin.switch_to.active_element == find(admin, "#cancel")
    find(admin, "#cancel").click()
    find(admin, "#cancelling .button--danger").click()
    wait_for(admin, lambda d: run_state(d) == "cancelled", CANCEL_SECONDS)
    assert not admin.find_elements(By.ID, "cancel")
    assert "made no version" in find(admin, "#run").text


@pytest.mark.stress
def test_trainings_take_in_the_end_of_a_run(admin, server):
    start_run(admin, server, "basic", "1000")
    admin.get(f"{server.url}/admin/runs")
    run = find(admin, "#run").get_attribute("data-run")
    listed = find(admin, f'#runs [data-run="{run}"] a')
    admin.execute_script("arguments[0].focus()", listed)
    cancel(server, run)
    wait_for(admin, lambda d: find(d, "#start-run").is_displayed(), TRAINING_SECONDS)
    assert find(admin, f'#runs [data-run="{run}"]').get_attribute("data-state") == "cancelled"
    assert admin.switch_to.active_element == listed


def test_cookie_copied_before_sign_out_opens_nothing(browser, server):
    sign_in(browser, server, server.password)
    wait_for(browser, lambda d: find(d, "#sign-out"))
    (cookie,) = browser.get_cookies()
    find(browser, "#sign-out").click()
    wait_for(browser, lambda d: d.current_url == f"{server.url}/")
    browser.add_cookie({"name": cookie["name"], "value": cookie["value"]})
    browser.get(f"{server.url}/admin")
    assert browser.current_url.endswith("/admin/sign-in")
