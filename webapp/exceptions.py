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
    """An invalid request, with a status of 4xx."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code = status, code
