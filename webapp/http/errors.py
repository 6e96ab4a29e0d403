"""What an error looks like, decided in one place: one JSON shape for programs, one page for people."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from flask import Flask, Response, abort, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from webapp.exceptions import AppError, BadRequest
from webapp.middleware.access_log import annotate_request, names_host
from webapp.storage.schema import BIGGEST_ROW_ID, Base

Row = TypeVar("Row", bound=Base)

log = logging.getLogger(__name__)


def register(app: Flask, statuses: Mapping[type[Exception], tuple[int, str]]) -> None:
    """Has `app` answer every error; `statuses` gives those that know no HTTP a status and a code."""
    app.before_request(_refuse_malformed)
    for kind, (status, code) in statuses.items():
        app.register_error_handler(kind, partial(_known, status=status, code=code))
    app.register_error_handler(AppError, _app_error)
    app.register_error_handler(CSRFError, lambda error: answer(400, "csrf", error.description))
    for kind in (DatabaseError, InterfaceError, NoConnection):
        app.register_error_handler(kind, _database_failed)
    app.register_error_handler(IntegrityError, _unexpected)  # a fault of ours, and not the database's
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def answer(status: int, code: str, message: str, **more) -> Response:
    """The one shape of an error: JSON for programs, a page for people."""
    if wants_page():
        response = Response(
            render_template("error.html", code=status, title=HTTPStatus(status).phrase, message=message), status
        )
    else:
        response = jsonify({"error": {"code": code, "message": message, **more}})
        response.status_code = status
    annotate_request(code=code)
    return unstored(response)


def unstored(response: Response) -> Response:
    """The response with word that no cache may keep it."""
    response.cache_control.no_store = True
    return response


def wants_page() -> bool:
    """Whether a person's browser asks, rather than a script."""
    return not request.is_json and prefers_page(request.accept_mimetypes)


def prefers_page(accepted: MIMEAccept) -> bool:
    return accepted["text/html"] > accepted["application/json"]


def row_or_404(session: Session, table: type[Row], number: int, **how: Any) -> Row:
    """The row with a number that an address names, however great that is."""
    return (session.get(table, number, **how) if number <= BIGGEST_ROW_ID else None) or abort(404)


def _refuse_malformed() -> None:
    if not names_host(request.environ):
        raise BadRequest(400, "bad_host", "The request must name its host (Host), once and validly.")
    if request.environ["PATH_INFO"].startswith("//"):  # which Werkzeug reads as one
        raise NotFound
    # A body whose length is not told would be cut at the limit without a word.
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        raise BadRequest(411, "length_required", "The request must tell its length (Content-Length).")


def _app_error(error: AppError) -> Response:
    response = _known(error, error.status, error.code, **error.details)
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _known(error: Exception, status: int, code: str, **details: Any) -> Response:
    if status >= 500:
        log.error("%s: %s", type(error).__name__, error)
    return answer(status, code, str(error), **details)


def _database_failed(error: SQLAlchemyError) -> Response:
    log.error("the database does not answer: %s", getattr(error, "orig", error))
    return answer(503, "database", "The database does not answer. Please try again in a moment.")


def _http(error: HTTPException) -> ResponseReturnValue:
    if error.code is None or error.code < 400:
        return error.get_response()
    if error.code == 413:
        return answer(413, "body_too_large", "The request is too large.")
    name = HTTPStatus(error.code).phrase
    messages = {404: "There is nothing at this address.", 405: "This address does not answer that method."}
    response = answer(error.code, name.lower().replace(" ", "_"), messages.get(error.code, f"{name}."))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _unexpected(error: Exception) -> Response:
    # The rule and not the path, which may carry the secret of a receipt.
    log.exception("unexpected error at %s %s", request.method, request.url_rule)
    return answer(500, "internal", "Something went wrong on the server. It has been logged.")
