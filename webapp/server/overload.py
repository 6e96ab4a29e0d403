"""When a server has too many requests waiting, and which client makes most of them: its requests are refused first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

from webapp.server.connections import Connection

# A queue longer than WAIT_SECONDS of work is an overload once it has lasted PATIENCE_SECONDS; a shorter burst is
# answered in full. After that every queue as long is one, until there was none for PATIENCE_SECONDS. More than
# MOST_WAITING requests are an overload at once, up to FEWEST_WAITING for each worker never.
WAIT_SECONDS = 0.025
PATIENCE_SECONDS = 0.3
FEWEST_WAITING = 4
MOST_WAITING = 1024


class OverloadDetector:
    """Tell a queue that stays long from a burst that passes."""

    def __init__(self, workers: int):
        self._workers = workers
        self._seconds = 0.001  # moving average of the time to answer a request
        self._long_since: float | None = None
        self._checked_at, self._overloaded_until = 0.0, 0.0

    @property
    def capacity(self) -> float:
        """How many requests may wait for one worker without an overload."""
        return max(FEWEST_WAITING, WAIT_SECONDS / self._seconds)

    def record_answer(self, seconds: float) -> None:
        # Limited, since one answer that takes seconds must not make an overload of hundreds of quick requests.
        usual = min(seconds, 0.1)
        self._seconds += (usual - self._seconds) / 32
        # The queue is not checked during an answer: count its time neither as a gap nor, beyond `usual`, as patience.
        self._checked_at += seconds
        if self._long_since is not None:
            self._long_since += seconds - usual

    def is_overloaded(self, waiting: int, now: float) -> bool:
        """Tell whether `waiting` requests are too many at monotonic time `now`."""
        if now - self._checked_at > PATIENCE_SECONDS:
            self._long_since = None
        self._checked_at = now
        if waiting <= self.capacity * self._workers:
            self._long_since = None
            return False
        if self._long_since is None:
            self._long_since = now
        if now < self._overloaded_until or now - self._long_since > PATIENCE_SECONDS or waiting > MOST_WAITING:
            self._overloaded_until = now + PATIENCE_SECONDS
        return now < self._overloaded_until


class ClientShares:
    """Recent requests by client, halved every second."""

    def __init__(self):
        self._counts: Counter[Hashable] = Counter()

    def count(self, client: Hashable) -> int:
        """Count a request; return the client's new count."""
        self._counts[client] += 1
        return self._counts[client]

    def of(self, client: Hashable) -> int:
        return self._counts[client]

    def highest(self) -> int:
        return max(self._counts.values(), default=0)

    def halve(self) -> None:
        """Halve all counts; called once a second."""
        self._counts = Counter({client: count // 2 for client, count in self._counts.items() if count > 1})


def first_to_evict(held: Mapping[Connection, int]) -> Connection:
    """Return the largest connection of the client whose connections hold most together; of equal ones, the oldest.

    `held` maps connections, in the order of their arrival, to the amount that each holds.
    """
    totals: Counter[Hashable] = Counter()
    for connection, amount in held.items():
        totals[connection.client] += amount
    return max(held, key=lambda connection: (totals[connection.client], held[connection]))
