"""What is said of codes and numbers, and that everything else is said as it stands."""

import pytest

from model.evaluation.comparison import Criterion
from tests.support.administrator import BROWSER, SCRIPT
from tests.support.versions import add_version, turned
from webapp.presentation.wording import about, comparison, quoted, worded
from webapp.services import services
from webapp.storage.schema import Promotion, Run, coded

SHARES = {"from": 0.9912, "to": 0.9592}
KILLED = {"code": "killed", "signal": 9}
TESTED = {"gained": 3, "lost": 20}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"code": "unusable", "detail": "it is cut short"}, "cannot be used: it is cut short"),
        ({"code": "recall", "digit": 9, **SHARES}, "reads 9s 3.2 points worse"),
        ({"code": "recall", "digit": 9, "from": 0.95, "to": 0.9912}, "reads 9s 4.1 points better"),
        ({"code": "recall", "digit": 9, "from": 0.99, "to": 0.9904}, "reads 9s as well"),
        ({"code": "recall", "digit": 9, "from": None, "to": 0.5}, "reads 9s in 50.00 % of cases"),
        ({"code": "strength", "change": None, **SHARES}, "reads changed digits 3.2 points worse"),
        ({"code": "strength", "change": "line width", **SHARES}, "reads digits changed in line width 3.2 points worse"),
        (
            {"code": "validation", **SHARES, **TESTED, "p": 0.2444},
            "reads 95.92 % of the validation digits against 99.12 %, 3 gained and 20 lost (p = 0.24)",
        ),
        (
            {"code": "validation", "from": 0.99, "to": 0.3, "least": 0.95},
            "reads 30.00 % of the validation digits, and 95 % is the least",
        ),
        (
            {"code": "drawings", "count": 52, **SHARES, **TESTED, "p": 0.00024},
            "reads 95.92 % of the 52 drawings held out against 99.12 %, 3 gained and 20 lost (p = 0.0002)",
        ),
        (
            {"code": "drawings", "count": 52, **SHARES, **TESTED, "p": 0.00001},
            "reads 95.92 % of the 52 drawings held out against 99.12 %, 3 gained and 20 lost (p below 0.0001)",
        ),
        ({"code": "calibration", **SHARES}, "states confidences that are 95.92 % off against 99.12 %"),
        ({"code": "refused_others", "from": None, "to": 0.5}, "refuses 50.00 % of what is no digit"),
        ({"code": "multiplications", "from": 100, "to": 123}, "takes 1.23 times as many multiplications for a digit"),
        ({"code": "passed", "from": None, "to": 0.997}, "99.70 % of validation digits"),
        (
            {"code": "passed", "from": 0.99, "to": 0.997, "of": "drawings", "gained": 4, "lost": 1},
            "99.70 % of validation digits against 99.00 %; 4 drawings gained, 1 lost",
        ),
        ({"code": "waits", "reasons": [{"code": "usable"}] * 2, "more": 0}, "waits: can be used; can be used"),
        ({"code": "waits", "reasons": [{"code": "usable"}], "more": 7}, "waits: can be used; and 7 more"),
        ({"code": "rolled_back", "from": 3}, "rolled back from v3"),
        (
            {"code": "lost", "times": 3, "last": KILLED},
            "Its training process was lost 3 times; the last time it was killed by signal 9.",
        ),
        (
            {"code": "process_killed", "process": 2, "of": 4, "signal": 9},
            "process 2 of 4 was killed by signal 9",
        ),
        ({"code": "diverged", "epoch": 3}, "the loss stopped being a number in epoch 3"),
        ({"code": "crashed", "last": {"code": "exited", "status": 1}}, "The computation failed: it ended with code 1."),
        (
            {"code": "interrupted", "times": 3, "last": {"code": "silent"}, "added": 1234},
            "The import was interrupted 3 times; the last time it stopped answering. "
            "1,234 new digits had come in by then.",
        ),
    ],
    ids=lambda found: found.get("code") if isinstance(found, dict) else "",
)
def test_code_with_its_numbers_is_a_sentence(found, said):
    assert worded(found) == said == worded(coded(**found))


@pytest.mark.parametrize(
    "text",
    [
        *("", "waits: reads 9s 3.2 points worse", "7", "null", '"first"', "[]", "{", "{}", '{"code": "unknown"}'),
        *('{"code": ["first"]}', '{"code": "recall"}', '{"code": "recall", "digit": 9, "from": 1, "to": "2"}'),
        '{"code": "lost", "times": 3, "last": {"code": "lost"}}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_code_unknown_stays_as_it_is(text):
    assert worded(text) == text == quoted(text)


def test_wording_of_nothing_is_nothing():
    assert worded(None) is None


@pytest.mark.parametrize(
    ("margin", "asked"),
    [
        ({}, "they load and give probabilities"),
        ({"fall": 0.01}, "at most 1 point less"),
        ({"level": 0.1, "fall": 0.05}, "no worse by McNemar's exact test (p at least 0.1), and at most 5 points less"),
        ({"level": 0.05, "least": 0.95}, "no worse by McNemar's exact test (p at least 0.05), and at least 95 %"),
        ({"rise": 0.01, "most": 0.05}, "at most 1 point more, and at most 5 %"),
        ({"times": 1.2}, "at most 20 % more"),
    ],
)
def test_margin_says_each_of_its_limits(margin, asked):
    reason = {"code": "strength", "change": "blur", **SHARES}
    found = vars(Criterion("strength-blur", "strength", "share", 0.9, 0.9, margin, True, reason))
    (criterion,) = comparison({"summary": {"code": "passed", **SHARES}, "criteria": [found]})["criteria"]
    assert (criterion["title"], criterion["margin"]) == ("Changed in blur", asked)


def test_comparison_of_an_earlier_release_is_shown_as_stored():
    old = {
        "name": "time", "group": "time", "title": "Time for one digit, one thread", "unit": "ms", "champion": 0.226,
        "challenger": 0.231, "margin": "at most 20 % longer", "passed": True, "reason": "takes 1.02 times as long",
    }  # fmt: skip
    evidence = {"passed": True, "summary": "99.70 % of validation digits", "criteria": [old], "digits": None}
    assert comparison(evidence) == evidence


def test_reason_that_reads_as_a_code_is_shown_as_typed(app, client, admin):
    reason = coded("rolled_back", **{"from": 3})
    number = add_version(services(app).database, turned(1))
    client.post(f"/admin/versions/{number}/promote", json={"reason": reason}, headers=SCRIPT)
    found = client.get("/admin/promotions", headers=SCRIPT).get_json()["promotions"]
    assert found[0]["why"] == reason and found[1]["why"] == "it comes with this release"
    assert "rolled back from" not in admin.get("/admin", headers=BROWSER).text


def test_run_that_failed_is_worded_on_its_page_and_for_scripts(app, client, admin):
    stored = {
        coded("database", detail="a <b>full</b> disk"): "the database did not take it (a <b>full</b> disk)",
        "It <failed> before.": "It <failed> before.",
    }
    for error, said in stored.items():
        run = Run(state="failed", preset="basic", epochs=1, seed=0, requested_by="a test", error=error)
        with services(app).database.writing() as session:
            session.add(run)
        assert client.get(f"/admin/runs/{run.id}", headers=SCRIPT).get_json()["error"] == said
        escaped = said.replace("<", "&lt;").replace(">", "&gt;")
        assert f"{escaped} Nothing was changed" in admin.get(f"/admin/runs/{run.id}", headers=BROWSER).text
        assert escaped in admin.get("/admin/runs", headers=BROWSER).text


def test_promotions_are_stored_as_codes(app):
    with services(app).database.reading() as session:
        assert session.get(Promotion, 1).why == coded("shipped")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "seconds"), (19, "seconds"), (20, "under a minute"), (60, "about a minute"), (370, "about 6 minutes"),
        (45 * 60, "about an hour"), (4210, "about an hour"), (8000, "about 2 hours"),
    ],
)  # fmt: skip
def test_time_of_a_training_is_said_about(seconds, words):
    """As in tests/js/estimate.test.js: the page says what the server does."""
    assert about(seconds) == words
