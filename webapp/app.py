"""The application factory: configuration, services, error handlers, blueprints and middleware."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from model import task
from model.data.mnist import MnistMissing
from model.imaging.decode import PictureError, PictureTooLarge
from model.inference.weights import WeightsError
from webapp.auth import SESSION_SECONDS
from webapp.http import authentication, errors, openapi, restrictions
from webapp.logs import set_up_logging
from webapp.middleware import access_log, assets, compression
from webapp.middleware.base_path import BasePath
from webapp.middleware.session_cookies import SessionCookies
from webapp.presentation import filters
from webapp.services import Services, services
from webapp.settings import ROOT, Settings
from webapp.storage.secret_key import with_secret_key
from webapp.versions.active import NoChampion
from webapp.views import (
    corrections,
    dashboard,
    draw,
    gallery,
    imports,
    ops,
    read,
    receipts,
    removals,
    runs,
    sign_in,
    versions,
)
from webapp.views.shortcut import Shortcut

# Limit of a request without a picture or file.
MAX_BODY_BYTES = 1_400_000
# Statuses and codes of the model's errors, which know no HTTP.
MODEL_ERRORS = {
    PictureTooLarge: (413, PictureTooLarge.code),
    PictureError: (400, PictureError.code),
    WeightsError: (503, NoChampion.code),
    MnistMissing: (503, "no_mnist"),
}


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI application with `settings` (default: the environment's). Loads no model, starts no thread."""
    settings = settings or Settings.read()
    set_up_logging(settings.log_level)
    settings = with_secret_key(settings)
    app = Flask("webapp", static_folder=None, template_folder=ROOT / "templates")
    # Werkzeug would redirect "//admin" to an absolute URL built from the request's Host header.
    app.url_map.merge_slashes = False
    app.config.update(
        APPLICATION_ROOT=settings.base_path or "/",  # the cookies' path
        SECRET_KEY=settings.secret_key,
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,  # pictures and imports have limits of their own
        SESSION_COOKIE_NAME=_cookie_name(settings),
        SESSION_COOKIE_SECURE=settings.https,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=timedelta(seconds=SESSION_SECONDS),
        WTF_CSRF_TIME_LIMIT=None,
    )
    app.jinja_env.globals["task"] = task
    app.session_interface = SessionCookies()
    app.extensions["inkling"] = Services.open(settings)
    access_log.register(app)
    compression.register(app)
    filters.register(app)
    errors.register(app, MODEL_ERRORS)
    restrictions.register(app, settings)
    administration = dashboard, sign_in, runs, versions, corrections, imports, removals
    for part in (draw, read, receipts, gallery, *administration, ops, openapi):
        app.register_blueprint(part.blueprint)
    authentication.csrf.init_app(app)
    app.after_request(authentication.forbid_storing)
    # A prediction changes nothing and needs no cookie; scripts may request it.
    authentication.csrf.exempt(draw.predict)
    authentication.csrf.exempt(read.read)
    # Corrections are not authorized by a cookie either: they are sent as JSON, and deleted by a secret URL.
    authentication.csrf.exempt(receipts.blueprint)
    served: Callable = Shortcut(assets.serve(app, settings.data_dir), services(app).active_model)
    if settings.trusted_proxies:
        # Scheme and host are single values, which the nearest proxy sets or passes on.
        served = ProxyFix(served, x_for=settings.trusted_proxies, x_proto=1, x_host=1)
    refuse: Callable = app.wsgi_app
    if settings.base_path:
        served, refuse = BasePath(served, settings.base_path), BasePath(refuse, settings.base_path)
    served = access_log.AccessLogMiddleware(served, refuse, settings.https, services(app).metrics)
    app.wsgi_app = served  # type: ignore[method-assign]  # Flask's way to add middleware
    return app


def _cookie_name(settings: Settings) -> str:
    """Return a name unique to the installation: cookies do not distinguish ports, where another one may run."""
    name = "inkling-" + hashlib.sha256(settings.secret_key.encode()).hexdigest()[:8]
    if settings.https:
        return f"__Secure-{name}" if settings.base_path else f"__Host-{name}"  # the latter is for the path "/" alone
    return name
