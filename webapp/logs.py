"""Log lines of all our processes, in one form: one JSON object a line, or one line of text on a terminal."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextvars import ContextVar
from typing import Any

# The number of the request under way: on every line that is logged meanwhile.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
# Tells the processes whose output a supervisor passes on that it ends on a terminal.
TERMINAL = "INKLING_TERMINAL"
SECONDS = "%Y-%m-%dT%H:%M:%S"

_encode = json.JSONEncoder(default=str).encode


def set_up_logging(**always: Any) -> None:
    """Our events from INFO up, those of libraries from warnings up, on the error output; `always` is on every line."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(**always))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("webapp").setLevel(logging.INFO)
    if _on_a_terminal():  # where a person wants to see what goes wrong, and not every file that a page has
        logging.getLogger("webapp.requests").setLevel(logging.WARNING)


def formatter(**always: Any) -> logging.Formatter:
    """The form of a line, for whoever sets up a handler of its own."""
    if not _on_a_terminal():
        return JsonLines(always)
    text = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", SECONDS)
    text.converter = time.gmtime
    return text


class JsonLines(logging.Formatter):
    """`extra={"fields": {...}}` puts these beside the message; an exception is a string on the same line."""

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
