"""What making the app does, and above all what it does not."""

import os
import subprocess
import sys
import threading

from tests.conftest import SECRET_KEY
from tests.support.requests import assert_error
from webapp.app import create_app
from webapp.settings import ROOT, Settings


def test_pages_are_served_without_torch(settings):
    """Torch takes a second or two to import; the first page is there long before."""
    code = """
import sys
import wsgi
for path in "/", "/admin/sign-in", "/gallery", "/healthz":
    assert wsgi.app.test_client().get(path).status_code == 200
    print(*(name for name in ("torch", "torchvision", "safetensors.torch") if name in sys.modules))
"""
    own = {"DATA_DIR": str(settings.data_dir), "MNIST_DIR": str(settings.mnist_dir)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split() == [], done.stdout + done.stderr


def test_app_made_starts_no_thread_and_opens_no_database(tmp_path):
    before = threading.active_count()
    app = create_app(Settings.read({"DATA_DIR": str(tmp_path), "SECRET_KEY": SECRET_KEY}))
    assert threading.active_count() == before
    assert not (tmp_path / "inkling.db").exists()
    assert app.test_client().get("/").status_code == 200


def test_app_without_set_up_says_so_and_lives(tmp_path):
    client = create_app(Settings.read({"DATA_DIR": str(tmp_path), "SECRET_KEY": SECRET_KEY})).test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    assert_error(client.get("/gallery"), 503, "database")
    assert_error(client.get("/admin/runs/1", headers={"Authorization": "Bearer x"}), 401, "not_signed_in")


def test_apps_in_one_process_do_not_mix(settings, tmp_path):
    first = create_app(settings).test_client()
    second = create_app(Settings.read({"DATA_DIR": str(tmp_path / "other"), "SECRET_KEY": SECRET_KEY})).test_client()
    assert [client.get("/readyz").status_code for client in (first, second)] == [200, 503]


def test_app_debugging_is_off(app):
    assert not app.debug and not app.testing and app.config["PROPAGATE_EXCEPTIONS"] is None
