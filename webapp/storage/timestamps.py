"""Stored moments, compared with a clock that may have been put forward or back since they were written.

A moment in the future was written by a wrong clock. It counts as long past, so that putting the clock right locks
nothing for the difference.
"""

from __future__ import annotations

import math
from typing import overload

from sqlalchemy import ColumnElement, SQLColumnExpression, func, select
from sqlalchemy.orm import Session

# So far ahead a moment still counts as now: NTP puts a clock back a little, and several machines' clocks differ.
SKEW_SECONDS = 60.0


@overload
def within(moment: float, seconds: float, now: float) -> bool: ...
@overload
def within(
    moment: SQLColumnExpression[float] | SQLColumnExpression[float | None], seconds: float, now: float
) -> ColumnElement[bool]: ...
def within(moment, seconds, now):
    """Whether a moment, or a column's, is of the last `seconds`: neither longer past nor in the future."""
    return (moment >= now - seconds) & (moment <= now + SKEW_SECONDS)


def seconds_left(moment: float, seconds: int, now: float) -> int:
    """In how many whole seconds a moment will no longer be within the last `seconds`: from 1 to `seconds`."""
    return max(1, min(seconds, math.ceil(moment + seconds - now)))


def seconds_above(
    session: Session, limit: int, at: SQLColumnExpression[float], window: int, now: float, *which: ColumnElement[bool]
) -> int | None:
    """In how many seconds one row less has its moment within `window`; None while fewer than `limit` have."""
    recent = select(func.count(), func.min(at)).where(within(at, window, now), *which)
    count, first = session.execute(recent).one()
    return seconds_left(first, window, now) if count >= limit else None
