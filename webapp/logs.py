"""The log format of all processes: a JSON object a line, or a line of text on a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

# The id of the current request, or of the one that started the work at hand, on each of its log lines.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
# Tells it to a child process.
REQUEST_ID = "INKLING_REQUEST_ID"
# Set for processes whose output a supervisor passes on to a terminal.
TERMINAL = "INKLING_TERMINAL"
SECONDS = "%Y-%m-%dT%H:%M:%S"

_encode = json.JSONEncoder(default=str).encode


def set_up_logging(level: str = "info", **always: Any) -> None:
    """Log the application's events from `level` up and those of libraries from WARNING up to stderr.

    The fields in `always` are on every JSON line.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(**always))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("webapp").setLevel(level.upper())
    if _on_a_terminal() and level != "debug":  # a line for each file of a page would hide the errors
        logging.getLogger("webapp.requests").setLevel(logging.WARNING)


@contextmanager
def logged_for(request: str | None) -> Iterator[None]:
    """Put the id of a request on the log lines of this thread, and of child processes by `REQUEST_ID`."""
    token = request_id.set(request)
    try:
        yield
    finally:
        request_id.reset(token)


def formatter(**always: Any) -> logging.Formatter:
    """Return the formatter of log lines, for other handlers."""
    if not _on_a_terminal():
        return JsonLines(always)
    text = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", SECONDS)
    text.converter = time.gmtime
    return text


class JsonLines(logging.Formatter):
    """Format a record as a JSON object, with the members of `extra={"fields": {...}}`, any traceback as a string."""

    converter = staticmethod(time.gmtime)

    def __init__(self, always: dict[str, Any]):
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{self.formatTime(record, SECONDS)}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
        }
        if (number := request_id.get()) is not None:
            line["request"] = number
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


def _on_a_terminal() -> bool:
    return sys.stderr.isatty() or bool(os.environ.get(TERMINAL))
