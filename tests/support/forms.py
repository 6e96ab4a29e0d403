"""The two forms of a test here: a short one in make test, and the long one in make stress."""

import pytest


def forms(names: str, short, long):
    """Gives a test its arguments `names` for either form; both have time on a machine that is busy."""
    return pytest.mark.parametrize(
        names,
        [
            pytest.param(*_values(short), marks=pytest.mark.timeout(600)),
            pytest.param(*_values(long), marks=[pytest.mark.stress, pytest.mark.timeout(3600)]),
        ],
        ids=["short", "long"],
    )


def _values(values) -> tuple:
    return values if isinstance(values, tuple) else (values,)
