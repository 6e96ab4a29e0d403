"""Comparison of stored times with a clock that may have been set forward or back since they were written.

A time in the future was written by a wrong clock. It counts as long past: otherwise correcting the clock would block
everything that waits for it.
"""

from __future__ import annotations

import math
from typing import overload

from sqlalchemy import ColumnElement, SQLColumnExpression, func, select
from sqlalchemy.orm import Session

# Tolerance for times in the future: NTP sets clocks back a little, and the clocks of several machines differ.
SKEW_SECONDS = 60.0


@overload
def within(moment: float, seconds: float, now: float) -> bool: ...
@overload
def within(
    moment: SQLColumnExpression[float] | SQLColumnExpression[float | None], seconds: float, now: float
) -> ColumnElement[bool]: ...
def within(moment, seconds, now):
    """Return whether a time, or a column's, is within the last `seconds`: neither older nor in the future."""
    return (moment >= now - seconds) & (moment <= now + SKEW_SECONDS)


def seconds_left(moment: float, seconds: int, now: float) -> int:
    """Return after how many whole seconds a time leaves the last `seconds`: from 1 to `seconds`."""
    return max(1, min(seconds, math.ceil(moment + seconds - now)))


def seconds_until_below(
    session: Session, limit: int, at: SQLColumnExpression[float], window: int, now: float, *which: ColumnElement[bool]
) -> int | None:
    """Return after how many seconds one row less is within the last `window` seconds; None below `limit` rows."""
    recent = select(func.count(), func.min(at)).where(within(at, window, now), *which)
    count, oldest = session.execute(recent).one()
    return seconds_left(oldest, window, now) if count >= limit else None
