"""The static files: compressed by set-up, and whole all the same where it has not run."""

import gzip
import threading

import pytest

from tests.conftest import settings_in
from webapp.app import create_app
from webapp.middleware import assets

PACKED = {"Accept-Encoding": "gzip, deflate, br"}
NAMES = [path.relative_to(assets.FILES).as_posix() for path in assets._files()]
TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def got(app, name, **headers):
    response = app.test_client().get(app.jinja_env.globals["asset"](name), headers=headers, buffered=True)
    assert response.status_code == 200
    return response


@pytest.mark.parametrize("name", NAMES)
def test_static_file_is_compressed_for_those_that_accept_it(shared_app, name):
    content = (assets.FILES / name).read_bytes()
    packed, plain = got(shared_app, name, **PACKED), got(shared_app, name)
    assert plain.data == content and "Content-Encoding" not in plain.headers
    if packed.headers.get("Content-Encoding") == "gzip":
        assert gzip.decompress(packed.data) == content and len(packed.data) < len(content)
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    else:
        assert packed.data == content and len(content) < 1000, "only what is small already stays as it is"
    assert packed.mimetype == plain.mimetype == TYPES[name.rpartition(".")[2]]
    assert "immutable" in packed.headers["Cache-Control"] and plain.cache_control.max_age >= 365 * 24 * 3600


def test_static_files_without_set_up_are_served_as_they_are(tmp_path, shared_app):
    app = create_app(settings_in(tmp_path))
    name = "js/draw/draw.js"
    response = got(app, name, **PACKED)
    assert response.data == (assets.FILES / name).read_bytes() and "Content-Encoding" not in response.headers
    assert app.jinja_env.globals["asset"](name) == shared_app.jinja_env.globals["asset"](name)


def test_static_copies_made_at_once_are_one(tmp_path):
    gate = threading.Barrier(6)

    def set_up():
        gate.wait(30)
        assets.compress(tmp_path)

    threads = [threading.Thread(target=set_up) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [copy] = (tmp_path / "static").iterdir()
    for name in NAMES:
        assert (copy / name).read_bytes() == (assets.FILES / name).read_bytes()
