"""Compare predictions over HTTP with an empty route that takes equal bodies: `python -m benchmarks.serving`.

wrk loads a temporary installation under gunicorn with two workers, alternately by POST /predict with pictures that the
page has sent (`page_bodies.jsonl`; 8 connections), with 256 of them in each request (2 connections), and by POST
/empty, a route only of this benchmark that parses equal bodies and answers a word (8 connections). Then it alternates
between servers of one and of two workers (4 connections). Figures are medians over the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from benchmarks.figures import Figure, table
from benchmarks.server import PAGE_BODIES, WORKERS, Failed, installation, serving

CONNECTIONS = 8
BATCH = 256
ROUNDS = 5
SECONDS = 3

# Every thread of wrk cycles through the bodies; the results are printed as one line of JSON.
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


@dataclass(frozen=True)
class Way:
    """The requests of a load: the lines of `bodies`, each a JSON body, posted to `url` over so many connections."""

    url: str
    bodies: Path = PAGE_BODIES
    connections: int = CONNECTIONS


@dataclass(frozen=True)
class Load:
    """wrk's results: answers per second, and the latency in ms of the 50th and 99th percentile."""

    per_second: float
    p50_ms: float
    p99_ms: float


def application():
    """Create the application with the additional route /empty; gunicorn calls this."""
    from flask import jsonify, request

    from webapp.app import create_app
    from webapp.http.authentication import csrf

    app = create_app()

    @app.post("/empty")
    @csrf.exempt
    def empty():
        return jsonify(fields=len(request.get_json()))

    return app


def load(way: Way, seconds: int) -> Load:
    """Load the server for so many seconds; raises Failed unless every request is answered."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT)
        script.flush()
        options = f"-t1 -c{way.connections} -d{seconds}s --timeout 20s --latency".split()
        printed = subprocess.run(
            ["wrk", *options, "-s", script.name, way.url],
            env=os.environ | {"BODIES": str(way.bodies)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    found = json.loads(printed.strip().splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise Failed(f"{found['failed']} of {found['requests']} requests to {way.url} failed")
    return Load(found["requests"] / found["seconds"], found["p50_ms"], found["p99_ms"])


def figures(rounds: int = ROUNDS, seconds: int = SECONDS) -> list[Figure]:
    with installation() as folder, tempfile.NamedTemporaryFile("w", suffix=".jsonl") as batches:
        write_batch(batches, BATCH)
        with serving(folder, WORKERS, "benchmarks.serving:application()") as server:
            one, many = Way(f"{server.url}/predict"), Way(f"{server.url}/predict", Path(batches.name), WORKERS)
            predict, empty, batch = in_turns([one, Way(f"{server.url}/empty"), many], rounds, seconds)
        with serving(folder, 1) as one_worker, serving(folder, 2) as two_workers:
            # Few enough that a single worker on a busy machine does not refuse requests as overload.
            few = [Way(f"{server.url}/predict", connections=CONNECTIONS // 2) for server in (one_worker, two_workers)]
            of_one, of_two = in_turns(few, rounds, seconds)
    digits = batch.per_second * BATCH
    return [
        Figure("/predict", "/s", predict.per_second, empty.per_second, "empty route", 0.6, more=True),
        Figure(f"p99 of /predict, {CONNECTIONS} connections", "ms", predict.p99_ms, empty.p99_ms, "empty route", 3),
        Figure(f"/predict, {BATCH} pictures at once", "digits/s", digits, predict.per_second, "singly", 3, more=True),
        Figure("/predict, two workers", "/s", of_two.per_second, of_one.per_second, "one worker", 1.6, more=True),
    ]


def write_batch(file, count: int) -> None:
    """Write one body with `count` of the page's pictures."""
    pictures = [json.loads(line)["image"] for line in PAGE_BODIES.read_text().splitlines()]
    file.write(json.dumps({"images": [pictures[i % len(pictures)] for i in range(count)]}) + "\n")
    file.flush()


def in_turns(ways: Sequence[Way], rounds: int, seconds: int) -> list[Load]:
    """Return the results of each way, measured alternately: medians over the rounds."""
    taken = [[load(way, seconds) for way in ways] for _ in range(rounds)]
    return [_median(loads) for loads in zip(*taken, strict=True)]


def _median(loads: Sequence[Load]) -> Load:
    names = [field.name for field in fields(Load)]
    return Load(*(statistics.median(getattr(load, name) for load in loads) for name in names))


if __name__ == "__main__":
    print(table(figures()))
