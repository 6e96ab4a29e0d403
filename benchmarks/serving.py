"""What a reading costs over HTTP, beside an empty route that takes the same body: `python -m benchmarks.serving`.

It serves a throw-away installation with gunicorn and asks it with wrk (8 connections), in turns: POST /predict with
pictures that the page has sent (`page_bodies.jsonl`), with 256 of them at once (2 connections), and POST /empty, a
route of the same application that parses the same body and answers a word. That route exists here alone. Two workers
answer; then servers of one and of two, in turns (4 connections). Figures are medians over the rounds.
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


@dataclass(frozen=True)
class Way:
    """What is asked: the lines of `bodies`, each a JSON body, are posted to `url` over so many connections."""

    url: str
    bodies: Path = PAGE_BODIES
    connections: int = CONNECTIONS


@dataclass(frozen=True)
class Load:
    """What wrk saw: answers a second, and milliseconds that half and 99 % of the requests took at most."""

    per_second: float
    p50_ms: float
    p99_ms: float


def application():
    """The product's application with one route more; gunicorn calls this."""
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
    """Asks for so long; raises Failed unless all is answered."""
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
        with serving(folder, 1) as alone, serving(folder, 2) as two:
            # So few that a single worker does not count them as more than it can answer on a busy machine.
            few = [Way(f"{server.url}/predict", connections=CONNECTIONS // 2) for server in (alone, two)]
            of_one, of_two = in_turns(few, rounds, seconds)
    digits = batch.per_second * BATCH
    return [
        Figure("/predict", "/s", predict.per_second, empty.per_second, "empty route", 0.6, more=True),
        Figure(f"p99 of /predict, {CONNECTIONS} connections", "ms", predict.p99_ms, empty.p99_ms, "empty route", 3),
        Figure(f"/predict, {BATCH} pictures at once", "digits/s", digits, predict.per_second, "singly", 3, more=True),
        Figure("/predict, two workers", "/s", of_two.per_second, of_one.per_second, "one worker", 1.6, more=True),
    ]


def write_batch(file, count: int) -> None:
    """One body with so many of the page's pictures."""
    pictures = [json.loads(line)["image"] for line in PAGE_BODIES.read_text().splitlines()]
    file.write(json.dumps({"images": [pictures[i % len(pictures)] for i in range(count)]}) + "\n")
    file.flush()


def in_turns(ways: Sequence[Way], rounds: int, seconds: int) -> list[Load]:
    """What `load` says of each way, measured in turns: medians over the rounds."""
    taken = [[load(way, seconds) for way in ways] for _ in range(rounds)]
    return [_median(loads) for loads in zip(*taken, strict=True)]


def _median(loads: Sequence[Load]) -> Load:
    names = [field.name for field in fields(Load)]
    return Load(*(statistics.median(getattr(load, name) for load in loads) for name in names))


if __name__ == "__main__":
    print(table(figures()))
