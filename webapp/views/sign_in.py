"""Sign-in and sign-out of the administrator."""

from __future__ import annotations

import logging

from flask import Blueprint, redirect, render_template, session, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import SQLAlchemyError

from webapp.auth import TooManyAttempts, WrongPassword
from webapp.http import authentication
from webapp.http.errors import error_response
from webapp.http.fields import any_form
from webapp.middleware.access_log import annotate_request
from webapp.services import services

log = logging.getLogger(__name__)

SIGNED_OUT_HERE = (
    "You are signed out in this browser. The server could not end the session: a copy of its cookie would still be "
    "accepted, until a new password is set."
)

blueprint = Blueprint("sign_in", __name__, url_prefix="/admin")


@blueprint.get("/sign-in")
def page() -> str:
    return render_template("admin/sign_in.html", page="admin", error=None)


@blueprint.post("/sign-in")
def submit() -> ResponseReturnValue:
    """Check the password and begin a session."""
    password = any_form().get("password", "")
    try:
        token = services().authenticator.sign_in(password, authentication.client_digest())
    except WrongPassword:
        annotate_request(code="wrong_password")
        log.warning("a sign-in failed", extra=authentication.log_fields())
        return render_template("admin/sign_in.html", page="admin", error="That is not the password."), 403
    except TooManyAttempts as error:
        annotate_request(code=error.code)
        log.warning("a sign-in was refused: too many have failed", extra=authentication.log_fields())
        page = render_template("admin/sign_in.html", page="admin", error=str(error))
        return page, error.status, {"Retry-After": str(error.retry_after)}
    session.clear()
    session.permanent = True
    session["administrator"] = token
    log.info("the administrator signed in", extra=authentication.log_fields())
    return redirect(url_for("admin.dashboard"), 303)


@blueprint.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """End the session: in this browser even if the database does not answer."""
    token = session.get("administrator")
    session.clear()
    if token:
        try:
            services().authenticator.sign_out(token)
        except SQLAlchemyError as error:
            log.error("a session could not be ended: %s", getattr(error, "orig", error))
            return error_response(503, "database", SIGNED_OUT_HERE)
        log.info("the administrator signed out", extra=authentication.log_fields())
    return redirect(url_for("draw.page"), 303)
