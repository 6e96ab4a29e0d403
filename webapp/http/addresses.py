"""Addresses of the application's own pages, checked before a browser is sent to one that the request names."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from flask import current_app, request
from werkzeug.exceptions import HTTPException

from webapp.http.messages import File
from webapp.http.openapi import OPERATIONS

LONGEST = 2000
# Browsers take "//host" and "/\host" as another host's address, and drop tabs and line ends.
PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*", re.ASCII)


def own_page(address: str | None, below: str = "/") -> str | None:
    """Return the address if it is the path, perhaps with a query, of a page that GET answers; otherwise None.

    So a redirect to it leaves neither the application nor the paths `below`, changes nothing and downloads no file. The
    address has the base path, as browsers know it; `below` has not.
    """
    if not address or len(address) > LONGEST or not PATH.fullmatch(address):
        return None
    path = unquote(urlsplit(address).path)
    if not path.startswith(f"{request.script_root}/"):
        return None
    path = path.removeprefix(request.script_root)
    try:
        endpoint, _ = current_app.url_map.bind("").match(path, "GET")
    except HTTPException:
        return None
    operation = OPERATIONS.get(current_app.view_functions[endpoint])
    downloads = operation is not None and any(isinstance(answer, File) for answer in operation.answers.values())
    inside = f"{path}/".startswith(below if below.endswith("/") else f"{below}/")
    return address if inside and not downloads else None


def page_before() -> str | None:
    """Return the own page from which a request was made, by its Referer header; None if that is none."""
    try:
        referrer = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return None
    if referrer.netloc != request.environ.get("HTTP_HOST"):
        return None
    return own_page(f"{referrer.path}?{referrer.query}" if referrer.query else referrer.path)
