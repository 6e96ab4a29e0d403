"""What a version's page, the list of versions and the overview show of a comparison."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from model.evaluation.comparison import Criterion
from model.task import NO_DIGIT
from tests.support.administrator import BROWSER, SCRIPT
from tests.support.versions import add_version, compared, evidence, measured, promote, turned
from webapp.presentation.comparison import sentence
from webapp.services import services
from webapp.storage.schema import Comparison, Correction, Run, RunCorrection, Version


@pytest.fixture
def database(app):
    return services(app).database


@pytest.fixture
def challenger(database):
    """A version that waits, v2."""
    return add_version(database, turned(1))


def page_of(admin, number):
    return re.sub(r"\s+", " ", admin.get(f"/admin/versions/{number}", headers=BROWSER).text.replace("\xa0", " "))


def correct(database, **values) -> int:
    """Stores an approved correction, held out, and returns its number."""
    digit_image = np.full((28, 28), 9, np.uint8).tobytes()
    given = {
        "submitter": "s", "receipt_sha256": "r", "meant": 1, "label": 1, "digit_image": digit_image, "picture": b"",
        "answered": {}, "held_out": True, "state": "approved",
    }  # fmt: skip
    correction = Correction(**given | values)
    with database.writing() as session:
        session.add(correction)
    return correction.id


def compared_by(database, version_id, numbers) -> None:
    """Stores a comparison of a run's version by these corrections."""
    run = Run(state="finished", preset="basic", epochs=1, seed=0, requested_by="a test", version_id=version_id)
    with database.writing() as session:
        session.add(run)
        session.flush()
        session.add_all(RunCorrection(run_id=run.id, correction_id=number) for number in numbers)
    compared(database, version_id, evidence(corrections=numbers))


def test_evidence_of_a_waiting_version_is_a_table_under_one_sentence(admin, database, challenger):
    compared(database, challenger, evidence(passed=False))
    page = page_of(admin, challenger)
    said = "<strong>Waits.</strong> Worse in 1 of 4 checks; worst: 9s, −3.2 points.</p>"
    order = ['id="verdict" data-passed="false"', said, 'id="criteria"', 'id="promote"', 'id="digits-lost"']
    assert [page.index(part) for part in order] == sorted(page.index(part) for part in order)
    assert f'action="/admin/versions/{challenger}/promote"' in page and "<textarea" in page
    row = page[page.index('data-criterion="recall-9"') :]
    row = row[: row.index("</tr>")]
    for part in (
        'data-passed="false"',
        "9s read right",
        "95.92 %",
        "99.12 %",
        "−3.2 points",
        "no loss that a test shows",
        "not passed",
    ):
        assert part in row
    assert 'data-criterion="recall-8" data-passed="true"' in page
    assert "42,000" in page


def test_evidence_of_a_passed_version_names_the_champion(admin, database, challenger):
    compared(database, challenger, evidence())
    page = page_of(admin, challenger)
    assert 'data-passed="true"' in page and "</strong> 4 checks." in page
    assert 'Against <a href="/admin/versions/1">v1</a>' in page
    promote(database, challenger)
    page = page_of(admin, challenger)
    assert "<textarea" not in page and ">in service</span>" in page
    assert "<textarea" not in page_of(admin, 1) and 'formaction="/admin/versions/1/roll-back"' in page_of(admin, 1)


def test_pages_of_versions_have_no_empty_table_headers(app, admin, database, challenger):
    compared(database, challenger, evidence(passed=False))
    for number in (1, challenger):
        measured(database, number)
    for path in (f"/admin/versions/{challenger}", "/admin/versions", "/admin/promotions"):
        heads = re.findall("<thead>.*?</thead>", admin.get(path, headers=BROWSER).text, re.DOTALL)
        assert heads and not [head for head in heads if re.search(r"<(t[hd])[^>]*>\s*</\1>|<td", head)]


def test_evidence_shows_pictures_gained_and_lost(admin, database, challenger):
    compared(database, challenger, evidence(passed=False))
    page = page_of(admin, challenger)
    lost = page[page.index('id="digits-lost"') :]
    assert 'src="data:image/png;base64,' in lost and 'id="digits-gained"' not in page
    assert 'alt="Meant as 9: v1 read 9 with 88 %, v2 read 4 with 62 %"' in lost
    assert re.search(r'was</span> 9, <span class="quiet">now</span> 4', lost)


def test_evidence_of_many_pictures_says_how_many(admin, database, challenger):
    compared(database, challenger, evidence())
    assert re.search(
        r"Gained: validation digits <span[^>]*>61, the clearest 1 of them here", page_of(admin, challenger)
    )


@pytest.mark.both_databases
def test_evidence_omits_a_deleted_drawing(admin, database, challenger):
    kept, gone = correct(database), correct(database, receipt_sha256="other")
    compared_by(database, challenger, [kept, gone])
    section = page_of(admin, challenger).split('id="drawings-gained"')[1].split("</section>")[0]
    assert section.count("<img") == 2 and "deleted meanwhile" not in section
    with database.writing() as session:
        session.delete(session.get(Correction, gone))
    section = page_of(admin, challenger).split('id="drawings-gained"')[1].split("</section>")[0]
    assert section.count("<img") == 1 and section.count("deleted meanwhile") == 1
    assert "was</span> 7" in section


def test_evidence_calls_a_drawing_no_digit(admin, database, challenger):
    number = correct(database, meant=NO_DIGIT, label=NO_DIGIT)
    found = evidence(corrections=[number]).as_dict()
    found["drawings"]["gained_pictures"][0] |= {"truth": NO_DIGIT, "challenger": {"read": NO_DIGIT, "probability": 0.5}}
    with database.writing() as session:
        session.add(Comparison(version_id=challenger, champion_id=1, passed=True, evidence=found))
    page = page_of(admin, challenger)
    assert "Meant as no digit: v1 read 7 with 75 %, v2 read no digit with 50 %" in page


def test_evidence_of_an_equal_says_no_worse_and_no_better(admin, database, challenger):
    compared(database, challenger, evidence(gained=False))
    page = page_of(admin, challenger)
    assert "<strong>No worse, and no better.</strong> 4 checks: it has gained nothing that a test shows." in page
    assert f">Put v{challenger} in service</button>" in page and "although" not in page
    row = admin.get("/admin/versions", headers=BROWSER).text.split(f'id="version-{challenger}"')[1].split("</tr>")[0]
    assert ">no worse</span>" in row


def test_evidence_tells_what_may_be_lost_and_why_nothing_was_measured(admin, database, challenger):
    found = evidence(passed=False)
    shares = {"from": 0.995, "to": 0.994, "count": 5000, "gained": 3, "lost": 8, "limit": 0.00234}
    digits = Criterion(
        "digits", "digits", "share", 0.995, 0.994, {"loss": 0.004}, True,
        {"code": "digits", "old_learnt_them": True, **shares},
    )  # fmt: skip
    few = {"code": "few_drawings", "count": 3, "least": 25}
    few = Criterion("drawings", "drawings", "none", None, None, {}, False, few)
    compared(database, challenger, replace(found, criteria=[*found.criteria, digits, few]))
    page = page_of(admin, challenger)
    assert '−0.1 points <span class="interval">at worst −0.23</span>' in page
    assert "It has learnt corrections, and 3 are held out to judge it by, where it takes 25." in page
    assert "v1, of an earlier release, has learnt from some of them, which favours it." in page


def test_evidence_against_an_anchor_has_a_part_of_its_own(admin, database, challenger):
    third = add_version(database, turned(3))
    found = evidence(passed=False)
    worse = replace(found.criteria[2], versus="anchor", champion=0.999)
    found = replace(found, criteria=[*found.criteria[:-1], worse, found.criteria[-1]]).as_dict() | {"anchor_id": 1}
    with database.writing() as session:
        session.add(Comparison(version_id=third, champion_id=challenger, passed=False, evidence=found))
    page = page_of(admin, third)
    assert "Each digit, against v1</th>" in page and "the last that a person or a release put in service" in page
    row = page.split('data-criterion="recall-9" data-passed="false" data-versus="anchor"')[1].split("</tr>")[0]
    assert "99.90 %" in row and "not passed" in row
    assert "Worse in 2 of 5 checks" in page


def test_evidence_without_a_comparison_says_so(admin, database, challenger):
    assert "v1 was never compared with another version: it came with Inkling" in page_of(admin, 1)
    with database.writing() as session:
        session.get(Version, challenger).run_id = 1
    assert "v2 was never compared with another version" in page_of(admin, challenger)


def test_evidence_for_a_script_has_the_comparison(client, database, challenger):
    compared(database, challenger, evidence(passed=False))
    found = client.get(f"/admin/versions/{challenger}", headers=SCRIPT).get_json()
    assert found["comparison"]["champion"] == "v1" and not found["comparison"]["passed"]
    assert found["comparison"]["summary"] == "waits: reads 9s 3.2 points worse"
    names = [one["name"] for one in found["comparison"]["criteria"]]
    assert names == ["usable", "recall-8", "recall-9", "multiplications", "gain"]
    assert (found["comparison"]["anchor"], found["comparison"]["gained"]) == (None, True)
    assert client.get("/admin/versions/1", headers=SCRIPT).get_json()["comparison"] is None


def test_versions_list_gives_each_verdict(admin, database, challenger):
    other = add_version(database, turned(2))
    compared(database, challenger, evidence(passed=False))
    compared(database, other, evidence())
    page = re.sub(r"\s+", " ", admin.get("/admin/versions", headers=BROWSER).text)
    rows = {number: page.split(f'id="version-{number}"')[1].split("</tr>")[0] for number in (1, challenger, other)}
    assert "not compared" in rows[1] and ">passed<" in rows[other]
    assert ">waits</span> Worse in 1 of 4 checks; worst: 9s, −3.2 points" in rows[challenger]


def test_tabs_count_the_corrections_that_wait(admin, database):
    first = correct(database, state="received")
    correct(database, state="received", receipt_sha256="twin", duplicate_of=first)  # reviewed with the first
    correct(database, receipt_sha256="approved")
    page = re.sub(r"\s+", " ", admin.get("/admin", headers=BROWSER).text)
    assert re.search(r'href="/admin/corrections">Corrections <span class="count">1</span><span[^>]*> waiting<', page)
    assert '<a href="/admin" aria-current="page">Overview</a>' in page and "1 correction</a> to review" in page


def test_training_that_made_the_version_before_offers_the_roll_back(admin, database, challenger):
    """It led to a form that the version's page does not have."""
    compared(database, challenger, evidence())
    with database.writing() as session:
        run = Run(state="finished", preset="basic", epochs=1, seed=0, requested_by="a test", version_id=challenger)
        session.add(run)
    promote(database, challenger)
    promote(database, add_version(database, turned(5)))
    page = admin.get(f"/admin/runs/{run.id}", headers=BROWSER).text
    assert f'formaction="/admin/versions/{challenger}/roll-back"' in page and "#promote" not in page


WORDS_OF_BEFORE = re.compile(r"\b(runs?|champion|answers now|strength)\b", re.IGNORECASE)


def test_administrators_pages_have_one_word_for_each_thing(app, admin, database, challenger):
    compared(database, challenger, evidence(passed=False))
    for number in (1, challenger):
        measured(database, number)
    with database.writing() as session:
        common = {"preset": "basic", "epochs": 1, "seed": 0, "requested_by": "a test"}
        session.add(Run(state="failed", error=json.dumps({"code": "no_parent"}), **common))
        session.add(Run(state="finished", version_id=challenger, **common))
    states = [f"/admin/corrections?state={state}" for state in ("received", "approved", "refused")]
    lists = ["/admin", "/admin/runs", "/admin/versions", "/admin/promotions"]
    for path in [*lists, *states, "/admin/runs/1", "/admin/runs/2", f"/admin/versions/{challenger}"]:
        page = re.sub(r"<(pre|code)\b.*?</\1>", "", admin.get(path, headers=BROWSER).text, flags=re.DOTALL)
        assert not WORDS_OF_BEFORE.findall(re.sub("<[^>]*>", " ", page)), path


def test_evidence_of_one_promoted_all_the_same_waits_no_more(admin, database, challenger):
    compared(database, challenger, evidence(passed=False))
    assert "<strong>Waits.</strong>" in page_of(admin, challenger)
    promote(database, challenger)
    page = page_of(admin, challenger)
    assert "<strong>Did not pass.</strong>" in page and "Waits" not in page
    row = admin.get("/admin/versions", headers=BROWSER).text.split(f'id="version-{challenger}"')[1].split("</tr>")[0]
    assert ">did not pass</span>" in row and "waits" not in row


def criterion(name, champion, challenger, passed=True, unit="share", reason="is bad"):
    return {
        "name": name, "champion": champion, "challenger": challenger, "passed": passed, "unit": unit, "reason": reason,
        "group": "gain" if name == "gain" else "any",
    }  # fmt: skip


USABLE = criterion("usable", None, None, unit="none")
LOSSES = [
    USABLE,
    criterion("validation", 0.99, 0.95, False),
    criterion("recall-3", 0.99, 0.98, False),
    criterion("strength-angle", 0.9, 0.69, False),
    criterion("calibration", 0.01, 0.12, False),
    criterion("multiplications", 100, 500, False, "count"),
]


@pytest.mark.parametrize(
    ("criteria", "said"),
    [
        (LOSSES, "Worse in 5 of 6 checks; worst: turned digits, −21 points"),
        (LOSSES[:3] + LOSSES[4:], "Worse in 4 of 5 checks; worst: calibration error, +11 points"),
        (LOSSES[:3], "Worse in 2 of 3 checks; worst: validation digits, −4.0 points"),
        ([USABLE, LOSSES[-1]], "Failed 1 of 2 checks: it is bad"),
        ([USABLE, criterion("validation", 0.9, 0.94, False)], "Failed 1 of 2 checks: it is bad"),
        (
            [USABLE | {"passed": False, "reason": "cannot be used: it is cut short"}],
            "It cannot be used: it is cut short",
        ),
        ([USABLE, criterion("recall-3", 0.98, 0.98)], "2 checks"),
        (
            [USABLE, criterion("recall-3", 0.9, 0.91), criterion("calibration", 0.02, 0.01)],
            "3 checks, better in 2",
        ),
        (
            [USABLE, criterion("recall-3", 0.98, 0.98), criterion("gain", None, None, False, "none", "gained nothing")],
            "2 checks: it gained nothing",
        ),
        (
            [*LOSSES[:3], criterion("gain", None, None, False)],
            "Worse in 2 of 3 checks; worst: validation digits, −4.0 points",
        ),
    ],
)
def test_sentence_sums_up_the_checks(criteria, said):
    assert sentence(criteria) == said


def test_evidence_of_an_earlier_release_has_its_sentence(admin, database, challenger):
    old = criterion("time", 0.2, 0.4, False, "ms", "takes twice as long") | {
        "group": "time", "title": "Time for one digit", "margin": "at most 20 % longer"
    }  # fmt: skip
    found = {"passed": False, "summary": "waits: takes twice as long", "criteria": [old], "digits": None}
    with database.writing() as session:
        session.add(Comparison(version_id=challenger, champion_id=1, passed=False, evidence=found | {"drawings": None}))
    page = page_of(admin, challenger)
    assert "It takes twice as long." in page and "+100 %" in page
