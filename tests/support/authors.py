"""People who send corrections through nginx."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter

from PIL import ImageDraw

from tests.support.cluster import BehindNginx
from tests.support.requests import blank, data_url, encoded


class Authors:
    """People who send corrections all the time, each drawing another one; keeps the acknowledged receipts."""

    def __init__(self, cluster: BehindNginx, network: int, count=4, pause=0.05, source=""):
        """Each from addresses of its own in 127.`network`, unless `source` is that of all."""
        self._cluster, self._network, self._stop = cluster, network, threading.Event()
        self._pause, self._source = pause, source
        self.receipts: list[str] = []
        self.statuses: Counter[int] = Counter()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

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
