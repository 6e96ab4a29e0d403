"""axe-core on every page and state, on a phone and a wide screen, in the light and the dark theme: WCAG 2.2 AA.

A state is a line of a list: its name, the address, and a function that leads from there to the state. Without an
address it is reached from the state before.
"""

import json
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
import selenium_axe_python
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from sqlalchemy import delete

from tests.support.browser import is_gone, turn_the_page, wait_for
from tests.support.corrections import add_correction, digits
from tests.support.pictures import number, photo, save
from tests.support.requests import ONE
from tests.support.screenshot import BETWEEN_4_AND_9
from tests.support.strokes import DIGITS, NO_DIGITS, draw
from tests.support.versions import add_version, compared, evidence, measured, turned
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.storage.schema import Artifact, Checkpoint, Correction, Import, Run, RunCorrection, SignInAttempt

AXE = (Path(selenium_axe_python.__file__).parent / "axe-core/axe.min.js").read_text()
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Width, theme and rules: all rules once, then those whose result depends on width or theme.
VIEWS = [(1280, "light", []), (375, "dark", ["color-contrast", "scrollable-region-focusable", "target-size"])]
RUN = """
const [tags, rules, done] = arguments;
const only = rules.length ? { type: "rule", values: rules } : { type: "tag", values: tags };
// The rest of these is like the first ones.
const context = { exclude: [".pictures > li:nth-child(n + 12)", ".confusion tr:nth-child(n + 4)"] };
requestAnimationFrame(() => requestAnimationFrame(async () => {
  const found = await axe.run(context, { runOnly: only, resultTypes: ["violations"], elementRef: false });
  const nodes = found.violations.flatMap(({ id, nodes }) => nodes.map((node) => ({ id, ...node })));
  done(nodes.map(({ id, target, failureSummary }) => `${id}: ${target} ${failureSummary}`));
}));
"""

SEND = """
const [body, done] = arguments;
const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
fetch("/feedback", options).then((response) => done(response.status));
"""
SUBMIT = """
const [form, changes] = arguments;
form.noValidate = true;
for (const [name, value] of Object.entries(changes)) form.elements[name].value = value;
form.submit();
"""


def violations(driver):
    """What axe-core finds on the page as it is, in each of VIEWS."""
    found = []
    for width, theme, rules in VIEWS:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800}
        media = {"prefers-color-scheme": theme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in media.items()]
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        found += [f"{width} px, {theme}: {one}" for one in driver.execute_async_script(RUN, TAGS, rules)]
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return found


def check(driver, server, states):
    """Lead to each of the states; none may have a violation."""
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": AXE})
    found = {}
    for name, path, lead in states:
        if path:
            connect(driver, True)
            driver.get(server.url + path)
        lead(driver, server)
        if here := violations(driver):
            found[name] = here
    assert not found, json.dumps(found, indent=1)


def stay(driver, server):
    """The page as it comes."""


def showing(selector):
    """The page, which has this element."""
    return lambda driver, server: driver.find_element(By.CSS_SELECTOR, selector)


def drawn(strokes, verdict):
    """A reading of these strokes alone."""

    def lead(driver, server):
        driver.execute_script("document.getElementById('clear').click()")
        draw(driver, strokes)
        wait_for(driver, lambda d: d.find_element(By.ID, "answer").get_attribute("data-verdict") == verdict)
        if verdict != "number":
            wait_for(driver, lambda d: d.find_elements(By.CSS_SELECTOR, "#feedback button"))

    return lead


def pressed(button):
    """One of the buttons below a reading, counted from the first or, if negative, from the last one."""

    def lead(driver, server):
        buttons = driver.find_elements(By.CSS_SELECTOR, "#feedback button")
        before = [element.text for element in buttons]
        driver.execute_script("arguments[0].click()", buttons[button])
        wait_for(driver, lambda d: [e.text for e in d.find_elements(By.CSS_SELECTOR, "#feedback button")] != before)

    return lead


def chosen(place):
    """A digit of the number that is shown, by its place."""

    def lead(driver, server):
        driver.execute_script(f"document.querySelectorAll('.number button')[{place}].click()")
        wait_for(driver, lambda d: d.find_elements(By.CSS_SELECTOR, "#feedback button"))

    return lead


def pictured(strokes):
    """A picture file of these strokes that was read."""

    def lead(driver, server):
        with tempfile.TemporaryDirectory() as folder:
            path = save(photo(strokes), Path(folder, "picture.png"))
            driver.find_element(By.ID, "picture-file").send_keys(path)
            wait_for(driver, lambda d: d.find_element(By.ID, "main").get_attribute("data-state") == "reading")
            wait_for(driver, lambda d: d.find_element(By.ID, "verdict").text)

    return lead


def marked(driver, server):
    driver.find_element(By.CSS_SELECTOR, ".photo").send_keys(Keys.ARROW_RIGHT)


def connect(driver, online):
    network = {"offline": not online, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", network)


def offline(driver, server):
    connect(driver, False)
    draw(driver, DIGITS[1])
    wait_for(driver, lambda d: d.find_element(By.ID, "main").get_attribute("data-state") == "offline")


def signing_in(until):
    """With wrong passwords, until the page has this element."""

    def lead(driver, server):
        while not driver.find_elements(By.CSS_SELECTOR, until):
            driver.find_element(By.ID, "password").send_keys("wrong")
            turn_the_page(driver, driver.find_element(By.CSS_SELECTOR, ".sign-in .button"))

    return lead


def kept(driver, server):
    """The list of this browser's own drawings, after it has sent one."""
    sent = driver.execute_async_script(SEND, ONE | {"meant": 7})
    assert sent == 201
    driver.get(f"{server.url}/receipts")


def refused(form, **changes):
    """The page that answers a form with these fields, which the browser itself would not send."""

    def lead(driver, server):
        before = driver.find_element(By.TAG_NAME, "html")
        driver.execute_script(SUBMIT, driver.find_element(By.CSS_SELECTOR, form), changes)
        wait_for(driver, lambda d: is_gone(before))
        wait_for(driver, lambda d: d.find_elements(By.CSS_SELECTOR, "[aria-invalid]"))

    return lead


def asking(driver, server):
    """The page that asks before the first correction is removed."""
    driver.find_element(By.ID, "remove").click()
    wait_for(driver, lambda d: d.find_elements(By.CSS_SELECTOR, ".to-remove"))


def confirming(driver, server):
    driver.execute_script("for (const panel of document.querySelectorAll('[popover]')) panel.showPopover()")


PUBLIC = [
    ("drawing page, blank", "/", stay),
    ("drawing page, unsure", "", drawn(BETWEEN_4_AND_9, "unsure")),
    ("drawing page, refused", "/", drawn(NO_DIGITS["letter A"], "not_a_digit")),
    ("drawing page, a digit", "/", drawn(DIGITS[7], "digit")),
    ("drawing page, consent", "", pressed(0)),
    ("drawing page, picker", "/", lambda *of: (drawn(DIGITS[7], "digit")(*of), pressed(-1)(*of))),
    ("drawing page, offline", "", offline),
    ("drawing page, a number", "/", drawn(number("205"), "number")),
    ("drawing page, a digit of a number", "", chosen(1)),
    ("drawing page, a picture", "/", pictured(number("3"))),
    ("drawing page, a picture with a number", "", pictured(number("205"))),
    ("drawing page, a part of a picture", "", marked),
    ("how it works", "/how-it-works", stay),
    ("your drawings, none", "/receipts", stay),
    ("your drawings", "", kept),
    ("receipt of none", "/receipts/x", stay),
    ("gallery", "/gallery", stay),
    ("gallery, wrong", "/gallery?outcome=wrong&order=sure", stay),
    ("gallery, a picture", "/gallery/8", stay),
    ("nothing there", "/nothing", stay),
    ("sign-in", "/admin/sign-in", stay),
    ("wrong password", "", signing_in("#password-error")),
    ("locked out", "", signing_in("#wait")),
]


def test_public_pages_are_accessible(browser, server, database):
    browser.expected_complaint = "Failed to load resource"
    receipt = send_correction(server)
    check(browser, server, [*PUBLIC, ("receipt", receipt, stay), ("receipt, deleting", "", confirming)])


LOOK = """
const style = (selector) => getComputedStyle(document.querySelector(selector));
return {
  current: style("nav [aria-current]").backgroundColor,
  other: style("nav a:not([aria-current])").backgroundColor,
  edges: [".badge", ".chances svg"].map((selector) => style(selector).outlineStyle),
  bar: style(".is-predicted rect").fill,
  track: style(".chances svg").backgroundColor,
};
"""


def test_high_contrast_shows_the_current_page_badges_and_bars(browser, server):
    features = [{"name": "forced-colors", "value": "active"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(f"{server.url}/gallery/8")
    shown = browser.execute_script(LOOK)
    assert shown["current"] != shown["other"] and shown["bar"] != shown["track"]
    assert shown["edges"] == ["solid", "solid"]


def send_correction(server):
    """The address of the receipt of a drawing that was sent."""
    request = urllib.request.Request(
        f"{server.url}/feedback", json.dumps(ONE | {"meant": 7}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)["receipt"]


@pytest.fixture
def database(server):
    database = Database(f"sqlite:///{server.data_dir}/inkling.db")
    yield database
    with database.writing() as session:
        session.execute(delete(SignInAttempt))
    database.close()


@pytest.fixture
def busy(server, database):
    """Runs in three states; versions that were compared, that could not read the test digits and that still read them;
    corrections in each state, and an import.

    Yields the numbers of the runs and of the versions.
    """
    settings = Settings.read({"DATA_DIR": str(server.data_dir)})
    now = time.time()
    version, unread, reading = (add_version(database, turned(by)) for by in (3, 4, 5))
    compared(database, version, evidence(passed=False))
    measured(database, version)
    epochs = [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "validation_loss": 1 / epoch,
            "validation_accuracy": 0.9,
            "seconds": 1.0,
        }
        for epoch in (1, 2, 3)
    ]
    common = {"preset": "basic", "epochs": 9, "seed": 0, "requested_by": "a test", "created_at": now, "history": epochs}
    running = {"state": "running", "attempt": 1, "started_at": now, "lease_until": now + 75}
    ended = {"started_at": now, "ended_at": now}
    runs = [
        Run(state="finished", version_id=version, **ended, **common),
        Run(state="failed", error=json.dumps({"code": "no_parent"}), **ended, **common),
        Run(progress={"epoch": 3, "epochs": 9, "fraction": 0.3}, **running, **common),
    ]
    file = {"name": "digits.npz", "sha256": "abc", "digits": 60_000, "requested_by": "a test", "attempt": 1}
    with database.writing() as session:
        session.add_all(runs)
        session.add(Artifact(version_id=unread, kind="predictions", error=json.dumps({"code": "broken"})))
        session.add(Artifact(version_id=reading, kind="predictions", fraction=0.4))
        session.add(Import(state="running", fraction=0.4, **file))
    for (image, digit), state in zip(digits(6), ("received", "approved", "refused") * 2, strict=True):
        with database.writing() as session:
            row = session.get(Correction, add_correction(settings, database, image, digit))
            row.state, row.reason = state, "Not a digit." if state == "refused" else None
    yield [run.id for run in runs], version, unread, reading
    with database.writing() as session:
        for table in (RunCorrection, Checkpoint, Run, Correction, Import):
            session.execute(delete(table))


def test_administrators_pages_are_accessible(signed_in, server, busy):
    signed_in.expected_complaint = "Failed to load resource"
    (finished, failed, running), version, unread, reading = busy
    check(
        signed_in,
        server,
        [
            # First, while nobody takes over what stands still.
            ("corrections, importing", "/admin/corrections", showing(".import progress")),
            ("gallery of a version that reads it", f"/gallery?version={reading}", showing("#computing progress")),
            ("overview", "/admin", stay),
            ("trainings", "/admin/runs", stay),
            ("training running", f"/admin/runs/{running}", stay),
            ("training running, to cancel", "", confirming),
            ("training finished", f"/admin/runs/{finished}", stay),
            ("training failed", f"/admin/runs/{failed}", stay),
            ("versions", "/admin/versions", stay),
            ("version in service", "/admin/versions/1", stay),
            ("version with evidence", f"/admin/versions/{version}", stay),
            ("promotion refused", "", refused("#promote")),
            ("gallery of a version that could not read it", f"/gallery?version={unread}", stay),
            ("audit", "/admin/promotions", stay),
            ("corrections approved", "/admin/corrections?state=approved", stay),
            ("corrections refused", "/admin/corrections?state=refused", stay),
            ("import refused", "", refused("#exchange form")),
            ("receipt refused", "/admin/corrections", refused("#asked-for form")),
            ("correction to remove", "/admin/corrections", asking),
            ("version to remove", f"/admin/versions/{unread}/removal", stay),
            ("version to keep", "/admin/versions/1/removal", stay),
            ("training to remove", f"/admin/runs/{failed}/removal", stay),
            ("removals", "/admin/removals", stay),
        ],
    )
    signed_in.get("about:blank")  # before the pictures that it may still ask for are gone


def test_refused_training_is_accessible(signed_in, server):
    signed_in.expected_complaint = "Failed to load resource"
    check(signed_in, server, [("training refused", "/admin/runs", refused("#start-run", epochs=-1))])
