"""Statistics of paired comparisons, against known values, slow sums and simulations."""

import math

import numpy as np
import pytest

from model.evaluation import statistics
from model.evaluation.statistics import Loss, clustered_loss, holm, loss_limit

# The binomial tail


@pytest.mark.parametrize(
    ("count", "total", "share", "p"),
    [(0, 10, 0.3, 1), (10, 10, 0.5, 1 / 1024), (59, 100, 0.5, 0.0443130), (18, 24, 0.5, 0.0113279), (0, 0, 0.3, 1)],
)
def test_binomial_tail_gives_known_values(count, total, share, p):
    assert statistics.binomial_p(count, total, share) == pytest.approx(p, rel=1e-5)


def test_binomial_tail_of_thousands_is_a_number():
    """The number of ways overflows a float from about a thousand on."""
    assert 0.4 < statistics.binomial_p(1_000, 3_000, 1 / 3) < 0.6


# Limits of a loss


@pytest.mark.parametrize(("lost", "gained", "count"), [(0, 0, 30), (12, 2, 14), (9, 1, 5000), (3, 8, 60), (1, 0, 10)])
def test_limit_is_the_loss_at_which_the_score_test_gives_a_twentieth(lost, gained, count):
    """The likeliest shares under a supposed loss are found by trying many."""
    loss = loss_limit(lost, gained, count)
    gains = np.linspace(1e-9, (1 - loss) / 2 - 1e-9, 2_000_001)
    shares = gains + loss, gains, 1 - loss - 2 * gains  # lost, gained, neither
    seen = lost, gained, count - lost - gained
    with np.errstate(divide="ignore"):
        likelihood = sum(number * np.log(share) for number, share in zip(seen, shares, strict=True) if number)
    best = gains[np.argmax(likelihood)]
    score = (lost - gained - count * loss) / math.sqrt(count * (2 * best + loss - loss**2))
    assert score == pytest.approx(-1.645, abs=2e-3)


def test_limit_of_pictures_all_alike():
    assert loss_limit(0, 0, 30) == pytest.approx(1.6449**2 / (30 + 1.6449**2), abs=1e-5)
    assert loss_limit(5, 0, 5) == 1 and loss_limit(0, 5, 5) < 0


@pytest.mark.parametrize(
    ("count", "lost", "gained"), [(30, 0.1, 0.05), (50, 0.2, 0.2), (5000, 0.004, 0.002), (5000, 0.001, 0.001)]
)
def test_limit_is_exceeded_by_the_loss_in_about_one_case_of_twenty(count, lost, gained):
    drawn = np.random.default_rng(0).multinomial(count, [lost, gained, 1 - lost - gained], 2_000)
    exceeded = np.mean([loss_limit(int(a), int(b), count) < lost - gained for a, b, _ in drawn])
    assert 0.02 < exceeded < 0.07


def test_limit_lies_above_the_observed_loss_and_rises_with_what_is_lost():
    for gained in range(6):
        limits = [loss_limit(lost, gained, 40) for lost in range(20)]
        assert limits == sorted(limits)
        assert all(limit > (lost - gained) / 40 for lost, limit in enumerate(limits))
        assert loss_limit(3, gained + 1, 40) < loss_limit(3, gained, 40)


# Clusters


def test_pictures_of_one_origin_count_as_one():
    losses = np.random.default_rng(0).integers(-1, 2, 400)
    alone = clustered_loss(losses, np.arange(400))
    fourfold = clustered_loss(losses.repeat(4), np.arange(400).repeat(4))
    assert fourfold.mean == pytest.approx(alone.mean) and fourfold.error == pytest.approx(alone.error)
    assert clustered_loss(losses.repeat(4), np.arange(1600)).error < 0.6 * alone.error  # as if they were independent


def test_error_of_clusters_is_that_of_repeated_draws():
    random = np.random.default_rng(0)

    def drawn():
        origins = np.arange(300).repeat(3)
        return clustered_loss((random.random(300) < 0.1).repeat(3) & (random.random(900) < 0.7), origins)

    many = [drawn() for _ in range(500)]
    assert np.std([one.mean for one in many]) == pytest.approx(np.mean([one.error for one in many]), rel=0.15)


def test_loss_of_nothing_is_certain():
    nothing = clustered_loss(np.zeros(10, int), np.arange(10))
    assert (nothing.limit, nothing.p, nothing.gain_p) == (0, 1, 1)


def test_p_values_of_loss_and_gain_are_mirrored():
    assert Loss(0.0164, 0.01).p == pytest.approx(0.0505, abs=1e-3)
    assert (
        Loss(0.0164, 0.01).p
        == pytest.approx(Loss(-0.0164, 0.01).gain_p)
        == pytest.approx(1 - Loss(0.0164, 0.01).gain_p)
    )


# Several tests


@pytest.mark.parametrize(
    ("p_values", "failed"),
    [
        ([0.004, 0.02, 0.03], [True, True, True]),
        ([0.03, 0.02, 0.004], [True, True, True]),
        ([0.02, 0.02, 0.02], [False, False, False]),
        ([0.01, 0.2, 0.04], [True, False, False]),
        ([0.2], [False]),
        ([], []),
    ],
)
def test_holm_rejects_step_by_step(p_values, failed):
    assert holm(p_values, 0.05) == failed


def test_holm_refuses_an_equal_no_more_often_than_its_level():
    random = np.random.default_rng(0)
    refused = np.mean([any(holm(random.random(10).tolist(), 0.05)) for _ in range(4_000)])
    assert 0.03 < refused < 0.06
