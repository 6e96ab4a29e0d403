"""People who send corrections through nginx."""

from __future__ import annotations

import itertools
import random
from collections import Counter

from PIL import ImageDraw

from tests.support.cluster import BehindNginx, Clients
from tests.support.requests import blank, data_url, encoded


class Authors(Clients):
    """People who send corrections all the time, each drawing another one; keeps the acknowledged receipts."""

    def __init__(self, cluster: BehindNginx, network: int, count=4, pause=0.05, source=""):
        """Each from addresses of its own in 127.`network`, unless `source` is that of all."""
        super().__init__(self._send, range(count))
        self._cluster, self._network = cluster, network
        self._pause, self._source = pause, source
        self.receipts: list[str] = []
        self.statuses: Counter[int] = Counter()

    def _send(self, who: int) -> None:
        chance = random.Random(f"{self._network} {who}")
        for number in itertools.count():
            if self._stop.wait(self._pause):
                return
            # From each at most 60 an hour are taken.
            address = self._source or f"127.{self._network}.{who}.{1 + number // 30}"
            answer = self._cluster.ask("POST", "/feedback", {"image": scribble(chance), "meant": 3}, address=address)
            self.statuses[answer.status] += 1
            if answer.status == 201:
                self.receipts.append(answer.json["receipt"])


def scribble(chance: random.Random) -> str:
    picture = blank()
    points = [(chance.uniform(20, 92), chance.uniform(20, 92)) for _ in range(5)]
    ImageDraw.Draw(picture).line(points, 0, 9)
    return data_url(encoded(picture))
