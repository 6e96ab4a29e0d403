"""The gallery, against predictions that are made up, so that the truth about them is known."""

import base64
import gzip
import io
import random
import re
from dataclasses import replace
from html import escape, unescape
from itertools import product
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import event

from model.data import mnist
from webapp.app import create_app
from webapp.presentation.filters import confidence, share
from webapp.services import services
from webapp.storage.schema import Artifact, Version
from webapp.versions.test_predictions import KEPT_VERSIONS, VersionPredictions, pack
from webapp.views.gallery import LEVELS, Page, confusion_levels, sheet

PERSON = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def test_set():
    return mnist.read_test()


def made_up(labels, seed=0, wrong_share=0.1):
    """Probabilities of a version that is wrong now and then, and often as sure as elsewhere: many ties."""
    rng = np.random.default_rng(seed)
    predicted = np.where(rng.random(len(labels)) < wrong_share, rng.integers(0, 10, len(labels)), labels)
    sure = rng.choice([0.25, 0.5, 0.75, 1.0], len(labels)) - rng.choice([0, 0.01], len(labels))
    found = np.repeat((1 - sure)[:, None] / 9, 10, axis=1)
    found[np.arange(len(labels)), predicted] = sure
    return found.astype(np.float16).astype(np.float32)


def keep(app, version_id, probabilities):
    with services(app).database.writing() as session:
        result = pack(probabilities)
        session.merge(Artifact(version_id=version_id, kind="predictions", fraction=1.0, result=result))


def add_version(app):
    with services(app).database.writing() as session:
        version = Version(
            source="run", preset="basic", sha256="", weights=b"", card={}, validation_accuracy=0.9, test_accuracy=0.9
        )
        session.add(version)
        session.flush()
        return version.id


@pytest.fixture
def probabilities(app, test_set):
    """Those of the champion, v1, in the database."""
    found = made_up(test_set[1])
    keep(app, 1, found)
    return found


@pytest.fixture(scope="module")
def shared_probabilities(shared_app, test_set):
    """The same in the installation that is only read from."""
    found = made_up(test_set[1])
    keep(shared_app, 1, found)
    return found


def slowly(labels, probabilities, true=None, predicted=None, outcome=None, order=None):
    """What a view shows, worked out the obvious way."""
    chosen = []
    for index, (label, row) in enumerate(zip(labels.tolist(), probabilities.tolist(), strict=True)):
        read = row.index(max(row))
        fits = true in (None, label) and predicted in (None, read)
        if fits and outcome in (None, "right" if label == read else "wrong"):
            chosen.append((max(row), index))
    if order == "sure":
        chosen.sort(key=lambda item: (-item[0], item[1]))
    if order == "unsure":
        chosen.sort()
    return [index for _, index in chosen]


def get(client, path, status=200, **query):
    response = client.get(path, query_string=urlencode(query) or None, headers=PERSON)
    assert response.status_code == status, response.text[-2000:]
    return response.text


def listed(html):
    return [int(number) for number in re.findall(r'<li id="p(\d+)">', html)]


def total(html):
    return int(re.search(r'<h2 id="shown">([\d,]+) ', html)[1].replace(",", ""))


def cells(html):
    """{(true, predicted): (count, address)} of the confusion matrix."""
    body = re.search(r'<table class="confusion".*?<tbody>(.*?)</tbody>', html, re.S)[1]
    found = {}
    for true, row in enumerate(body.split("<tr>")[1:]):
        for predicted, cell in enumerate(re.findall(r"<td.*?</td>", row, re.S)):
            address = re.search(r'href="([^"]*)"', cell)
            count = int(re.sub(r"<[^>]*>", "", cell))
            found[true, predicted] = count, unescape(address[1]) if address else None
    return found


def links(html, rel):
    return [unescape(address) for address in re.findall(rf'<a[^>]*rel="{rel}"[^>]*href="([^"]*)"', html)]


def sprite_address(html):
    return unescape(re.search(r'<image href="([^"]*)"', html)[1])


def alpha(png):
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    assert np.asarray(image)[..., :3].max() == 0
    return np.asarray(image)[..., 3]


# What a view selects


def test_readings_of_any_view_are_those_of_the_obvious_way(test_set):
    labels = test_set[1][:200]
    found = made_up(labels, seed=3)
    readings = VersionPredictions.unpack(labels, pack(found))
    digits = (None, *range(10))
    for view in product(digits, digits, (None, "right", "wrong"), (None, "sure", "unsure")):
        assert readings.select(*view).tolist() == slowly(labels, found, *view), view


def test_gallery_pages_list_every_picture_once_and_in_order(reader, test_set, shared_probabilities):
    draw = random.Random(20)
    for _ in range(12):
        view = {
            "true": draw.choice([None, *range(10)]),
            "predicted": draw.choice([None, *range(10)]),
            "outcome": draw.choice([None, "right", "wrong"]),
            "order": draw.choice([None, "sure", "unsure"]),
        }
        expected = slowly(test_set[1], shared_probabilities, **view)
        html = get(reader, "/gallery", **{name: value for name, value in view.items() if value is not None})
        assert total(html) == len(expected)
        found = listed(html)
        for _ in range(4):
            if not (following := links(html, "next")):
                assert found == expected
                break
            html = get(reader, following[0])
            found += listed(html)
        assert found == expected[: len(found)]


def test_gallery_last_page_ends_the_list(reader, shared_probabilities):
    html = get(reader, "/gallery", page=100)
    assert listed(html) == list(range(9_900, 10_000))
    assert links(html, "next") == []
    assert links(html, "prev") == ["/gallery?page=99"]


def test_gallery_view_without_pictures_says_so(client, app, test_set):
    keep(app, 1, made_up(test_set[1], wrong_share=0))
    html = get(client, "/gallery", outcome="wrong")
    assert "No picture is like that" in html and total(html) == 0 and listed(html) == []


# Figures


def test_gallery_matrix_counts_what_its_links_list(reader, test_set, shared_probabilities):
    found = cells(get(reader, "/gallery", order="sure"))
    assert len(found) == 100 and sum(count for count, _ in found.values()) == 10_000
    for (true, predicted), (count, address) in found.items():
        expected = slowly(test_set[1], shared_probabilities, true, predicted, order="sure")
        assert count == len(expected)
        assert (address is None) == (count == 0)
        if address and true == 3:
            html = get(reader, address)
            assert total(html) == count
            assert listed(html) == expected[:100]


def test_gallery_names_the_version_and_its_accuracy(reader, test_set, shared_probabilities):
    labels = test_set[1]
    right = shared_probabilities.argmax(1) == labels
    html = get(reader, "/gallery").replace("\u00a0", " ")
    assert f"Read by v1, <strong>{right.mean():.2%} right".replace("%", " %") in html
    table = re.search(r'<table class="per-digit".*?<tbody>(.*?)</tbody>', html, re.S)[1]
    found = re.findall(
        r'<td class="number">([\d.]+) % <span class="interval">\(([\d.]+) to ([\d.]+)\)</span></td>', table
    )
    assert [share for share, _, _ in found] == [f"{100 * right[labels == digit].mean():.2f}" for digit in range(10)]
    assert all(float(low) < float(share) < float(high) for share, low, high in found)


@pytest.mark.parametrize("always", [None, 0])
def test_gallery_of_a_perfect_or_hopeless_version_is_shown(client, app, test_set, always):
    labels = test_set[1]
    keep(app, 1, np.eye(10, dtype=np.float32)[labels if always is None else np.full_like(labels, always)])
    html = get(client, "/gallery")
    assert sum(count for count, _ in cells(html).values()) == 10_000
    get(client, "/gallery/17")


def test_gallery_shading_grows_with_the_count():
    draw = np.random.default_rng(5)
    for top in (1, 2, 10, 1_000):
        confusion = draw.integers(0, top + 1, (10, 10))
        levels = np.array(confusion_levels(confusion))
        errors = ~np.eye(10, dtype=bool)
        assert (np.diag(levels) == 0).all()
        assert ((levels > 0) == (confusion > 0))[errors].all() and levels.max() <= LEVELS
        order = np.argsort(confusion[errors])
        assert (np.diff(levels[errors][order]) >= 0).all()
    assert not np.any(confusion_levels(np.diag(np.arange(10))))


@pytest.mark.parametrize(
    "probability, text",
    [(0, "<1 %"), (0.0049, "<1 %"), (0.005, "1 %"), (0.125, "13 %"), (0.9949, "99 %"), (0.995, ">99 %"), (1, ">99 %")],
)
def test_confidence_never_claims_certainty(probability, text):
    assert confidence(probability).replace("\u00a0", " ") == text


def test_share_has_two_decimals():
    assert share(0.9946) == "99.46\u00a0%"


# Pictures


def test_sprite_holds_the_pictures_of_the_page(reader, test_set, shared_probabilities):
    html = get(reader, "/gallery", true=4, outcome="wrong", order="unsure")
    indexes = slowly(test_set[1], shared_probabilities, true=4, outcome="wrong", order="unsure")[:100]
    assert 1 < len(indexes) < 100, "an incomplete page tells more"
    response = reader.get(sprite_address(html))
    ink = alpha(response.data)
    assert ink.shape == (280, 280)
    boxes = re.findall(r'viewBox="(\d+) (\d+) 28 28"', html)
    assert len(boxes) == len(indexes)
    for index, (x, y) in zip(indexes, boxes, strict=True):
        assert np.array_equal(ink[int(y) : int(y) + 28, int(x) : int(x) + 28], test_set[0][index])
    assert ink.sum() == test_set[0][indexes].sum(dtype=int), "the rest is empty"


def test_sprite_is_one_for_a_page_and_kept(reader, shared_probabilities):
    html = get(reader, "/gallery", page=2)
    assert len(set(re.findall(r'<image href="([^"]*)"', html))) == 1
    response = reader.get(sprite_address(html))
    assert response.mimetype == "image/png"
    assert response.headers["Cache-Control"] == "public, immutable, max-age=31536000"
    assert "Set-Cookie" not in response.headers


def test_sprite_address_names_the_predictions(client, app, test_set, probabilities):
    address = sprite_address(get(client, "/gallery"))
    other = add_version(app)
    keep(app, other, made_up(test_set[1], seed=1))
    assert sprite_address(get(client, "/gallery", version=other)) != address
    foreign = re.sub(r"-[0-9a-f]{12}\.png", "-0123456789ab.png", address)
    assert client.get(foreign).status_code == 404
    assert client.get(address.replace("/1-", f"/{other}-")).status_code == 404
    assert client.get(address.replace("/1-", "/99-")).status_code == 404
    assert client.get(address.replace("/1-", f"/{10**30}-")).status_code == 404
    assert client.get(address + "?page=101").status_code == 404


def test_sheet_of_nothing_is_empty():
    assert not sheet(np.zeros((0, 28, 28), np.uint8)).any()


def test_gallery_pictures_say_what_they_were_read_as(reader, test_set, shared_probabilities):
    html = get(reader, "/gallery")
    for index, item in enumerate(re.findall(r'<li id="p\d+">.*?</li>', html, re.S)):
        label, read = int(test_set[1][index]), int(shared_probabilities[index].argmax())
        caption = re.sub(r"<[^>]*>", "", re.search(r'class="caption">(.*?)</span>\s*</a>', item, re.S)[1])
        assert caption == (str(label) if label == read else f"{label}→ read as {read}")
        assert ("is-wrong" in item) == (label != read)


def test_picture_page_shows_pixels_and_probabilities(reader, test_set, shared_probabilities):
    html = get(reader, "/gallery/1234").replace("\u00a0", " ")
    png = re.search(r'src="data:image/png;base64,([^"]*)"', html)[1]
    assert np.array_equal(alpha(base64.b64decode(png)), test_set[0][1234])
    assert f"A {test_set[1][1234]}, read as {shared_probabilities[1234].argmax()}" in html
    widths = [float(width) for width in re.findall(r'<rect width="([\d.]+)%"', html)]
    assert widths == pytest.approx((100 * shared_probabilities[1234]).tolist(), abs=0.01)
    assert re.findall(r'chance-value">([^<]*)<', html) == [
        escape(confidence(p)).replace("\u00a0", " ") for p in shared_probabilities[1234].tolist()
    ]


def test_picture_pages_lead_through_their_view(reader, test_set, shared_probabilities):
    view = {"true": 7, "outcome": "wrong", "order": "sure"}
    expected = slowly(test_set[1], shared_probabilities, **view)
    address, visited = f"/gallery/{expected[0]}?" + urlencode(view), []
    while address:
        html = get(reader, address)
        at = int(urlsplit(address).path.rpartition("/")[2])
        assert f"{len(visited) + 1} of {len(expected)}" in html
        before = links(html, "prev")
        assert [urlsplit(link).path for link in before] == [f"/gallery/{number}" for number in visited[-1:]]
        visited.append(at)
        address = next(iter(links(html, "next")), None)
    assert visited == expected
    back = unescape(re.search(r'class="back" href="([^"]*)"', html)[1])
    assert back == f"/gallery?{urlencode(view)}#p{expected[-1]}"


def test_picture_page_leads_back_to_its_page(reader, shared_probabilities):
    html = get(reader, "/gallery/1234")
    assert 'href="/gallery?page=13#p1234"' in html
    assert 1234 in listed(get(reader, "/gallery?page=13"))


def test_picture_outside_its_view_is_shown_among_all(reader, test_set, shared_probabilities):
    outside = int(np.flatnonzero(test_set[1] != 4)[0])
    response = reader.get(f"/gallery/{outside}?true=4&version=1")
    assert response.status_code == 302 and response.location == f"/gallery/{outside}?version=1"


# Addresses

BAD = [
    "true=10", "true=-1", "true=x", "true=%EF%BC%94", "true=04", "predicted=4.0", "outcome=maybe", "outcome=RIGHT",
    "order=1", "order=random", "page=0", "page=-1", "page=two", "page=1e2", "page=%00", "page=99999999999999999999",
    "version=0", "version=v1", "version=99999999999", "true=4&true=5", "page=1&page=2",
]  # fmt: skip


@pytest.mark.parametrize("query", BAD)
def test_gallery_bad_parameter_is_refused(reader, shared_probabilities, query):
    for path in ("/gallery", "/gallery/5", "/gallery/progress"):
        response = reader.get(f"{path}?{query}")
        assert (response.status_code, response.json["error"]["code"]) == (400, "bad_view")
        assert query.partition("=")[0] in response.json["error"]["message"]


@pytest.mark.parametrize(
    "address",
    ["/gallery?page=101", "/gallery?true=4&page=99", "/gallery/10000", "/gallery/99999999999999999999", "/gallery/-1",
     "/gallery?version=77", "/gallery/5?version=2147483647", "/gallery/progress?version=77", "/gallery/x"],
)  # fmt: skip
def test_gallery_address_of_nothing_is_not_found(reader, shared_probabilities, address):
    assert reader.get(address).status_code == 404


@pytest.mark.parametrize(
    "query, clean",
    [
        ("true=&predicted=&outcome=&order=", ""),
        ("true=4&predicted=&outcome=wrong&order=", "?true=4&outcome=wrong"),
        ("true=4&page=1", "?true=4"),
        ("page=002", "?page=2"),
        ("true=4&utm_source=letter", "?true=4"),
        ("version=1&true=", "?version=1"),
    ],
)
def test_gallery_address_is_cleaned(reader, shared_probabilities, query, clean):
    response = reader.get(f"/gallery?{query}")
    assert response.status_code == 302 and response.location == "/gallery" + clean
    assert reader.get(response.location).status_code == 200


def test_page_links_name_the_ends_and_the_neighbours():
    for count in range(1, 12):
        for number in range(1, count + 1):
            linked = Page(number, count, 0, np.arange(0)).neighbours
            shown = [page for page in linked if page]
            assert shown == sorted(set(shown)) and shown[0] == 1 and shown[-1] == count
            assert {number - 1, number, number + 1} & set(range(1, count + 1)) <= set(shown)
            for before, between, after in zip(linked, linked[1:], linked[2:], strict=False):
                assert between is not None or after - before > 2


def test_gallery_markup_in_an_address_stays_text(reader, shared_probabilities):
    response = reader.get("/gallery?true=<script>alert(1)</script>", headers=PERSON)
    assert response.status_code == 400 and "<script>alert" not in response.text


def test_gallery_pages_need_nothing_inline(client, app, probabilities, test_set):
    other = add_version(app)
    for address in ("/gallery?outcome=wrong&order=sure", "/gallery/8", f"/gallery?version={other}"):
        html = get(client, address)
        assert not re.search(r"<[^>]*\s(style|on\w+)=", html) and "<style" not in html
        assert not re.search(r"<script(?![^>]*\ssrc=)", html)


def test_gallery_pages_are_compressed(reader, shared_probabilities):
    for address, part in (("/gallery", 0.15), ("/gallery/8", 0.5)):
        plain, packed = (reader.get(address, headers=PERSON | more) for more in ({}, {"Accept-Encoding": "gzip"}))
        assert gzip.decompress(packed.data) == plain.data and len(packed.data) < part * len(plain.data)
        assert "csrf" not in plain.text


# Versions


def test_gallery_of_another_version_says_so(client, app, test_set, probabilities):
    other = add_version(app)
    theirs = made_up(test_set[1], seed=9, wrong_share=0.5)
    keep(app, other, theirs)
    html = get(client, "/gallery", version=other, outcome="wrong")
    assert total(html) == (theirs.argmax(1) != test_set[1]).sum()
    assert f"Read by v{other}" in html and "not in service" in html
    query = parse_qs(urlsplit(cells(html)[3, 3][1]).query)
    assert query["version"] == [str(other)], "links stay with the version"
    assert "not in service" not in get(client, "/gallery", version=1)


def test_gallery_keeps_a_few_versions_in_memory(client, app, test_set, probabilities):
    wrong = {}
    for seed in range(KEPT_VERSIONS + 2):
        version = add_version(app)
        found = made_up(test_set[1], seed, wrong_share=0.02 * (seed + 1))
        keep(app, version, found)
        wrong[version] = (found.argmax(1) != test_set[1]).sum()
    for version in [*wrong, *wrong]:
        assert total(get(client, "/gallery", version=version, outcome="wrong")) == wrong[version]
    assert services(app).predictions.readings.cache_info().currsize == KEPT_VERSIONS


# Waiting


def keep_part(app, **values):
    with services(app).database.writing() as session:
        session.merge(Artifact(version_id=1, kind="predictions", **values))


def test_gallery_without_predictions_says_how_far_they_are(client, app, test_set):
    for address in ("/gallery", "/gallery/8", "/gallery"):
        assert "Computing" in get(client, address)
    assert client.get("/gallery/progress").json == {"version": "v1", "fraction": 0.0, "ready": False, "error": None}
    assert client.get("/gallery/sprite/1-0123456789ab.png").status_code == 404
    keep_part(app, fraction=0.4)
    response = client.get("/gallery")
    assert 'value="0.4"' in response.text and "40 %" in response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert re.search(r'<noscript><meta http-equiv="refresh"', response.text)
    assert 'data-progress-url="/gallery/progress?version=1"' in response.text
    keep(app, 1, made_up(test_set[1]))
    assert client.get("/gallery/progress").json["ready"] is True
    assert len(listed(get(client, "/gallery"))) == 100


def test_gallery_with_failed_predictions_says_why(client, app):
    keep_part(app, error="The weights are damaged.")
    html = get(client, "/gallery")
    assert "could not read the test digits" in html and "The weights are damaged." in html
    assert client.get("/gallery/progress").json["error"] == "The weights are damaged."


# Without the data set


@pytest.fixture
def without_mnist(settings, tmp_path):
    app = create_app(replace(settings, mnist_dir=tmp_path / "nothing"))
    yield app
    services(app).database.close()


def test_gallery_without_mnist_says_what_fetches_it(without_mnist, tmp_path):
    client = without_mnist.test_client()
    for address in ("/gallery", "/gallery/8", "/gallery/progress"):
        html = get(client, address, status=503)
        assert "make data" in html and str(tmp_path / "nothing") in html and "Gallery" in html
    error = client.get("/gallery", headers={"Accept": "application/json"})
    assert error.status_code == 503 and error.json["error"]["code"] == "no_mnist"


def test_gallery_with_damaged_mnist_says_so(without_mnist, tmp_path):
    raw = tmp_path / "nothing" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"\0" * 100)
    assert "is damaged" in get(without_mnist.test_client(), "/gallery", status=503)


def test_gallery_opens_as_soon_as_mnist_is_there(without_mnist, tmp_path, test_set):
    client = without_mnist.test_client()
    get(client, "/gallery", status=503)
    raw = tmp_path / "nothing" / "MNIST" / "raw"
    raw.parent.mkdir(parents=True)
    raw.symlink_to(mnist.default_folder() / "MNIST" / "raw")
    keep(without_mnist, 1, made_up(test_set[1]))
    assert len(listed(get(client, "/gallery"))) == 100


# Cost


def test_gallery_queries_do_not_grow_with_versions(app, probabilities):
    keep(app, 1, probabilities)
    statements, client = [], app.test_client()
    event.listen(services(app).database.engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    asked = []
    for kept in (0, 30):
        for _ in range(kept):
            add_version(app)
        for address in ("/gallery?outcome=wrong&order=sure", "/gallery?true=3&version=1", "/gallery/77"):
            client.get(address)
            statements.clear()
            assert client.get(address).status_code == 200
            asked.append(list(statements))
    assert asked[:3] == asked[3:] and all(len(each) < 5 for each in asked)
    assert not [statement for each in asked for statement in each if "weights" in statement]
