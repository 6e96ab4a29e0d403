"""The static files, at URLs with a digest of all of them, so that browsers may cache them for ever.

Set-up copies them to DATA_DIR/static/DIGEST with a compressed file beside each, which WhiteNoise sends to clients that
accept it. The copies of other releases stay there for a while and are served too: an open page loads some of its
modules late, and during a rolling upgrade the pages of two releases are in use.
Pages that contain both tokens and text from their URL are not compressed (the BREACH attack); see `compression`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from flask import Flask, abort
from whitenoise import WhiteNoise
from whitenoise.compress import Compressor

from webapp.middleware import access_log
from webapp.settings import ROOT

FILES = ROOT / "static"
DIGEST = re.compile("[0-9a-f]{12}", re.ASCII)
URL = re.compile(f"/static/({DIGEST.pattern})/", re.ASCII)
# The time that a release's files stay after another release has taken its place: longer than a page is left open.
KEPT_SECONDS = 14 * 24 * 3600


class StaticFiles(WhiteNoise):
    """Serve the files of this release, and those of other releases that have a copy in `copies`.

    Methods other than GET and HEAD are left to the application, whose errors have a body; WhiteNoise's are empty.
    """

    def __init__(self, application, copies: Path, digest: str):
        super().__init__(
            application,
            allow_all_origins=False,
            immutable_file_test=lambda path, url: True,
            mimetypes={".webmanifest": "application/manifest+json"},
        )
        self._copies, self._digests = copies, {digest}
        own = copies / digest
        self.add_files(own if own.exists() else FILES, f"static/{digest}")

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return self.application(environ, start_response)
        try:
            if found := URL.match(environ["PATH_INFO"]):
                self._look_for(found[1])
            return super().__call__(environ, start_response)
        except FileNotFoundError:  # set-up has removed an old copy meanwhile
            return self.application(environ, start_response)

    def _look_for(self, digest: str) -> None:
        """Add the files of another release once they are there: set-up may run while this process does."""
        if digest not in self._digests and (self._copies / digest).is_dir():
            self.add_files(self._copies / digest, f"static/{digest}")
            self._digests.add(digest)


def set_up(data_dir: Path) -> None:
    """Make the compressed copies of the current files in DATA_DIR, and remove those that are no longer needed."""
    copy = _copy(data_dir)
    if not copy.exists():
        _make(copy)
    os.utime(copy)  # the latest, also if an earlier release has come back
    _remove_old(copy.parent)


def _make(copy: Path) -> None:
    """Write the compressed copies of the current files, atomically."""
    copy.parent.mkdir(0o700, exist_ok=True)
    compressor = Compressor(use_brotli=False, quiet=True)
    with tempfile.TemporaryDirectory(dir=copy.parent) as folder:
        made = Path(folder, "files")
        for path in _files():
            file = made / path.relative_to(FILES)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, file)
            compressor.compress(str(file))
        try:
            made.rename(copy)
        except OSError:  # another set-up at the same time has made them
            if not copy.exists():
                raise


def _remove_old(copies: Path) -> None:
    """Remove the copies whose next one was set up KEPT_SECONDS ago; the last two stay."""
    latest_first = sorted(
        ((path.stat().st_mtime, path) for path in copies.iterdir() if DIGEST.fullmatch(path.name)), reverse=True
    )
    for (replaced_at, _), (_, path) in zip(latest_first[1:], latest_first[2:], strict=False):
        if replaced_at < time.time() - KEPT_SECONDS:
            shutil.rmtree(path, ignore_errors=True)  # another set-up may remove it too


def serve(app: Flask, data_dir: Path) -> StaticFiles:
    """Return the application with the files below /static/DIGEST/, DIGEST being that of all of them.

    With one digest for all, JavaScript modules that import each other by relative path are of one release.
    """
    copy = _copy(data_dir)
    # Any other path below /static/, and other methods.
    app.add_url_rule(access_log.STATIC, "static", lambda name: abort(404))
    base = app.config["APPLICATION_ROOT"].rstrip("/")
    app.jinja_env.globals["asset"] = lambda name: f"{base}/static/{copy.name}/{name}"
    return StaticFiles(app.wsgi_app, copy.parent, copy.name)


def _copy(data_dir: Path) -> Path:
    """Return the folder for the copies of the current files, named by their digest."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(path.relative_to(FILES).as_posix().encode() + b"\0" + path.read_bytes())
    return data_dir / "static" / digest.hexdigest()[:12]


def _files() -> list[Path]:
    return sorted(path for path in FILES.rglob("*") if path.is_file())
