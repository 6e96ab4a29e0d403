"""The test set with the champion's predictions."""

from __future__ import annotations

from flask import Blueprint

blueprint = Blueprint("gallery", __name__, url_prefix="/gallery")


@blueprint.get("")
def index() -> str:
    return "gallery"
