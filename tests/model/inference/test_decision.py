"""The verdict: numbers in, an honest answer out."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.inference.decision import Calibration, decide, digit_set, ranked
from model.task import DIGITS, REASONS

SHARES = st.floats(0, 1)
CALIBRATIONS = st.builds(Calibration, SHARES, SHARES, SHARES, SHARES)


def shares_of_one(size):
    """Probabilities that sum to 1, as a softmax gives them; among them certain and equal ones."""
    weights = st.lists(st.sampled_from([0.0, 1.0]) | st.floats(1e-6, 1), min_size=size, max_size=size)
    return weights.filter(any).map(lambda found: tuple(weight / sum(found) for weight in found))


PROBABILITIES = shares_of_one(DIGITS)
OUTLIERS = shares_of_one(len(REASONS) + 1).map(lambda found: found[:-1])


def probabilities(**shares):
    """Ten probabilities, of which those named (d4=0.6) are given and the others share what remains."""
    given_ones = {int(name[1:]): share for name, share in shares.items()}
    rest = (1 - sum(given_ones.values())) / (DIGITS - len(given_ones))
    return [given_ones.get(digit, rest) for digit in range(DIGITS)]


# The set of digits


@given(PROBABILITIES, CALIBRATIONS)
def test_digit_set_is_the_likeliest_and_never_empty(given_probabilities, calibration):
    found = digit_set(given_probabilities, calibration)
    assert 1 <= len(found) <= DIGITS
    assert list(found) == ranked(given_probabilities)[: len(found)]


@given(PROBABILITIES, CALIBRATIONS)
def test_digit_set_holds_the_calibrated_mass(given_probabilities, calibration):
    confident = max(given_probabilities) >= calibration.coverage
    most = calibration.confident_mass if confident else calibration.hesitant_mass
    found = digit_set(given_probabilities, calibration)
    assert sum(given_probabilities[digit] for digit in found[:-1]) <= most
    if len(found) < DIGITS:
        assert sum(given_probabilities[digit] for digit in found) > most


@given(PROBABILITIES, CALIBRATIONS, SHARES)
def test_digit_set_of_more_mass_is_never_smaller(given_probabilities, calibration, mass):
    assume(mass >= max(calibration.hesitant_mass, calibration.confident_mass))
    larger = replace(calibration, hesitant_mass=mass, confident_mass=mass)
    assert set(digit_set(given_probabilities, calibration)) <= set(digit_set(given_probabilities, larger))


@pytest.mark.parametrize(
    ("shares", "found"),
    [
        ({"d7": 0.99}, (7,)),
        ({"d7": 0.98}, (7,)),  # the coverage itself counts as confident
        ({"d7": 0.97, "d1": 0.02}, (7,)),
        ({"d4": 0.55, "d9": 0.4}, (4, 9)),
        ({"d4": 0.4, "d9": 0.35, "d7": 0.2}, (4, 9, 7)),
        ({}, (0, 1, 2, 3, 4, 5, 6, 7, 8)),
    ],
)
def test_digit_set_of_the_hesitant_is_larger(shares, found):
    assert digit_set(probabilities(**shares), Calibration(hesitant_mass=0.85, confident_mass=0.5)) == found


def test_digit_set_of_the_confident_may_be_larger():
    calibration = Calibration(hesitant_mass=0.0, confident_mass=0.995)
    assert digit_set(probabilities(d7=0.99, d1=0.009), calibration) == (7, 1)


@given(PROBABILITIES)
def test_ranked_equal_ones_go_by_number(given_probabilities):
    order = ranked(given_probabilities)
    assert sorted(order) == list(range(DIGITS))
    for before, after in pairwise(order):
        assert (-given_probabilities[before], before) < (-given_probabilities[after], after)


# The verdict


@given(PROBABILITIES, OUTLIERS | st.just(()), CALIBRATIONS)
def test_verdict_fits_its_digits_and_reason(given_probabilities, outliers, calibration):
    verdict, digits, reason = decide(given_probabilities, outliers, calibration)
    if verdict == "not_a_digit":
        assert digits == () and sum(outliers) > calibration.refuse_above
        assert outliers[REASONS.index(reason)] == max(outliers)
    else:
        assert reason is None and digits == digit_set(given_probabilities, calibration)
        assert verdict == ("digit" if len(digits) == 1 else "unsure")


def test_verdict_at_the_threshold_is_no_refusal():
    at, above = (0.5, 0.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.01)
    assert decide(probabilities(d7=0.99), at, Calibration(refuse_above=0.5))[0] == "digit"
    assert decide(probabilities(d7=0.99), above, Calibration(refuse_above=0.5))[0] == "not_a_digit"
