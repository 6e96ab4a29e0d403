"""The benchmark of composed photos: every kind shows the digit that its label says, and the table counts answers."""

import gzip
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks import photos
from benchmarks.composed.chance import Chance
from benchmarks.composed.kinds import GROUPS, KINDS
from benchmarks.composed.sheet import Sheet
from model.data import glyphs
from model.data.strokes import Drawing
from model.imaging.normalise import digit_image
from model.inference.classifier import SHIPPED, Classifier

FORMS = {digit: glyphs.skeleton(glyphs.DIGITS[digit][0]) for digit in (0, 2, 3, 5, 8)}
DRAWINGS = [Drawing(digit, (form.curve @ form.controls,)) for digit, form in FORMS.items()]


def composed(kind, drawing, seed):
    data = kind.compose(drawing, Chance(np.random.default_rng(seed), varied=kind.group != "recipes"))
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"), int)


# the largest is composed as the second largest, and takes seconds
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "4032" not in kind.name], ids=lambda kind: kind.name)
def test_kind_shows_the_digit_of_its_drawing(kind, monkeypatch):
    seed = len(kind.name)
    drawing = DRAWINGS[seed % len(DRAWINGS)]
    picture = composed(kind, drawing, seed)
    assert np.array_equal(picture, composed(kind, drawing, seed)), "the same numbers give the same picture"
    monkeypatch.setattr(Sheet, "write", lambda *arguments, **named: None)
    ink = np.abs(picture - composed(kind, drawing, seed)).max(2)
    shown = digit_image(Image.fromarray((255 - ink).astype(np.uint8)))
    found = Classifier(SHIPPED.read_bytes, "").predict_digit_image(shown)
    assert found.top[0][0] == drawing.digit


def test_kinds_have_names_of_their_own():
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert {kind.group for kind in KINDS} == set(GROUPS)


@pytest.fixture
def folder(tmp_path):
    rows = [
        {"label": str(drawing.digit), "strokes": [stroke.ravel().round(1).tolist() for stroke in drawing.strokes]}
        for drawing in DRAWINGS
    ]
    (tmp_path / "all.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return tmp_path


def test_photos_bench_counts_answers_of_each_kind(folder, tmp_path, capsys):
    Image.fromarray(np.full((40, 40), 255, np.uint8)).save(tmp_path / "blank.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    rows = [{"file": "blank.png", "kind": "e", "label": "beta"}, {"file": "broken.jpg", "kind": "c", "label": "7"}]
    (tmp_path / "index.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sheet = tmp_path / "failures.png"
    arguments = [str(folder), "--count", "3", "--kinds", "vignette", "--photos", str(tmp_path), "--sheet", str(sheet)]
    assert photos.main(arguments) == 0
    composed, real, _ = capsys.readouterr().out.split("\n\n")
    cells = {line.split("|")[1].strip(): line.split("|")[2:6] for line in (composed + "\n" + real).splitlines()}
    assert [cell.strip() for cell in cells["vignette"][:3]] == ["3", "100.0 %, 0 wrong", "100.0 %"]
    assert [cell.strip() for cell in cells["e"]] == ["1", "", "100.0 %", "0 (0.0 %)"]
    assert [cell.strip() for cell in cells["c"]] == ["1", "", "0.0 %", "0 (0.0 %)"]
    with Image.open(sheet) as failures:
        assert failures.width == photos.CELL * photos.COLUMNS


@pytest.mark.parametrize("row", ['{"kind": "a"}', "[]", "no JSON"])
def test_photos_bench_mistake_is_one_line(folder, tmp_path, capsys, row):
    (tmp_path / "index.jsonl").write_text(row)
    assert photos.main([str(folder), "--kinds", "--photos", str(tmp_path)]) == 2
    assert photos.main([str(tmp_path / "absent")]) == 2
    complaints = capsys.readouterr().err.splitlines()
    assert [line.startswith("photos: ") for line in complaints if "photos:" in line] == [True, True]
