"""Stored moments against a clock that may be wrong."""

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import Double, create_engine, literal, select

from webapp.storage.timestamps import SKEW_SECONDS, seconds_left, within

NOW = 1_800_000_000.0
MOMENTS = st.floats(0, 2 * NOW) | st.floats(-1000, 1000).map(NOW.__add__)


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (0, True),
        (299, True),
        (300, True),
        (301, False),
        (NOW, False),
        (-SKEW_SECONDS, True),
        (-SKEW_SECONDS - 1, False),
        (-365 * 24 * 3600, False),
    ],
)
def test_moment_within_the_last_seconds_counts(age, expected):
    assert within(NOW - age, 300, NOW) is expected


@given(moment=MOMENTS, seconds=st.integers(1, 10**6))
def test_moment_in_the_database_counts_alike(moment, seconds):
    column = within(literal(moment, Double), seconds, NOW)
    with create_engine("sqlite://").connect() as connection:
        found = connection.execute(select(column, ~column)).one()
    expected = within(moment, seconds, NOW)
    assert tuple(found) == (expected, not expected)


@given(moment=MOMENTS, seconds=st.integers(1, 10**6))
@examples(max_examples=500)
def test_moment_wait_is_never_longer_than_the_window(moment, seconds):
    left = seconds_left(moment, seconds, NOW)
    assert 1 <= left <= seconds
    if within(moment, seconds - 2, NOW) and moment <= NOW:
        assert not within(moment, seconds, NOW + left + 1) and within(moment, seconds, NOW + left - 1)
