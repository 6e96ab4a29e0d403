"""The version that bounds what challengers may lose in a row."""

import pytest

from tests.support.versions import add_version, turned
from webapp.storage.schema import Promotion, Version, coded
from webapp.versions.promotions import anchor_of

HAND, RUN, SET_UP = "administrator", "run 1", "set-up"


@pytest.mark.parametrize(
    ("changes", "anchor"),
    [
        ([], 1),  # v1 came with the release
        ([(2, RUN)], 1),
        ([(2, RUN), (3, RUN)], 1),
        ([(2, HAND)], 2),
        ([(2, HAND), (3, RUN)], 2),
        ([(2, RUN), (3, HAND), (4, RUN)], 3),
        # a roll-back goes back to the anchor of then
        ([(2, RUN), (3, RUN), (2, "back")], 1),
        ([(2, HAND), (3, HAND), (2, "back")], 2),
        ([(2, HAND), (3, HAND), (4, RUN), (3, "back")], 3),
        ([(2, RUN), (3, RUN), (2, SET_UP)], 1),  # v3 could not be used
        ([(2, RUN), (3, SET_UP)], 3),  # the weights of a new release
        ([(2, RUN), (3, RUN), (2, HAND)], 2),  # with a reason
    ],
)
def test_anchor_is_what_a_person_or_the_release_put_in_service(database, changes, anchor):
    for by in (1, 2, 3):
        add_version(database, turned(by))
    with database.writing() as session:
        for version, how in changes:
            back = how == "back"
            why = coded("rolled_back", **{"from": 4}) if back else "because"
            session.add(Promotion(version_id=version, from_id=4, by=HAND if back else how, why=why))
    with database.reading() as session:
        assert anchor_of(session).id == anchor


def test_version_put_back_whose_anchor_was_removed_is_its_own(database):
    """Set-up puts the last usable version back if the one in service and the shipped one are damaged."""
    for by in (1, 2, 3):
        add_version(database, turned(by))
    with database.writing() as session:
        for version, by in ((2, HAND), (3, RUN), (4, HAND), (3, SET_UP)):
            session.add(Promotion(version_id=version, from_id=1, by=by, why="because"))
        session.get(Version, 2).removed_at = 1.0
    with database.reading() as session:
        assert anchor_of(session).id == 3


def test_anchor_without_any_decision_is_the_first_version(database):
    add_version(database, turned(1))
    with database.writing() as session:
        session.query(Promotion).delete()
        session.add_all(Promotion(version_id=number, by=RUN, why="{}") for number in (2, 1))
    with database.reading() as session:
        assert anchor_of(session).id == 2


def test_anchor_of_no_promotion_is_none(database):
    with database.writing() as session:
        session.query(Promotion).delete()
    with database.reading() as session:
        assert anchor_of(session) is None
