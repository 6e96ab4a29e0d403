"""Measure the gallery's pages: `python -m benchmarks.gallery`.

Pages with different filters are requested over HTTP, alternately from servers with 1, 20 and 100 versions, each with
its weights and its predictions for the 10,000 test digits.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from sqlalchemy import insert, select

from benchmarks.figures import Figure, table
from benchmarks.server import Server, installation, serving
from model.data import mnist
from model.inference.classifier import SHIPPED
from model.network.predict import digit_probabilities
from model.network.weights import load_network
from webapp.storage.engine import Database
from webapp.storage.schema import Artifact, Version
from webapp.versions.promotions import record_promotion
from webapp.versions.test_predictions import pack

VERSIONS = (1, 20, 100)
ROUNDS = 10
PAGES = (
    "/gallery",
    "/gallery?page=73",
    "/gallery?true=5",
    "/gallery?true=3&page=4",
    "/gallery?predicted=8&order=unsure",
    "/gallery?outcome=wrong",
    "/gallery?outcome=right&order=sure&page=50",
    "/gallery?true=4&predicted=9",
    "/gallery?order=unsure&page=2",
    "/gallery?version=1&outcome=wrong&order=sure",
    "/gallery/1234",
    "/gallery/0?outcome=right",
)


def figures(versions: Sequence[int] = VERSIONS, rounds: int = ROUNDS) -> list[Figure]:
    few, many = min(versions), max(versions)
    predictions = pack(digit_probabilities(load_network(SHIPPED)[0], mnist.read_test()[0]))
    with ExitStack() as stack:
        servers = {count: stack.enter_context(_serving(count, predictions)) for count in versions}
        taken: dict[int, list[float]] = {count: [] for count in versions}
        for _ in range(rounds):
            for page in PAGES:
                for count, server in servers.items():
                    taken[count].append(server.get(page))
    median = {count: statistics.median(times) * 1e3 for count, times in taken.items()}
    return [
        *(Figure(f"a page of the gallery, {_versions(count)} kept", "ms", median[count], 50) for count in versions),
        Figure("the same beside fewest versions", "ms", median[many], median[few], _versions(few), goal=1.1),
    ]


def _versions(count: int) -> str:
    return "1 version" if count == 1 else f"{count} versions"


@contextmanager
def _serving(versions: int, predictions: bytes) -> Iterator[Server]:
    with installation() as folder:
        _fill(Database(f"sqlite:///{folder / 'inkling.db'}"), versions, predictions)
        with serving(folder, workers=1) as server:
            for page in PAGES:
                server.get(page)  # the first request of a process reads the test set
            yield server


def _fill(database: Database, versions: int, predictions: bytes) -> None:
    """Add copies of the shipped version up to so many versions, each with predictions, and promote the last."""
    columns = [column for column in Version.__table__.columns if column.name != "id"]
    with database.writing() as session:
        for _ in range(1, versions):
            session.execute(insert(Version).from_select(columns, select(*columns).where(Version.id == 1)))
        for number in range(1, versions + 1):
            session.add(Artifact(version_id=number, kind="predictions", fraction=1.0, result=predictions))
        record_promotion(session, versions, by="a benchmark", why="to be looked at")
    database.close()


if __name__ == "__main__":
    print(table(figures()))
