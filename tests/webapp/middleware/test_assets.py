"""The static files: compressed by set-up, and whole all the same where it has not run."""

import gzip
import io
import re
import threading
from urllib.parse import urljoin

import pytest
from PIL import Image

from tests.conftest import settings_in
from webapp.app import create_app
from webapp.middleware import assets

PACKED = {"Accept-Encoding": "gzip, deflate, br"}
NAMES = [path.relative_to(assets.FILES).as_posix() for path in assets._files()]
TYPES = {
    "css": "text/css",
    "ico": "image/x-icon",
    "js": "text/javascript",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}


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
        assert packed.data == content and (len(content) < 1000 or name.endswith((".png", ".ico")))
    assert packed.mimetype == plain.mimetype == TYPES[name.rpartition(".")[2]]
    assert "immutable" in packed.headers["Cache-Control"] and plain.cache_control.max_age >= 365 * 24 * 3600


def test_static_files_without_set_up_are_served_as_they_are(tmp_path, shared_app):
    app = create_app(settings_in(tmp_path))
    name = "js/draw/draw.js"
    response = got(app, name, **PACKED)
    assert response.data == (assets.FILES / name).read_bytes() and "Content-Encoding" not in response.headers
    assert app.jinja_env.globals["asset"](name) == shared_app.jinja_env.globals["asset"](name)


def test_manifest_names_icons_that_are_there(shared_app):
    response = got(shared_app, "manifest.webmanifest")
    manifest = response.get_json(force=True)
    address = f"http://localhost{shared_app.jinja_env.globals['asset']('manifest.webmanifest')}"
    assert manifest["display"] == "standalone" and "id" not in manifest  # then it is the start's address
    assert urljoin(address, manifest["start_url"]) == urljoin(address, manifest["scope"]) == "http://localhost/"
    for icon in manifest["icons"]:
        picture = got(shared_app, icon["src"])
        assert picture.mimetype == icon["type"]
        if icon["type"] == "image/png":
            assert "x".join(map(str, Image.open(io.BytesIO(picture.data)).size)) == icon["sizes"]


def test_favicon_is_an_icon_that_is_kept(shared_app):
    with shared_app.test_client().get("/favicon.ico") as response:
        assert response.mimetype == "image/x-icon" and Image.open(io.BytesIO(response.data)).format == "ICO"
        assert response.cache_control.public and response.cache_control.max_age >= 24 * 3600
        known = {"If-None-Match": response.headers["ETag"]}
    assert shared_app.test_client().get("/favicon.ico", headers=known).status_code == 304


def test_link_preview_has_a_picture_at_an_absolute_url(shared_app):
    client = shared_app.test_client()
    page = client.get("/", base_url="https://inkling.example/").text
    tags = dict(re.findall(r'<meta property="og:(\w+)" content="([^"]+)">', page))
    assert tags["title"] in page.partition("</title>")[0]
    assert tags["description"].startswith("Draw a digit or a number.")
    assert tags["image"].startswith("https://inkling.example/static/")
    with client.get(tags["image"].removeprefix("https://inkling.example")) as picture:
        assert Image.open(io.BytesIO(picture.data)).size == (1200, 630) and len(picture.data) < 50_000
    assert "og:image" not in client.get("/admin/sign-in").text


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
