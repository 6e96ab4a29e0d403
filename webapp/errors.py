"""What an error looks like, decided in one place: named exceptions to a status, one JSON shape, one page."""

from __future__ import annotations

import logging
from http import HTTPStatus

from flask import Flask, Response, jsonify, render_template, request
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DatabaseError, IntegrityError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import HTTPException, NotFound

from model.mnist import MnistMissing
from model.picture import PictureError, PictureTooLarge
from model.weights import WeightsError
from webapp.corrections import TooManyCorrections
from webapp.door import NotSignedIn, TooManyAttempts
from webapp.edge import names_host, note
from webapp.live import NoChampion
from webapp.runs import RunActive

log = logging.getLogger(__name__)


class BadRequest(Exception):
    """A request that cannot be answered: an HTTP status in the 400s, a code for programs, a sentence for people."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code = status, code


# The most specific class first: the first that fits decides.
STATUS = (
    (PictureTooLarge, 413, "picture_too_large"),
    (PictureError, 400, "not_a_picture"),
    (NotSignedIn, 401, "not_signed_in"),
    (TooManyAttempts, 429, "too_many_attempts"),
    (TooManyCorrections, 429, "too_many_corrections"),
    (RunActive, 409, "run_active"),
    (NoChampion, 503, "no_version"),
    (WeightsError, 503, "no_version"),
    (MnistMissing, 503, "no_mnist"),
    (CSRFError, 400, "csrf"),
)


def register(app: Flask) -> None:
    app.before_request(_refuse_unnamed_host)
    app.before_request(_refuse_double_slash)
    app.before_request(_refuse_unmeasured)
    for kind, status, code in STATUS:
        app.register_error_handler(kind, _handler(status, code))
    app.register_error_handler(BadRequest, lambda error: answer(error.status, error.code, str(error)))
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
    note(code=code)
    response.cache_control.no_store = True
    return response


def described(error: Exception) -> dict[str, str]:
    """One of the named exceptions as the JSON of an error has it: its code for programs, its sentence for people."""
    code = getattr(error, "code", None) or next(code for kind, _, code in STATUS if isinstance(error, kind))
    return {"code": code, "message": str(error)}


def wants_page() -> bool:
    """Whether a person's browser asks, rather than a script."""
    return not request.is_json and prefers_page(request.accept_mimetypes)


def prefers_page(accepted: MIMEAccept) -> bool:
    return accepted["text/html"] > accepted["application/json"]


def _refuse_unnamed_host() -> None:
    if not names_host(request.environ):
        raise BadRequest(400, "bad_host", "The request must name its host (Host), once and validly.")


def _refuse_double_slash() -> None:
    if request.environ["PATH_INFO"].startswith("//"):  # which Werkzeug reads as one
        raise NotFound


def _refuse_unmeasured() -> None:
    """A body whose length is not told is cut at the limit without a word, and its rest taken for nothing: refused."""
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        raise BadRequest(411, "length_required", "The request must tell its length (Content-Length).")


def _handler(status: int, code: str):
    def handle(error: Exception) -> Response:
        if status >= 500:
            log.error("%s: %s", type(error).__name__, error)
        message = getattr(error, "description", None) or str(error)
        response = answer(status, code, message, **getattr(error, "details", {}))
        if retry_after := getattr(error, "retry_after", None):
            response.headers["Retry-After"] = str(retry_after)
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    return handle


def _database_failed(error: SQLAlchemyError) -> Response:
    log.error("the database does not answer: %s", getattr(error, "orig", error))
    return answer(503, "database", "The database does not answer. Please try again in a moment.")


def _http(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:
        return error.get_response()
    if error.code == 413:
        return answer(413, "body_too_large", "The request is too large.")
    name = HTTPStatus(error.code).phrase
    messages = {404: "There is nothing at this address.", 405: "This address does not answer that method."}
    response = answer(error.code, name.lower().replace(" ", "_"), messages.get(error.code, f"{name}."))
    if error.code == 405 and error.valid_methods:
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return response


def _unexpected(error: Exception) -> Response:
    # The rule and not the path, which may carry the secret of a receipt.
    log.exception("unexpected error at %s %s", request.method, request.url_rule)
    return answer(500, "internal", "Something went wrong on the server. It has been logged.")
