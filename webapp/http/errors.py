"""Error answers, all made here: one JSON shape for programs, one page for people."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from flask import Flask, Response, abort, jsonify, request
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from webapp.exceptions import AppError, BadRequest
from webapp.http.error_page import error_page
from webapp.middleware.access_log import annotate_request, has_valid_host
from webapp.services import services
from webapp.storage.schema import BIGGEST_ROW_ID, Base

Row = TypeVar("Row", bound=Base)

log = logging.getLogger(__name__)

MISFIT = "The server is being upgraded, and this part of it does not suit the database. Please try again in a moment."


def register(app: Flask, statuses: Mapping[type[Exception], tuple[int, str]]) -> None:
    """Register the error handlers of `app`; `statuses` maps exceptions that know no HTTP to a status and a code."""
    app.before_request(_reject_malformed)
    for kind, (status, code) in statuses.items():
        app.register_error_handler(kind, partial(_mapped_error, status=status, code=code))
    app.register_error_handler(AppError, _app_error)
    app.register_error_handler(CSRFError, lambda error: error_response(400, "csrf", error.description))
    for kind in (DatabaseError, InterfaceError, PoolTimeout):
        app.register_error_handler(kind, _database_error)
    app.register_error_handler(IntegrityError, _integrity_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected_error)


def error_response(status: int, code: str, message: str, **more) -> Response:
    """Return an error as a page or as JSON, whichever the request prefers, with `more` members beside its code."""
    if wants_page():
        response = Response(error_page(status, code, message, more), status)
    else:
        response = jsonify({"error": {"code": code, "message": message, **more}})
        response.status_code = status
    annotate_request(code=code)
    return no_store(response)


def refused_form(error: AppError, render: Callable[[AppError], str]) -> Response:
    """Answer a browser's form that was refused with its page, which shows the error; raise it for any other request."""
    if not wants_page():
        raise error
    annotate_request(code=error.code)
    return no_store(Response(render(error), error.status))


def no_store(response: Response) -> Response:
    """Forbid caches to store the response, and return it."""
    response.cache_control.no_store = True
    return response


def wants_page() -> bool:
    """Tell whether the request prefers a page, as a browser does, to JSON."""
    return not request.is_json and prefers_page(request.accept_mimetypes)


def prefers_page(accepted: MIMEAccept) -> bool:
    return accepted["text/html"] > accepted["application/json"]


def row_or_404(session: Session, table: type[Row], number: int, **how: Any) -> Row:
    """Return the row with an id from a URL, which may exceed the column's range; `how` goes to `Session.get`.

    Raises NotFound, or BadRequest with status 404 for a version or run that was removed.
    """
    row = (session.get(table, number, **how) if number <= BIGGEST_ROW_ID else None) or abort(404)
    if removed_at := getattr(row, "removed_at", None):
        when = datetime.fromtimestamp(removed_at, UTC)
        raise BadRequest(404, "not_found", f"It was removed on {when:%Y-%m-%d %H:%M} UTC. The audit says by whom.")
    return row


def _reject_malformed() -> None:
    if not has_valid_host(request.environ):
        raise BadRequest(400, "bad_host", "The request must name its host (Host), once and validly.")
    if request.environ["PATH_INFO"].startswith("//"):  # Werkzeug would merge the slashes
        raise NotFound
    # Without Content-Length a body over the limit would be truncated silently.
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        raise BadRequest(411, "length_required", "The request must tell its length (Content-Length).")


def _app_error(error: AppError) -> Response:
    response = _mapped_error(error, error.status, error.code, **error.details)
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _mapped_error(error: Exception, status: int, code: str, **details: Any) -> Response:
    if status >= 500:
        log.error("%s: %s", type(error).__name__, error)
    return error_response(status, code, str(error), **details)


def _database_error(error: SQLAlchemyError) -> Response:
    if reason := _misfit(error):
        log.error("%s (%s)", reason, getattr(error, "orig", error))
        return error_response(503, "database", MISFIT)
    log.error("the database does not answer: %s", getattr(error, "orig", error))
    return error_response(503, "database", "The database does not answer. Please try again in a moment.")


def _integrity_error(error: IntegrityError) -> Response:
    # A newer schema may ask for more than this release knows; in its own schema it is a bug of the application.
    return _database_error(error) if _misfit(error) else _unexpected_error(error)


def _misfit(error: SQLAlchemyError) -> str | None:
    """Return why the schema does not suit this release, where the error may come of that; otherwise None."""
    # An unknown column is SQLite's SQLITE_ERROR. Others, such as a database that is away or busy, are not looked into:
    # that would wait for it once more.
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    if not isinstance(error, IntegrityError | ProgrammingError) and code != sqlite3.SQLITE_ERROR:
        return None
    try:
        return services().database.misfit()
    except SQLAlchemyError:
        return None


def _http_error(error: HTTPException) -> ResponseReturnValue:
    if error.code is None or error.code < 400:
        return error.get_response()
    if error.code == 413:
        size, most = request.content_length or 0, request.max_content_length or 0
        exceeds = f"The request has {size:,} bytes; at most {most:,} are read here."
        return error_response(413, "body_too_large", exceeds if size > most else "The request is too large.")
    name = HTTPStatus(error.code).phrase
    messages = {404: "There is nothing at this address.", 405: "This address does not answer that method."}
    response = error_response(error.code, name.lower().replace(" ", "_"), messages.get(error.code, f"{name}."))
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _unexpected_error(error: Exception) -> Response:
    # Log the rule instead of the path, which may contain the secret of a receipt.
    log.exception("unexpected error at %s %s", request.method, request.url_rule)
    return error_response(500, "internal", "Something went wrong on the server. It has been logged.")
