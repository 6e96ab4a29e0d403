"""Let the pupils of a school, all behind one address, draw through nginx: `python -m benchmarks.school`.

nginx has the configuration of deploy/nginx with the limits that deploy/README.md names for a school (`--limits
classroom`: the default ones), and two web servers of one worker each behind it. Each pupil draws a stroke of a second,
looks at the answer for some seconds, and draws the next. Meanwhile it asks as the page does: one request at a time,
eleven a second while the pen moves; told to wait, it waits as long as the answer says, and then asks less often.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import ssl
import statistics
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figures import machine
from benchmarks.server import PAGE_BODIES, installation, serving
from tests.support import servers
from tests.support.cluster import HOST, certify, configure
from tests.support.servers import Nginx, free_port
from webapp.settings import Settings
from webapp.setup.nginx import write_limits

SCHOOL = {"READINGS_PER_SECOND": "2000", "CORRECTIONS_PER_SECOND": "50", "CONNECTIONS_PER_ADDRESS": "4096"}
# As in static/js/draw/prediction_client.js, in s.
INTERVAL, LONGEST_INTERVAL = 0.09, 1.5
LONGEST_WAIT = 4.0
STROKE = 1.0  # s that the pen moves
LOOKS = 1.0, 5.8  # s between two strokes, at least and at most; then a pupil asks 2.5 times a second
START_SECONDS = 5.0  # within which all pupils have begun


class Class:
    """The pupils, what they were answered (0 where the connection broke), and how long they waited, in s."""

    def __init__(self, port: int, tls: ssl.SSLContext):
        self._port, self._tls = port, tls
        self._bodies = PAGE_BODIES.read_bytes().splitlines()
        self.statuses: Counter[int] = Counter()
        self.answers: list[float] = []
        self.readings: list[float] = []  # from the end of a stroke to the reading of the whole drawing

    async def draw(self, pupils: int, seconds: float) -> None:
        end = time.monotonic() + START_SECONDS + seconds
        await asyncio.gather(*(self._pupil(random.Random(number), end) for number in range(pupils)))

    async def _pupil(self, chance: random.Random, end: float) -> None:
        await asyncio.sleep(chance.uniform(0, START_SECONDS))
        connection, interval = Connection(self._port, self._tls), INTERVAL
        while time.monotonic() < end:
            pen_up = time.monotonic() + STROKE
            while time.monotonic() < pen_up:
                begun = time.monotonic()
                interval = await self._read(connection, chance, interval)
                await asyncio.sleep(max(0.0, min(begun + interval, pen_up) - time.monotonic()))
            interval = await self._read(connection, chance, interval)
            self.readings.append(time.monotonic() - pen_up)
            await asyncio.sleep(chance.uniform(*LOOKS))
        connection.close()

    async def _read(self, connection: Connection, chance: random.Random, interval: float) -> float:
        """Ask until there is a reading; return the interval from then on."""
        backoff = 1.0
        while True:
            begun = time.monotonic()
            status, wait = await connection.post(chance.choice(self._bodies))
            self.statuses[status] += 1
            if status == 200:
                self.answers.append(time.monotonic() - begun)
                return max(INTERVAL, 0.9 * interval)
            await asyncio.sleep(max(backoff, wait) * (1 + chance.random() / 2))
            backoff, interval = min(LONGEST_WAIT, 2 * backoff), min(LONGEST_INTERVAL, 2 * interval)


class Connection:
    """A connection to nginx that is kept, and opened anew if it breaks."""

    def __init__(self, port: int, tls: ssl.SSLContext):
        self._port, self._tls = port, tls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> tuple[int, float]:
        """Return the status and the seconds of Retry-After; 0 and 0 if the connection breaks."""
        head = (
            f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls)
            reader, writer = self._streams
            writer.write(f"{head}\r\n\r\n".encode() + body)
            status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines if line)
            await reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0, 0.0
        if headers.get("connection") == "close":
            self.close()
        return int(status_line.split()[1]), float(headers.get("retry-after", 0))

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.school", description=__doc__)
    parser.add_argument("--pupils", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--limits", choices=["school", "classroom"], default="school")
    parser.add_argument("--worker-connections", type=int, default=8192, help="nginx's own; Debian has 768")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(installation())
        ports = [stack.enter_context(serving(folder, workers=1)).port for _ in range(2)]
        certificates = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certify(certificates)

        def configured(server: Nginx) -> None:
            configure(server, certificates, free_port(), ports, args.worker_connections)
            limits = SCHOOL if args.limits == "school" else {}
            write_limits(Settings.read({"DATA_DIR": str(folder), **limits}), server.folder / "inkling")

        nginx = stack.enter_context(servers.nginx(configured))
        tls = ssl.create_default_context(cafile=certificates / "fullchain.pem")
        tls.check_hostname = False  # it is asked by its address
        pupils = Class(nginx.port, tls)
        asyncio.run(pupils.draw(args.pupils, args.seconds))
    report(args, pupils)


def report(args: argparse.Namespace, pupils: Class) -> None:
    asked = pupils.statuses.total()
    print(f"{args.pupils} pupils, limits of a {args.limits}, {asked / (args.seconds + START_SECONDS):.0f} questions/s")
    for status, count in sorted(pupils.statuses.items()):
        print(f"  {status or 'broken'}: {count} ({100 * count / asked:.1f} %)")
    for what, taken in ("an answer", pupils.answers), ("the reading, from the end of a stroke", pupils.readings):
        parts = statistics.quantiles(taken, n=100)
        print(
            f"  {what}: median {1e3 * parts[49]:.0f} ms, p99 {1e3 * parts[98]:.0f} ms, most {1e3 * max(taken):.0f} ms"
        )
    print(machine())


if __name__ == "__main__":
    main()
