"""Base classes of the errors that the application answers with; each room derives its own from them."""

from __future__ import annotations

from typing import Any


class AppError(Exception):
    """An error with an HTTP `status`, a `code` for programs and a `message`, a sentence for people.

    `details` are members beside the code in the JSON; `retry_after` is in seconds.
    """

    status: int
    code: str
    message = ""

    def __init__(self, message: str | None = None, retry_after: int | None = None, **details: Any):
        super().__init__(message or self.message)
        self.retry_after, self.details = retry_after, details


class BadRequest(AppError):
    """An invalid request, with a status of 4xx; `field` is the one of a form that it is about, if it is one."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None):
        super().__init__(message)
        self.status, self.code, self.field = status, code, field
