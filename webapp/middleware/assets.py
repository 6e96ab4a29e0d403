"""The static files, below an address that names all of them: browsers may keep them for ever.

Set-up leaves a copy of them in DATA_DIR with a compressed one beside each, which WhiteNoise sends to whoever takes it.
Pages are not compressed: they hold tokens beside what an address says (the BREACH attack).
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


class ReadOnly(WhiteNoise):
    """Has the application refuse what does not read, in the form of all its errors; WhiteNoise's own is empty."""

    def __call__(self, environ, start_response):
        serve = super().__call__ if environ["REQUEST_METHOD"] in ("GET", "HEAD") else self.application
        return serve(environ, start_response)


def compress(data_dir: Path) -> None:
    """Leaves the compressed copies of the files as they are now, at once or not at all."""
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
        except OSError:  # set up twice at once: the other one's are as good
            if not copy.exists():
                raise


def serve(app: Flask, data_dir: Path) -> ReadOnly:
    """The application with the files below /static/HASH/, where HASH is that of all of them.

    So modules that import each other by relative path stay of one age.
    """
    copy = _copy(data_dir)
    prefix = f"static/{copy.name}"
    # What is none of these files, or not to be read.
    app.add_url_rule(access_log.STATIC, "static", lambda name: abort(404))
    app.jinja_env.globals["asset"] = lambda name: f"/{prefix}/{name}"
    return ReadOnly(
        app.wsgi_app,
        root=copy if copy.exists() else FILES,
        prefix=prefix,
        allow_all_origins=False,
        immutable_file_test=lambda path, url: True,
    )


def _copy(data_dir: Path) -> Path:
    """Where the copies of the files as they are now belong, in a folder named by their digest."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(path.relative_to(FILES).as_posix().encode() + b"\0" + path.read_bytes())
    return data_dir / "static" / digest.hexdigest()[:12]


def _files() -> list[Path]:
    return sorted(path for path in FILES.rglob("*") if path.is_file())
