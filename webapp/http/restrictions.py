"""What an installation does not offer by its settings: corrections, or anything that changes it."""

from __future__ import annotations

from flask import Flask, request

from webapp.exceptions import AppError
from webapp.services import services
from webapp.settings import Settings


class ReadOnly(AppError):
    """READ_ONLY: there is no administration here."""

    status, code = 403, "read_only"
    message = "This Inkling only reads. It is administered elsewhere."


class CorrectionsOff(AppError):
    """CORRECTIONS=0 or READ_ONLY: no correction is stored."""

    status, code = 403, "corrections_off"
    message = "This Inkling keeps no corrections. Nothing was stored."


def register(app: Flask, settings: Settings) -> None:
    """Refuse every administrator's address of an installation that only reads, and tell the pages what is offered."""
    app.jinja_env.globals.update(read_only=settings.read_only, takes_corrections=settings.takes_corrections)
    if settings.read_only:
        app.before_request(_refuse_administration)


def require_corrections() -> None:
    """Raise CorrectionsOff if this installation takes none."""
    if not services().settings.takes_corrections:
        raise CorrectionsOff


def _refuse_administration() -> None:
    if f"{request.path}/".startswith("/admin/"):
        raise ReadOnly
