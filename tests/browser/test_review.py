"""The review of corrections by keyboard, mouse and finger, as an administrator does it."""

import io
import json
import urllib.request
import zipfile
from types import SimpleNamespace

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element
from selenium.webdriver.support.ui import WebDriverWait
from sqlalchemy import delete, select

from model.task import NO_DIGIT
from tests.support.corrections import add_correction, digits
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.storage.schema import Correction

WAIT_SECONDS = 40  # CI is slow
COUNT = 12

# All that a test looks at, of one moment.
SNAPSHOT = """
const cards = [...document.querySelectorAll('#queue > .card')];
const current = document.querySelector('#queue > .is-current');
const count = (state) => Number(document.querySelector(`#tab-${state} .count`).textContent);
return {
  ids: cards.map((card) => Number(card.dataset.id)),
  chosen: cards.filter((card) => card.querySelector('.card-pick').checked).map((card) => Number(card.dataset.id)),
  current: current && Number(current.dataset.id),
  focused: document.activeElement === current,
  told: document.querySelector('#told').textContent,
  counts: [count('received'), count('approved'), count('refused')],
  refusing: document.querySelector('#refusing')?.open ?? false,
  empty: !document.querySelector('#nothing').hidden,
};
"""

# The words that reach out of their card or their button.
SPILT = """
const parts = [...document.querySelectorAll('.card, .card dd, .card-meant, .bar .button')];
return parts.filter((part) => part.scrollWidth > part.clientWidth + 1).map((part) => part.outerHTML);
"""
BEYOND = """
const beyond = (part) => part.getBoundingClientRect().right > arguments[0] + 0.5;
return [...document.querySelectorAll('main *')].filter(beyond).map((part) => part.outerHTML);
"""


def look(driver):
    return SimpleNamespace(**driver.execute_script(SNAPSHOT))


def wait_for(driver, condition):
    """Waits until a snapshot fulfils the condition, and returns it."""
    seen = {}

    def holds(driver):
        seen["last"] = look(driver)
        return condition(seen["last"])

    try:
        WebDriverWait(driver, WAIT_SECONDS, 0.05).until(holds)
    except Exception as error:
        raise AssertionError(f"the page stayed at {seen.get('last')}") from error
    return seen["last"]


def press(driver, *keys):
    """Keys as they reach whatever has the focus."""
    ActionChains(driver).send_keys(*keys).perform()


def decide_elsewhere(server, **wish):
    """A decision of somebody else, behind the page's back."""
    request = urllib.request.Request(
        f"{server.url}/admin/corrections/decide",
        json.dumps(wish).encode(),
        {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


def close_reasons_by_escape(admin, numbers):
    """The focus goes back to what opened them."""
    first, third = numbers[0], numbers[2]
    card, button = f"#c{first}", f"#c{third} [name=refuse]"
    for opener, by in ((card, lambda: press(admin, "r")), (button, None), ("#refusing summary", None)):
        (by or admin.find_element(By.CSS_SELECTOR, opener).click)()
        wait_for(admin, lambda page: page.refusing)
        press(admin, Keys.ESCAPE)
        wait_for(admin, lambda page: not page.refusing)
        focused = admin.execute_script("return document.activeElement.matches(arguments[0])", opener)
        assert focused, opener
    admin.find_element(By.CSS_SELECTOR, button).click()
    admin.find_element(By.ID, "reason").send_keys(Keys.ENTER)
    assert admin.find_element(By.ID, "reason-error").is_displayed()
    admin.switch_to.active_element.send_keys("a", Keys.ESCAPE)
    assert admin.execute_script("return document.activeElement.matches(arguments[0])", button)


@pytest.fixture
def installed(server):
    """The running installation's database, and corrections in it: digits 7, 2, 1, ... of falling suspicion."""
    settings = Settings.read({"DATA_DIR": str(server.data_dir)})
    database = Database(settings.database_url)
    with database.writing() as session:
        session.execute(delete(Correction))  # what other tests have sent to the same server
    numbers = [add_correction(settings, database, image, digit) for image, digit in digits(COUNT)]
    with database.writing() as session:
        for place, number in enumerate(numbers):
            session.get(Correction, number).suspicion = 1 - place / COUNT
    yield SimpleNamespace(database=database, numbers=numbers, settings=settings)
    with database.writing() as session:
        session.execute(delete(Correction))
    database.close()


@pytest.fixture
def stored(installed):
    def stored(*places):
        """State, label and reason of the corrections at these places of the queue."""
        with installed.database.reading() as session:
            rows = {row.id: row for row in session.scalars(select(Correction))}
        found = [rows[installed.numbers[place]] for place in places]
        return [(row.state, row.label, row.reason) for row in found]

    return stored


@pytest.fixture
def admin(signed_in, server, installed):
    """A signed-in browser on the queue, whose first card is at hand."""
    signed_in.get(f"{server.url}/admin/corrections")
    wait_for(signed_in, lambda page: page.ids == installed.numbers and page.focused)
    yield signed_in
    signed_in.get("about:blank")  # before the pictures that it may still ask for are gone


def test_review_by_keyboard_approves_refuses_and_relabels(admin, installed, stored):
    numbers = installed.numbers
    close_reasons_by_escape(admin, numbers)
    press(admin, "k", "k")
    assert look(admin).current == numbers[0]
    press(admin, "a")
    wait_for(admin, lambda page: page.ids == numbers[1:] and page.current == numbers[1] and page.focused)
    press(admin, "9")
    wait_for(admin, lambda page: page.current == numbers[2])
    press(admin, "n")
    wait_for(admin, lambda page: page.current == numbers[3])
    press(admin, "r")
    wait_for(admin, lambda page: page.refusing)
    press(admin, "3")
    page = wait_for(admin, lambda page: page.counts == [COUNT - 4, 3, 1] and page.told.startswith("Refused"))
    assert page.ids == numbers[4:] and page.current == numbers[4] and page.focused and not page.refusing
    approved, relabelled, none, refused = stored(0, 1, 2, 3)
    assert approved == ("approved", 7, None) and relabelled == ("approved", 9, None)
    assert none == ("approved", NO_DIGIT, None)
    assert refused[:2] == ("refused", 0) and refused[2] == "It does not look like a digit."


@pytest.mark.stress
def test_review_reason_and_decision_can_be_changed(admin, installed, stored):
    press(admin, "r")
    wait_for(admin, lambda page: page.refusing)
    field = admin.find_element(By.ID, "reason")
    field.send_keys("A house, and a nice one: 1 a n", Keys.ENTER)  # no letter or figure of it is a key
    wait_for(admin, lambda page: page.counts == [COUNT - 1, 0, 1])
    assert stored(0) == [("refused", 7, "A house, and a nice one: 1 a n")]
    assert stored(1)[0][0] == "received"


@pytest.mark.stress
def test_review_keys_move_the_selection(admin, installed):
    numbers = installed.numbers
    for keys, place in ((("j",), 1), ((Keys.ARROW_RIGHT,), 2), (("k",), 1), ((Keys.ARROW_LEFT,), 0), (("k",), 0)):
        press(admin, *keys)
        wait_for(admin, lambda page, place=place: page.current == numbers[place] and page.focused)
    columns = admin.execute_script(
        "const tops = [...document.querySelectorAll('.card')].map((card) => card.offsetTop);"
        "return tops.filter((top) => top === tops[0]).length"
    )
    assert columns > 1
    press(admin, "j", Keys.ARROW_DOWN)
    wait_for(admin, lambda page: page.current == numbers[columns + 1] and page.focused)
    press(admin, Keys.ARROW_UP)
    wait_for(admin, lambda page: page.current == numbers[1])


def test_review_of_many_is_undone(admin, installed, stored):
    numbers = installed.numbers
    press(admin, " ", "j", "j", " ")
    wait_for(admin, lambda page: page.chosen == [numbers[0], numbers[2]])
    press(admin, "a")
    wait_for(admin, lambda page: page.counts == [COUNT - 2, 2, 0] and page.told == "Approved: 2 corrections.")
    ActionChains(admin).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    wait_for(admin, lambda page: page.chosen == numbers[3:6])
    press(admin, "4")
    wait_for(admin, lambda page: page.counts == [COUNT - 5, 5, 0] and page.told.startswith("Approved as 4"))
    assert [state for state, _, _ in stored(*range(6))] == ["approved", "received", *["approved"] * 4]
    press(admin, "u")
    page = wait_for(admin, lambda page: page.counts == [COUNT - 2, 2, 0] and page.current == numbers[3])
    assert page.ids == [numbers[1], *numbers[3:]] and page.focused and page.told.startswith("Taken back: 3")
    press(admin, "u")
    wait_for(admin, lambda page: page.ids == numbers and page.current == numbers[0])
    assert {state for state, _, _ in stored(*range(COUNT))} == {"received"}
    assert [label for _, label, _ in stored(3, 4, 5)] == [digit for _, digit in digits(6)[3:]]
    press(admin, "u")
    admin.expected_complaint = "409"
    wait_for(admin, lambda page: page.told == "There is no decision to take back.")


def test_review_of_all_takes_what_has_been_judged(admin, installed, stored):
    """Those not judged yet are left, by "All" and in a range; each may be approved on its own."""
    numbers = installed.numbers
    with installed.database.writing() as session:
        for number in numbers[2:4]:
            session.get(Correction, number).suspicion = None
    admin.refresh()
    queue = [*numbers[:2], *numbers[4:], *numbers[2:4]]
    wait_for(admin, lambda page: page.ids == queue and page.focused)

    def said():
        return admin.find_element(By.ID, "chosen").text

    admin.find_element(By.ID, "all").click()
    wait_for(admin, lambda page: page.chosen == queue[:-2])
    assert said() == f"{COUNT - 2} chosen; 2 not judged yet are left"
    admin.find_element(By.ID, "all").click()
    wait_for(admin, lambda page: page.chosen == [])
    admin.find_element(By.CSS_SELECTOR, f"#c{queue[-3]} .card-look").click()
    last = admin.find_element(By.CSS_SELECTOR, f"#c{queue[-1]} .card-look")
    ActionChains(admin).key_down(Keys.SHIFT).click(last).key_up(Keys.SHIFT).perform()
    wait_for(admin, lambda page: page.chosen == [queue[-3]])
    assert said() == "1 chosen; 2 not judged yet are left"
    press(admin, "a")
    wait_for(admin, lambda page: page.counts == [COUNT - 1, 1, 0])
    admin.find_element(By.CSS_SELECTOR, f"#c{queue[-1]} [name=approve]").click()
    wait_for(admin, lambda page: page.counts == [COUNT - 2, 2, 0])
    assert [state for state, _, _ in stored(2, 3)] == ["received", "approved"]


@pytest.mark.stress
def test_review_of_all_empties_the_queue(admin, installed, stored):
    press(admin, "s")
    wait_for(admin, lambda page: page.chosen == installed.numbers)
    press(admin, "s")
    wait_for(admin, lambda page: page.chosen == [])
    press(admin, "s", "r")
    wait_for(admin, lambda page: page.refusing)
    press(admin, "1")
    wait_for(admin, lambda page: page.empty and page.counts == [0, 0, COUNT])
    press(admin, "u")
    wait_for(admin, lambda page: page.ids == installed.numbers and not page.empty)


def test_review_quick_keys_lose_nothing(admin, installed, stored):
    """Decisions faster than the server answers: each is about the card that was at hand."""
    press(admin, *"a1a2a3")
    wait_for(admin, lambda page: page.counts == [COUNT - 6, 6, 0] and page.ids == installed.numbers[6:])
    assert [label for _, label, _ in stored(*range(6))] == [7, 1, 1, 2, 4, 3]


@pytest.mark.stress
def test_review_keys_with_modifiers_are_the_browsers(admin, installed, stored):
    ActionChains(admin).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).perform()
    press(admin, "j")
    wait_for(admin, lambda page: page.current == installed.numbers[1])
    assert look(admin).ids == installed.numbers and stored(0)[0][0] == "received"


def test_review_by_mouse_decides(admin, installed, stored):
    numbers = installed.numbers

    def click(selector):
        admin.find_element(By.CSS_SELECTOR, selector).click()

    click(f"#c{numbers[1]} [name=approve]")
    wait_for(admin, lambda page: page.counts == [COUNT - 1, 1, 0])
    click(f"#c{numbers[2]} [name=refuse]")
    wait_for(admin, lambda page: page.refusing and page.current == numbers[2])
    click("#refusing [name=because]:nth-of-type(2)")
    wait_for(admin, lambda page: page.counts == [COUNT - 2, 1, 1])
    click(f"#c{numbers[3]} .card-look")
    shifted = admin.find_element(By.CSS_SELECTOR, f"#c{numbers[5]} .card-look")
    ActionChains(admin).key_down(Keys.SHIFT).click(shifted).key_up(Keys.SHIFT).perform()
    wait_for(admin, lambda page: page.chosen == numbers[3:6])
    click("#bar [name=relabel][value='8']")
    wait_for(admin, lambda page: page.counts == [COUNT - 5, 4, 1])
    assert stored(1) == [("approved", 2, None)] and stored(2)[0][0] == "refused"
    assert stored(3, 4, 5) == [("approved", 8, None)] * 3
    click("#undo button")
    wait_for(admin, lambda page: page.counts == [COUNT - 2, 1, 1])
    click("#tab-refused")
    wait_for(admin, lambda page: page.ids == [numbers[2]])
    press(admin, "a")
    wait_for(admin, lambda page: page.empty and page.counts == [COUNT - 2, 2, 0])


def test_chosen_ones_are_removed_after_a_question(admin, installed):
    numbers = installed.numbers
    for number in numbers[1:3]:
        admin.find_element(By.CSS_SELECTOR, f"#c{number} .card-pick").click()
    admin.find_element(By.ID, "remove").click()
    wait = WebDriverWait(admin, WAIT_SECONDS, 0.05)
    asked = wait.until(lambda driver: driver.find_elements(By.CSS_SELECTOR, ".to-remove li"))
    assert len(asked) == 2 and admin.find_element(By.TAG_NAME, "h1").text == "Remove these 2 drawings?"
    admin.find_element(By.CSS_SELECTOR, "button#remove").click()
    left = [numbers[0], *numbers[3:]]
    wait_for(admin, lambda page: page.ids == left and page.told.strip() == "Removed: 2 corrections.")


def test_review_on_a_phone_fits(admin, installed, stored):
    with installed.database.writing() as session:
        row = session.get(Correction, installed.numbers[2])
        row.label, row.reason = NO_DIGIT, "Donaudampfschifffahrtsgesellschaftskapit\u00e4n" * 6
    for width in (320, 360, 375):
        screen = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        admin.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        admin.refresh()
        wait_for(admin, lambda page: page.ids == installed.numbers)
        admin.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
        assert admin.execute_script(SPILT) == [] and admin.execute_script(BEYOND, width) == []
        admin.execute_script("for (const part of document.querySelectorAll('details')) part.open = false")
    admin.find_element(By.CSS_SELECTOR, f"#c{installed.numbers[0]} .card-look").click()
    wait_for(admin, lambda page: page.chosen == [installed.numbers[0]])
    admin.find_element(By.CSS_SELECTOR, "#bar [name=relabel][value='10']").click()
    wait_for(admin, lambda page: page.counts == [COUNT - 1, 1, 0])
    admin.find_element(By.CSS_SELECTOR, "#refusing summary").click()
    wait_for(admin, lambda page: page.refusing)
    assert admin.execute_script("return document.documentElement.scrollWidth") == 375
    admin.find_element(By.CSS_SELECTOR, "#refusing [name=because]").click()
    wait_for(admin, lambda page: page.counts == [COUNT - 2, 1, 1])
    assert stored(0) == [("approved", NO_DIGIT, None)] and stored(1)[0][0] == "refused"


@pytest.mark.stress
def test_review_decided_elsewhere_is_said(admin, server, installed, stored):
    first = installed.numbers[0]
    decide_elsewhere(server, ids=[first], action="refuse", reason="Mine.")
    press(admin, "a")
    wait_for(admin, lambda page: "by somebody else" in page.told and page.counts == [COUNT - 1, 0, 1])
    assert stored(0) == [("refused", 7, "Mine.")] and look(admin).ids == installed.numbers[1:]


def test_review_shows_suspicion_as_it_is_judged(admin, installed):
    """The card says so without a reload, and stays in its place."""
    with installed.database.writing() as session:
        row = session.get(Correction, installed.numbers[0])
        row.suspicion = row.doubt = None
    admin.refresh()
    wait_for(admin, lambda page: page.ids == [*installed.numbers[1:], installed.numbers[0]])
    with installed.database.writing() as session:  # as if a worker had judged it
        row = session.get(Correction, installed.numbers[0])
        row.suspicion, row.doubt = 0.01, {"version": "v1", "read": 7, "probability": 0.99, "neighbours": {"7": 10}}
    judged = f"#c{installed.numbers[0]} .badge--good"
    WebDriverWait(admin, WAIT_SECONDS, 0.05).until(lambda d: d.find_elements(By.CSS_SELECTOR, judged))
    assert look(admin).ids == [*installed.numbers[1:], installed.numbers[0]]


@pytest.mark.stress
def test_review_follows_a_long_import_to_its_end(admin, installed, tmp_path):
    """It goes on at the worker, the page says how far it is, and shows what came in without a reload."""
    path = tmp_path / "more digits.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, (image, digit) in enumerate(digits(30, start=COUNT)):
            out = io.BytesIO()
            Image.fromarray(255 - image).resize((400, 400), Image.Resampling.BICUBIC).save(out, "PNG")
            archive.writestr(f"{digit}/{number}.png", out.getvalue())
    admin.find_element(By.CSS_SELECTOR, "#exchange summary").click()
    admin.find_element(By.ID, "file").send_keys(str(path))
    admin.find_element(By.CSS_SELECTOR, "#exchange form .button").click()
    for words in ("more digits.zip", "more digits.zip: Imported: 30 corrections, to be reviewed."):
        said = text_to_be_present_in_element((By.CLASS_NAME, "import"), words)
        WebDriverWait(admin, WAIT_SECONDS, 0.05).until(said)
    page = wait_for(admin, lambda page: page.counts == [COUNT + 30, 0, 0])
    assert len(page.ids) == COUNT + 30 and page.focused
    admin.get("about:blank")  # before the drawings that it still loads are deleted
