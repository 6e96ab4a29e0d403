"""What `make` installs is pinned by version and hash, and is what requirements/ asks for."""

import re

import pytest

from webapp.settings import ROOT

FILES = {
    "requirements/run.in": "requirements.txt",
    "requirements/dev.in": "requirements-dev.txt",
    "requirements/node.in": "requirements/node.txt",
}


def lines(path):
    return [line.strip() for line in (ROOT / path).read_text().splitlines() if line.strip() and line[0] != "#"]


def canonical(requirement):
    """A pinned requirement without extras, in the form of the name that tools write (PEP 503)."""
    name, version = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?==([\w.]+)", requirement).groups()
    return re.sub(r"[-_.]+", "-", name).lower(), version


@pytest.mark.parametrize("source, pinned", FILES.items())
def test_what_is_asked_for_is_pinned_with_hashes(source, pinned):
    found, package = {}, None
    for line in lines(pinned):
        if line.startswith("--hash="):
            assert re.fullmatch(r"--hash=sha256:[0-9a-f]{64}( \\)?", line)
            found[package] += 1
        else:
            package = canonical(line.removesuffix(" \\").partition(" ;")[0])
            found[package] = 0
    assert all(found.values())
    asked = {canonical(line) for line in lines(source) if not line.startswith("-")}
    assert asked - found.keys() <= {("torch", torch_version())}


def torch_version():
    return next(line for line in lines("requirements/run.in") if line.startswith("torch==")).partition("==")[2]
