"""The benchmark of the whole road, in small: a real server, real requests."""

import dataclasses
import gzip
import json
import threading

import numpy as np
import pytest
from PIL import Image
from werkzeug.serving import make_server

from benchmarks import corrections, label_quality, numbers, recognition, seeds
from model.data import hands, mnist, splits
from model.data.strokes import Drawing
from model.imaging.ink import ink_in_place
from model.imaging.pieces import components
from model.imaging.png import png
from model.imaging.writing import find_writing
from model.inference import weights
from model.inference.classifier import SHIPPED, Classifier
from tests.support.written_numbers import strokes_of
from webapp.services import services


@pytest.fixture
def url(app):
    services(app).active_model.classifier().warm()
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


def test_recognition_table_names_every_goal(url, folder, capsys):
    assert recognition.main([str(folder), "--url", url, "--count", "3"]) == 0
    table, told = capsys.readouterr().out.rsplit("\n\n", 1)
    for words in ("MNIST test set, 3", "strokes, 3 digits", "strokes, 2 others", "strokes, 3 pairs", "98.3 %", "98 %"):
        assert words in table
    figures = {line.split("|")[1].strip(): line.split("|")[3].strip() for line in table.splitlines()[2:]}
    assert figures["blank refused"] == "100.00 %" and figures["error"] == "0.00 % (0.00 to 56.15)"
    assert {"same answer: all at once", "same answer: all at once, any pen"} <= set(figures)
    assert told.startswith("v1 at http://127.0.0.1:")


def test_recognition_server_agrees_with_the_network(url, mnist_images):
    pictures = list(recognition.enlarged(mnist_images, lambda: None)) + [Image.new("L", (280, 280), 255)]
    with recognition.Server(url) as server:
        answers = server.ask(pictures)
    classifier = Classifier(SHIPPED.read_bytes, "")
    expected = [classifier.predict_digit_image(find_writing(png(picture)).digit_image()) for picture in pictures]
    assert answers.probabilities[:-1].tolist() == [list(reading.probabilities) for reading in expected[:-1]]
    assert not answers.probabilities[-1].any() and answers.not_a_digit[-1] == 1
    assert answers.predicted[-1] == -1
    assert answers.refused.tolist() == [reading.verdict in ("blank", "not_a_digit") for reading in expected]


class Answering(recognition.Server):
    """A server that says what it is told to, in order."""

    def __init__(self, *answers):
        super().__init__("http://inkling")
        self._given = iter(answers)

    def _post(self, picture):
        return next(self._given)


def answer(version="v1", verdict="digit", score=0):
    probabilities = [] if verdict == "blank" else [0.1] * 10
    return {"version": version, "verdict": verdict, "probabilities": probabilities, "not_a_digit": score}


PICTURE = Image.new("L", (280, 280), 255)


def test_recognition_without_refusals_has_no_scores():
    with Answering(answer(), answer(verdict="blank")) as server:
        assert server.ask([PICTURE] * 2).not_a_digit is None
    with Answering(answer(), answer(verdict="blank"), answer(score=0.3)) as server:
        assert server.ask([PICTURE] * 3).not_a_digit.tolist() == [0, 1, 0.3]


def test_recognition_missing_figures_are_dashes():
    with Answering(*[answer()] * 40) as server:
        drawings = [Drawing(1, (np.array([[0.0, 0.0], [3.0, 90.0]]),)), Drawing(None, (np.zeros((1, 2)),))]
        found = recognition.robustness.stroke_figures(server.ask, drawings, 0, lambda: None)
    reached = {what: figure for what, _, figure, _ in recognition._stroke_rows(found)}
    assert reached["area under the ROC curve"] == reached["refused where 2 % of digits are"] == "-"


def test_recognition_version_change_ends_the_run():
    with Answering(answer(), answer(), answer("v2")) as server:
        server.ask([PICTURE])
        with pytest.raises(recognition.ServerError, match="changed from v1 to v2 in the middle"):
            server.ask([PICTURE] * 2)
        assert server.version == "v1"


def test_recognition_drawings_are_shuffled_where_few_are_asked_for():
    drawings = [Drawing(i % 10 if i < 60 else None, ()) for i in range(80)]
    assert recognition.chosen(drawings, None, 3) == drawings
    few = recognition.chosen(drawings, 7, 3)
    assert [drawing.digit is None for drawing in few] == [False] * 7 + [True] * 7
    assert few == recognition.chosen(drawings, 7, 3) != recognition.chosen(drawings, 7, 4)


@pytest.fixture
def mnist_images():

    return mnist.read_test()[0][:40]


def test_recognition_mistake_is_one_line(folder, tmp_path, capsys):
    for arguments, told in (
        ([str(folder), "--url", "http://127.0.0.1:9"], "does not answer"),
        ([str(tmp_path / "absent")], "is not a folder"),
    ):
        assert recognition.main(arguments) == 2
        complaint = capsys.readouterr().err.splitlines()[-1]
        assert complaint.startswith("recognition: ") and told in complaint


def test_recognition_no_digits_are_drawn_by_seed():
    digits = [Drawing(1, (np.array([[0.0, 0.0], [3.0, 90.0]]),)), Drawing(7, (np.array([[0.0, 0.0], [50.0, 0.0]]),))]
    kinds = [recognition.dot, recognition.dash, recognition.scribble, recognition.filled_box]
    for draw in (*kinds, recognition.side_by_side(digits)):
        first, second = (np.asarray(draw(np.random.default_rng(3))) for _ in range(2))
        assert np.array_equal(first, second) and (first < 128).any() and first.shape == (280, 280)


def test_label_quality_bench_judges_four_kinds_of_pictures(tmp_path, monkeypatch, capsys):
    strokes = {"1": [[5, 0, 5, 900]], "7": [[0, 0, 500, 0, 200, 900]], "4": [[5, 0, 5, 900]]}
    rows = [{"label": label, "strokes": strokes[label]} for label in [*"1717171717", *"44444"]]
    (tmp_path / "all.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    for name, value in {"JUDGED": 10, "WRONG": 2, "MOST_LOOKS": 3}.items():
        monkeypatch.setattr(label_quality, name, value)
    few = splits.load().subset(2_000)
    monkeypatch.setattr(splits, "load", lambda: few)
    assert label_quality.main([str(tmp_path)]) == 0
    table, machine = capsys.readouterr().out.rstrip().rsplit("\n\n", 1)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[1] for row in cells] == ["10"] * 4 and "cores" in machine
    assert all(row[3].endswith(" of 2") for row in cells)
    assert cells[0][3] == "2 of 2" and int(cells[3][2]) <= 6, "few drawings are misread, in several looks each"
    assert label_quality.main([str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.startswith("label_quality: ")


@pytest.mark.stress
def test_corrections_bench_measures_on_other_writers(tmp_path, monkeypatch, capsys):
    rows = [
        {"label": label, "donor": "d", "writer": writer, "strokes": [[5 * i, 0, slant, 900]]}
        for label in "17"
        for writer in ("ann", "bob", "cy")
        for i, slant in enumerate((0, 40, 80))
    ]
    (tmp_path / "all.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    for name, value in {"LEARNT": 4, "LEAST_HELD_OUT": 3, "LEAST_DRAWINGS": 7, "STYLES": 1}.items():
        monkeypatch.setattr(corrections, name, value)
    few = splits.load().subset(200)
    monkeypatch.setattr(splits, "load", lambda: few)
    monkeypatch.setattr("sys.argv", ["corrections", str(tmp_path), "--weights", str(SHIPPED)])
    corrections.main()
    first, _, style = capsys.readouterr().out.splitlines()
    assert first.startswith("18 drawings, 50.00% read right")
    assert style.split()[:4] == ["d,", "7", "4", "3"], "what is a stroke is no seven; one writer is left to measure by"


def test_corrections_bench_learns_from_other_writers(monkeypatch):
    monkeypatch.setattr(corrections, "LEARNT", 4)
    monkeypatch.setattr(corrections, "LEAST_HELD_OUT", 3)
    writers = np.array(["ann"] * 3 + ["bob"] * 3 + ["cy"] * 3)
    written = corrections.Handwriting(np.zeros((9, 28, 28), np.uint8), np.ones(9), writers, writers)
    learnt, held_out = corrections.parts(np.arange(9), written)
    assert len(learnt) == 4 and not set(writers[learnt]) & set(writers[held_out])
    alone = corrections.Handwriting(written.images, written.labels, writers, np.array(["ann"] * 9))
    learnt, held_out = corrections.parts(np.arange(9), alone)
    assert sorted([*learnt, *held_out]) == list(range(9))


def test_seeds_bench_measures_each_network_once(tmp_path, monkeypatch, capsys):
    few = splits.load().subset(200)
    monkeypatch.setattr(splits, "load", lambda: few)
    monkeypatch.setattr("sys.argv", ["seeds", "basic", "--seeds", "3", "8", "--keep", str(tmp_path)])
    seeds.main()
    printed = capsys.readouterr().out
    first, second = (
        weights.read_card(weights.read(tmp_path / f"basic-{seed}.safetensors")).test_accuracy for seed in (3, 8)
    )
    mean, deviation = 50 * (first + second), 100 * abs(first - second) / 2**0.5
    assert f"| `basic` | 2 | {mean:.2f} ± {deviation:.2f} % |" in printed
    monkeypatch.setattr(seeds, "train", lambda *args: pytest.fail("trained again"))
    seeds.main()
    assert capsys.readouterr().out == printed
    first = tmp_path / "basic-3.safetensors"
    arrays, card = weights.unpack(first.read_bytes())
    first.write_bytes(weights.pack(arrays, dataclasses.replace(card, split=None)))
    with pytest.raises(SystemExit, match="is another training"):
        seeds.main()


@pytest.fixture
def two_writers(tmp_path):
    """Strokes of two writers' digits."""
    lines = []
    for writer, hand in zip("ab", hands.HANDS[2:], strict=False):
        for digit in range(10):
            strokes = [stroke.ravel().round().tolist() for stroke in strokes_of(str(digit), hand)]
            lines.append({"label": str(digit), "writer": writer, "strokes": strokes})
    (tmp_path / "two.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    return tmp_path


def test_numbers_table_has_each_arrangement_and_reader(two_writers, capsys, monkeypatch):
    monkeypatch.setattr(numbers, "ARRANGEMENTS", ("spaced", "symbols"))
    assert numbers.main([str(two_writers), "--count", "2"]) == 0
    table, calibration, told = capsys.readouterr().out.strip().split("\n\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    ours = [row for row in rows if row[1] in ("strokes sent", "picture alone")]
    ways = "strokes sent", "picture alone"
    assert [row[:2] for row in ours] == [[kind, way] for kind in ("spaced", "symbols") for way in ways]
    assert ours[0][2] == ours[0][3] == "100%" and ours[0][4].endswith(" ms")
    assert calibration.startswith("| confidence |") and told.startswith("2 numbers of each kind")


def test_numbers_need_two_writers(folder, capsys):
    assert numbers.main([str(folder)]) == 2
    assert "too few writers" in capsys.readouterr().err


def test_numbers_are_arranged_as_they_say():
    digits = [Drawing(digit, tuple(strokes_of(str(digit), hands.HANDS[2])), "a") for digit in range(10)]
    random = np.random.default_rng(1)
    for arrangement in numbers.ARRANGEMENTS:
        for _ in range(10):
            sample = numbers.compose(digits, arrangement, random)
            points = np.concatenate(sample.strokes)
            assert sample.picture.size == (numbers.FIELD, numbers.FIELD)
            assert points.min() > numbers.PEN and points.max() < numbers.FIELD - numbers.PEN
            assert 2 <= sum(sign.isdigit() for sign in sample.text) <= 6
            assert len(components(ink_in_place(sample.picture))) >= len(sample.text) or arrangement == "overlapping"
