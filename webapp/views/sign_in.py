"""Sign-in and sign-out of the administrators."""

from __future__ import annotations

import logging

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from webapp.auth import TooManyAttempts, WrongPassword
from webapp.http import authentication
from webapp.http.addresses import own_page
from webapp.http.errors import error_response
from webapp.http.fields import any_form
from webapp.middleware.access_log import annotate_request
from webapp.presentation import sign_in as wording
from webapp.services import services
from webapp.storage.schema import FIRST_NAME

log = logging.getLogger(__name__)

SIGNED_OUT_HERE = (
    "You are signed out in this browser. The server could not end the session: a copy of its cookie would still be "
    "accepted, until a new password is set."
)

blueprint = Blueprint("sign_in", __name__, url_prefix="/admin")


@blueprint.get("/sign-in")
def page() -> str:
    """Show the form; `next` in the query is the page that follows."""
    return _form()


@blueprint.post("/sign-in")
def submit() -> ResponseReturnValue:
    """Check name and password, begin a session and lead on to the page that follows, by default the dashboard.

    Without a name, the first administrator is meant, and with any while there is only one: the page hides the field,
    which a password manager may fill in all the same.
    """
    password, name = any_form().get("password", ""), FIRST_NAME
    if _asks_name():
        name = any_form().get("username", "").strip().lower() or FIRST_NAME
    try:
        token = services().authenticator.sign_in(password, authentication.client_digest(), name)
    except WrongPassword:
        annotate_request(code="wrong_password")
        log.warning("a sign-in failed", extra=authentication.log_fields())
        return _form(is_wrong=True), 403
    except TooManyAttempts as error:
        annotate_request(code=error.code)
        log.warning("a sign-in was refused: too many have failed", extra=authentication.log_fields())
        return _form(), error.status, {"Retry-After": str(error.retry_after)}
    session.clear()
    session.permanent = True
    session["administrator"] = token
    log.info("%s signed in", name, extra=authentication.log_fields())
    return redirect(_following() or url_for("admin.dashboard"), 303)


@blueprint.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """End the session: in this browser even if the database does not answer."""
    token = session.get("administrator")
    session.clear()
    if token:
        try:
            name = services().authenticator.holder(token, in_use=False)
            services().authenticator.sign_out(token)
        except SQLAlchemyError as error:
            log.error("a session could not be ended: %s", getattr(error, "orig", error))
            return error_response(503, "database", SIGNED_OUT_HERE)
        log.info("%s signed out", name or "nobody", extra=authentication.log_fields())
    return redirect(url_for("draw.page"), 303)


def _form(is_wrong: bool = False) -> str:
    """Return the page with the form, whether the password is wrong, and the time until another may be tried."""
    left, wait = services().authenticator.remaining_attempts(authentication.client_digest())
    asks_name = _asks_name()
    return render_template(
        "admin/sign_in.html",
        page="admin",
        error=wording.wrong_password(left, asks_name) if is_wrong else None,
        wait=wait,
        wait_in_words=wait and wording.in_words(wait),
        goes_on=_following() is not None,
        asks_name=asks_name,
        name=FIRST_NAME,
    )


def _asks_name() -> bool:
    return len(services().authenticator.names()) > 1


def _following() -> str | None:
    """Return the page that follows by the query, if it is one of the administrator's."""
    return own_page(request.args.get("next"), "/admin")
