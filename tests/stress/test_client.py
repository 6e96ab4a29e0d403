"""A client that a generator makes of /openapi.json calls every route of a running server with success."""

import importlib
import io
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

from model.task import SIDE
from tests.conftest import TOKEN
from tests.stress.test_contract import served
from tests.support.requests import ONE, data_url, drawn, encoded
from webapp.corrections.digit_files import SHORT_DIGITS

pytestmark = pytest.mark.stress
GENERATE = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--overwrite"]


@pytest.fixture
def generated(busy_app, tmp_path, monkeypatch):
    """Imports a module of the package that openapi-python-client makes."""
    document = tmp_path / "openapi.json"
    document.write_bytes(busy_app.test_client().get("/openapi.json").data)
    subprocess.run(
        [*GENERATE, "--path", document, "--output-path", tmp_path / "inkling_client"], check=True, capture_output=True
    )
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name: importlib.import_module(f"inkling_client.{name}")


def digits(count: int) -> io.BytesIO:
    """An .npz of so many digits, no two alike."""
    images = np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE), np.uint8)
    file = io.BytesIO()
    np.savez(file, images=images, labels=np.arange(count) % 10)
    file.seek(0)
    return file


def test_client_generated_calls_every_route(busy_app, generated):
    models, types = generated("models"), generated("types")
    answered = {}

    with served(busy_app) as address:
        client = generated("client").AuthenticatedClient(base_url=address, token=TOKEN, timeout=60)

        def call(name, **arguments):
            response = generated(f"api.default.{name}").sync_detailed(client=client, **arguments)
            assert response.status_code in (200, 201, 202, 204), (name, response.content[:500])
            answered[name] = response
            return response.parsed

        def upload(count):
            file = types.File(payload=digits(count), file_name="digits.npz", mime_type="application/zip")
            return call("import_corrections", body=models.DigitsFile(file=file))

        def send(side):
            image = data_url(encoded(drawn(side=side)))
            return call("send_correction", body=models.SentCorrection(image=image, meant=1)).receipt.split("/")[-1]

        for name in ("alive", "ready", "metrics", "describe", "gallery_progress", "versions", "promotions"):
            call(name)
        assert call("predict", body=models.OnePicture(image=ONE["image"])).digits == [1]
        many = models.ManyPictures(images=[ONE["image"], "no picture"])
        assert [type(one).__name__ for one in call("predict", body=many).readings] == ["ReadingOfMany", "Error"]

        assert call("receipt", secret=send(100)).meant == 1
        call("delete_correction", secret=send(100))
        call("delete_correction_by_form", secret=send(100))

        call("cancel_run", run_id=1, body=models.NoFields())
        run = call("start_run", body=models.StartRun(preset=models.StartRunPreset.BASIC, epochs=2))
        assert call("run", run_id=run.id).state == "queued"

        for name in ("version", "card", "weights"):
            call(name, version_id=1)
        call("promote_version", version_id=1, body=models.Promote(reason="tried"))
        call("roll_back_version", version_id=1, body=models.NoFields())

        queue = call("corrections")
        first, second, third, *_ = [one.id for one in queue.corrections]
        call("correction_picture", number=first)
        call("decide", body=models.Approve(action=models.ApproveAction("approve"), ids=[first]))
        call("decide", body=models.Relabel(action=models.RelabelAction("relabel"), ids=[second], label=7))
        refuse = models.Refuse(action=models.RefuseAction("refuse"), ids=[third], reason="No digit.")
        assert call("undo", body=models.Undo(batch=call("decide", body=refuse).batch)).undone == [third]
        for kind in ("npz", "zip"):
            call("export_corrections", kind=models.ExportCorrectionsKind(kind))
        assert upload(3).added == 3
        call("import_", number=upload(SHORT_DIGITS + 1).import_)

    assert set(answered) == {found.name for found in pkgutil.iter_modules(generated("api.default").__path__)}
