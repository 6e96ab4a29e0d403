"""The static files, at URLs with a digest of all of them, so that browsers may cache them for ever.

Set-up copies them to DATA_DIR with a compressed file beside each, which WhiteNoise sends to clients that accept it.
Pages that contain both tokens and text from their URL are not compressed (the BREACH attack); see `compression`.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from flask import Flask, abort
from whitenoise import WhiteNoise
from whitenoise.compress import Compressor

from webapp.middleware import access_log
from webapp.settings import ROOT

FILES = ROOT / "static"


class StaticFiles(WhiteNoise):
    """Leave methods other than GET and HEAD to the application, whose errors have a body; WhiteNoise's are empty."""

    def __call__(self, environ, start_response):
        serve = super().__call__ if environ["REQUEST_METHOD"] in ("GET", "HEAD") else self.application
        return serve(environ, start_response)


def compress(data_dir: Path) -> None:
    """Write the compressed copies of the current files to DATA_DIR, atomically."""
    copy = _copy(data_dir)
    if copy.exists():
        return
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


def serve(app: Flask, data_dir: Path) -> StaticFiles:
    """Return the application with the files below /static/HASH/, HASH being the digest of all of them.

    With one digest for all, JavaScript modules that import each other by relative path are of one release.
    """
    copy = _copy(data_dir)
    prefix = f"static/{copy.name}"
    # Any other path below /static/, and other methods.
    app.add_url_rule(access_log.STATIC, "static", lambda name: abort(404))
    base = app.config["APPLICATION_ROOT"].rstrip("/")
    app.jinja_env.globals["asset"] = lambda name: f"{base}/{prefix}/{name}"
    return StaticFiles(
        app.wsgi_app,
        root=copy if copy.exists() else FILES,
        prefix=prefix,
        allow_all_origins=False,
        immutable_file_test=lambda path, url: True,
        mimetypes={".webmanifest": "application/manifest+json"},
    )


def _copy(data_dir: Path) -> Path:
    """Return the folder for the copies of the current files, named by their digest."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(path.relative_to(FILES).as_posix().encode() + b"\0" + path.read_bytes())
    return data_dir / "static" / digest.hexdigest()[:12]


def _files() -> list[Path]:
    return sorted(path for path in FILES.rglob("*") if path.is_file())
