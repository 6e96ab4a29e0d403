"""The base of every error that the application answers with. It knows no domain: theirs derive from it."""

from __future__ import annotations

from typing import Any


class AppError(Exception):
    """An error with an HTTP `status`, a `code` for programs and a `message`, a sentence for people.

    `details` stand beside the code in the JSON; after `retry_after` seconds the request may be sent again.
    """

    status: int
    code: str
    message = ""

    def __init__(self, message: str | None = None, retry_after: int | None = None, **details: Any):
        super().__init__(message or self.message)
        self.retry_after, self.details = retry_after, details


class BadRequest(AppError):
    """A request that cannot be answered, with a status in the 400s."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code = status, code
