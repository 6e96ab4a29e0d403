"""schemathesis asks the application whatever its own description allows, and much that it does not."""

import threading
from contextlib import contextmanager

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.transport.serialization import Binary
from sqlalchemy import select
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.conftest import TOKEN
from tests.support.requests import data_url, drawn, encoded
from webapp.corrections import exports
from webapp.storage.schema import Correction

CONFIG = {
    "headers": {"Authorization": f"Bearer {TOKEN}"},
    # What does not fit the description is refused; also for its size, and for not telling its length.
    "checks": {
        "negative_data_rejection": {
            "expected-statuses": ["400", "401", "403", "404", "405", "409", "411", "413", "415", "429"]
        },
        # Some forms it sends in chunks, without their length.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "411", "429", "5xx"]
        },
    },
}


@pytest.fixture
def pictures_and_files(busy_app, settings, database):
    """What schemathesis cannot make itself: pictures, and files of digits."""
    pictures = [data_url(encoded(drawn(), name), name.lower()) for name in ("PNG", "JPEG", "WEBP")]
    with database.reading() as session:
        rows = session.scalars(select(Correction)).all()
    files = [b"".join(exports.as_npz(rows, settings.data_dir)), b"".join(exports.as_pngs(rows))]
    schemathesis.openapi.format("picture", st.sampled_from(pictures))
    schemathesis.openapi.format("binary", st.sampled_from(files).map(Binary))


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_schemathesis_finds_nothing(busy_app, pictures_and_files):
    config = SchemathesisConfig.from_dict(
        CONFIG | {"seed": 1, "generation": {"deterministic": True, "max-examples": 300}}
    )
    failures, succeeded, asked = [], set(), 0
    with served(busy_app) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)
        schema.validate()
        operations = {found.ok().label for found in schema.get_all_operations()}
        for event in from_schema(schema).execute():
            assert not isinstance(event, events.FatalError), event
            if isinstance(event, events.NonFatalError):
                failures.append(f"{event.label}: {event.value!r}")
            if isinstance(event, events.ScenarioFinished):
                failures += told(event.recorder)
                succeeded |= successes(event.recorder)
                asked += len(event.recorder.interactions)
                print(f"\r{event.phase}: {asked:,} requests, {len(failures)} findings", end="", flush=True)
    assert not failures, "\n\n".join(dict.fromkeys(failures))
    assert asked > 500
    # A receipt's secret is found by luck alone.
    assert succeeded >= {name for name in operations if "{secret}" not in name}, "some were never answered with success"


@contextmanager
def served(app):
    """The application on a free port of this machine, in threads of this process; its address."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


def answer_to(recorder, case: str) -> str:
    response = recorder.interactions[case].response
    return f"{response.status_code} {response.content[:500]!r}" if response else "no answer"


def told(recorder) -> list[str]:
    """What was found, with the request that found it and its answer."""
    return [
        f"{check.name}: {check.failure_info.failure.title}: {check.failure_info.failure.message}\n"
        f"{check.failure_info.code_sample[:2000]}\n{answer_to(recorder, case)}"
        for case, checks in recorder.checks.items()
        for check in checks
        if check.failure_info
    ]


def successes(recorder) -> set[str]:
    return {
        recorder.cases[number].value.operation.label
        for number, interaction in recorder.interactions.items()
        if interaction.response is not None and 200 <= interaction.response.status_code < 300
    }
