"""Which client asks for most: in a crowd its requests are the first to be refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping

from webapp.server.connections import Connection


class Shares:
    """How many requests each client has made of late; those of a second ago count half."""

    def __init__(self):
        self._made: Counter[Hashable] = Counter()

    def count(self, client: Hashable) -> int:
        """Counts one request; returns how many that makes."""
        self._made[client] += 1
        return self._made[client]

    def of(self, client: Hashable) -> int:
        return self._made[client]

    def most(self) -> int:
        return max(self._made.values(), default=0)

    def fade(self) -> None:
        """To be called once a second."""
        self._made = Counter({client: made // 2 for client, made in self._made.items() if made > 1})


def first_to_go(held: Mapping[Connection, int]) -> Connection:
    """The largest connection, the oldest of several, of the client whose connections hold most together."""
    together: Counter[Hashable] = Counter()
    for connection, amount in held.items():
        together[connection.client] += amount
    return max(held, key=lambda connection: (together[connection.client], held[connection]))
