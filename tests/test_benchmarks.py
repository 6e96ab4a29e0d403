"""The benchmark of the whole road, in small: a real server, real requests."""

import gzip
import json
import threading

import numpy as np
import pytest
from PIL import Image
from werkzeug.serving import make_server

from benchmarks import recognition
from model.recognizer import SHIPPED, Recognizer
from model.strokes import Drawing
from webapp.services import services


@pytest.fixture
def url(app):
    services(app).live.recognizer().warm()
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    digits = [{"label": "1", "strokes": [[5, 0, slant, 900]]} for slant in range(4)]
    others = [{"label": "v", "strokes": [[0, 0, 400, 900, 800, 0]]}] * 2
    (tmp_path / "all.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, digits + others)).encode()))
    return tmp_path


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(recognition, "OF_EACH_KIND", 2)


def test_the_table_names_every_goal(url, folder, capsys):
    assert recognition.main([str(folder), "--url", url, "--count", "3"]) == 0
    table, told = capsys.readouterr().out.rsplit("\n\n", 1)
    for words in ("MNIST test set, 3", "strokes, 3 digits", "strokes, 2 others", "strokes, 3 pairs", "98.3 %", "98 %"):
        assert words in table
    figures = {line.split("|")[1].strip(): line.split("|")[3].strip() for line in table.splitlines()[2:]}
    assert figures["blank refused"] == "100.00 %" and figures["error"] == "0.00 %"
    assert told.startswith("v1 at http://127.0.0.1:")


def test_the_server_says_what_the_network_says(url, mnist_images):
    pictures = list(recognition.enlarged(mnist_images, lambda: None)) + [Image.new("L", (280, 280), 255)]
    with recognition.Server(url) as server:
        answers = server.ask(pictures)
    recognizer = Recognizer(SHIPPED.read_bytes, "")
    expected = [recognizer.recognize(picture) for picture in pictures]
    assert answers.probabilities[:-1].tolist() == [list(reading.probabilities) for reading in expected[:-1]]
    assert not answers.probabilities[-1].any() and answers.not_a_digit[-1] == 1
    assert answers.predicted[-1] == -1
    assert answers.refused.tolist() == [reading.verdict in ("blank", "not_a_digit") for reading in expected]


@pytest.fixture
def mnist_images():
    from model import mnist

    return mnist.read_test()[0][:40]


def test_what_goes_wrong_is_one_line(folder, tmp_path, capsys):
    for arguments, told in (
        ([str(folder), "--url", "http://127.0.0.1:9"], "does not answer"),
        ([str(tmp_path / "absent")], "is not a folder"),
    ):
        assert recognition.main(arguments) == 2
        complaint = capsys.readouterr().err.splitlines()[-1]
        assert complaint.startswith("recognition: ") and told in complaint


def test_what_is_no_digit_is_drawn_with_ink_and_the_same_by_the_same_seed():
    digits = [Drawing(1, (np.array([[0.0, 0.0], [3.0, 90.0]]),)), Drawing(7, (np.array([[0.0, 0.0], [50.0, 0.0]]),))]
    kinds = [recognition.dot, recognition.dash, recognition.scribble, recognition.filled_box]
    for draw in (*kinds, recognition.side_by_side(digits)):
        first, second = (np.asarray(draw(np.random.default_rng(3))) for _ in range(2))
        assert np.array_equal(first, second) and (first < 128).any() and first.shape == (280, 280)
