"""The static files: compressed by set-up, and whole all the same where it has not run."""

import gzip
import io
import os
import re
import shutil
import threading
import time
from urllib.parse import urljoin

import pytest
from PIL import Image

from tests.conftest import SECRET_KEY, settings_in
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
    app = create_app(settings_in(tmp_path, SECRET_KEY=SECRET_KEY))
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
        assets.set_up(tmp_path)

    threads = [threading.Thread(target=set_up) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [copy] = (tmp_path / "static").iterdir()
    for name in NAMES:
        assert (copy / name).read_bytes() == (assets.FILES / name).read_bytes()


OTHER, THIRD = "0123456789ab", "ba9876543210"


def add_release(data_dir, digest):
    """The copy that set-up of a release with another style sheet has made."""
    folder = data_dir / "static" / digest / "css"
    folder.mkdir(parents=True)
    (folder / "base.css").write_bytes(style_sheet(digest))
    (folder / "base.css.gz").write_bytes(gzip.compress(style_sheet(digest)))


def style_sheet(digest):
    return f"/* {digest} */".encode() * 100


def test_files_of_other_releases_are_served_as_those_of_this_one(tmp_path):
    assets.set_up(tmp_path)
    add_release(tmp_path, OTHER)
    app = create_app(settings_in(tmp_path, SECRET_KEY=SECRET_KEY))
    client = app.test_client()
    for digest in (OTHER, THIRD):
        if digest == THIRD:  # set-up of a release runs while this one serves
            assert client.get(f"/static/{THIRD}/css/base.css").status_code == 404
            add_release(tmp_path, THIRD)
        packed = client.get(f"/static/{digest}/css/base.css", headers=PACKED, buffered=True)
        assert packed.status_code == 200 and "immutable" in packed.headers["Cache-Control"]
        assert packed.content_encoding == "gzip" and gzip.decompress(packed.data) == style_sheet(digest)
        assert client.get(f"/static/{digest}/css/draw/draw.css").status_code == 404
    assert got(app, "css/base.css").data == (assets.FILES / "css/base.css").read_bytes()
    shutil.rmtree(tmp_path / "static" / OTHER)
    assert client.get(f"/static/{OTHER}/css/base.css").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        f"{OTHER}/../../secret_key",
        f"{OTHER}/%2e%2e/%2e%2e/secret_key",
        f"{OTHER}%2f..%2f..%2fsecret_key",
        f"{OTHER}/",
        f"{OTHER}",
        f"{OTHER}//css/base.css",
        f"{OTHER}/css/base.css.gz",
        f"{OTHER.upper()}/css/base.css",
        "unfinished12/css/base.css",
        "../secret_key",
        "..%2fsecret_key",
        ".../css/base.css",
        "\u0660123456789ab/css/base.css",
        f"{OTHER}/%00",
    ],
)
def test_nothing_but_files_of_releases_is_served(tmp_path, path):
    add_release(tmp_path, OTHER)
    add_release(tmp_path, "unfinished12")
    (tmp_path / "secret_key").write_text(SECRET_KEY)
    app = create_app(settings_in(tmp_path))
    assert app.test_client().get(f"/static/{path}").status_code == 404


@pytest.mark.parametrize(
    ("ages", "kept"),
    [
        ([], []),
        ([400], [400]),
        ([13, 400], [13, 400]),
        ([14.1, 400], [14.1]),
        ([1, 2, 3, 400, 401], [1, 2, 3, 400]),
        ([300, 400, 500], [300]),
    ],
)
def test_set_up_removes_old_copies_but_not_the_last_two(tmp_path, ages, kept):
    """A copy goes 14 days after the release that came after it. The test's ages are in days, the latest first."""
    for place, age in enumerate(ages):
        add_release(tmp_path, f"{place:012x}")
        os.utime(tmp_path / "static" / f"{place:012x}", (time.time() - age * 86_400,) * 2)
    (tmp_path / "static").mkdir(exist_ok=True)
    (tmp_path / "static" / "not-a-release").mkdir()
    assets.set_up(tmp_path)
    left = {path.name for path in (tmp_path / "static").iterdir()}
    assert {ages[int(name, 16)] for name in left if name.startswith("0000")} == set(kept)
    assert assets._copy(tmp_path).name in left and "not-a-release" in left


def test_set_up_of_a_release_that_comes_back_makes_it_the_latest(tmp_path):
    assets.set_up(tmp_path)
    own = assets._copy(tmp_path)
    os.utime(own, (0, 0))
    for place, digest in enumerate((OTHER, THIRD)):
        add_release(tmp_path, digest)
        os.utime(tmp_path / "static" / digest, (1 + place, 1 + place))
    assets.set_up(tmp_path)
    assert sorted(path.name for path in (tmp_path / "static").iterdir()) == sorted([own.name, THIRD])
