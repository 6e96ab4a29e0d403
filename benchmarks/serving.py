"""What a reading costs over HTTP, beside an empty route that takes the same body: `python benchmarks/serving.py`.

It serves a throw-away installation with gunicorn's two workers and asks it with wrk (8 connections), in turns: POST
/predict with pictures that the page has sent (`page_bodies.jsonl`), and POST /empty, a route of the same application
that parses the same body and answers a word. That route exists here alone. Rates are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model import mnist
from webapp.settings import ROOT

PAGE_BODIES = Path(__file__).with_name("page_bodies.jsonl")
CONNECTIONS = 8
WORKERS = 2
START_SECONDS = 30
# Long enough for every worker to have loaded the network, which it does right after its boot.
WARM_UP_SECONDS = 1

# Every thread of wrk goes through the bodies in turn; what it counted comes out as one line of JSON.
SCRIPT = """
local bodies, turn = {}, 0
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local headers = {["Content-Type"] = "application/json"}
function request()
  turn = turn % #bodies + 1
  return wrk.format("POST", nil, headers, bodies[turn])
end
function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('\\n{"requests": %d, "seconds": %f, "failed": %d, "p50_ms": %f, "p99_ms": %f}\\n',
    summary.requests, summary.duration / 1e6, failed, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


class Failed(Exception):
    """The server did not start or did not answer every request; the message is one line."""


@dataclass(frozen=True)
class Load:
    """What wrk saw: answers a second, and milliseconds that half and 99 % of the requests took at most."""

    per_second: float
    p50_ms: float
    p99_ms: float


def application():
    """The product's application with one route more; gunicorn calls this."""
    from flask import jsonify, request

    from webapp import admin, create_app

    app = create_app()

    @app.post("/empty")
    @admin.csrf.exempt
    def empty():
        return jsonify(fields=len(request.get_json()))

    return app


@contextmanager
def serving(workers: int = WORKERS) -> Iterator[str]:
    """The address of a throw-away installation with `workers` web workers, each with its network loaded."""
    folder = Path(tempfile.mkdtemp(prefix="inkling-serving-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = os.environ | {
        "DATA_DIR": str(folder),
        "MNIST_DIR": str(mnist.default_folder()),
        "PORT": str(port),
        "WEB_CONCURRENCY": str(workers),
        "ADMIN_PASSWORD": "for this measurement",
    }
    subprocess.run([sys.executable, "-m", "webapp", "setup"], cwd=ROOT, env=environ, check=True, capture_output=True)
    command = [sys.executable, "-m", "gunicorn", "benchmarks.serving:application()"]
    process = subprocess.Popen(command, cwd=ROOT, env=environ)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process)
        time.sleep(WARM_UP_SECONDS)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)
        shutil.rmtree(folder)


def _wait_until_ready(url: str, process: subprocess.Popen) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise Failed("the server did not start")


def load(url: str, bodies: Path = PAGE_BODIES, seconds: float = 5, connections: int = CONNECTIONS) -> Load:
    """Posts the lines of `bodies`, each a JSON body, to `url` for so long; raises Failed unless all are answered."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script.name, url]
        printed = subprocess.run(
            command, env=os.environ | {"BODIES": str(bodies)}, check=True, capture_output=True, text=True
        ).stdout
    found = json.loads(printed.strip().splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise Failed(f"{found['failed']} of {found['requests']} requests to {url} failed")
    return Load(found["requests"] / found["seconds"], found["p50_ms"], found["p99_ms"])


def medians(loads: Sequence[Load]) -> Load:
    return Load(*(statistics.median(getattr(load, name) for load in loads) for name in Load.__dataclass_fields__))


def compared(url: str, rounds: int = 5, seconds: float = 3, bodies: Path = PAGE_BODIES) -> tuple[Load, Load]:
    """/predict and /empty of the server at `url`, measured in turns: medians over the rounds."""
    taken: tuple[list[Load], list[Load]] = [], []
    for _ in range(rounds):
        for loads, path in zip(taken, ("predict", "empty"), strict=True):
            loads.append(load(f"{url}/{path}", bodies, seconds))
    return medians(taken[0]), medians(taken[1])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=int, default=3, help="of each turn (default: 3)")
    args = parser.parse_args(argv)
    if not shutil.which("wrk"):
        print("serving: wrk is missing: apt-get install wrk", file=sys.stderr)
        return 2
    try:
        with serving() as url:
            predict, empty = compared(url, args.rounds, args.seconds)
    except Failed as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2
    for name, found in (("/predict", predict), ("empty", empty)):
        print(f"{name:<10} {found.per_second:>6,.0f} a second   p50 {found.p50_ms:.1f} ms   p99 {found.p99_ms:.1f} ms")
    print(f"{'ratio':<10} {predict.per_second / empty.per_second:>6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
