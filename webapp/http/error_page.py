"""The page of an error: its words, and the links that lead on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import render_template, request, url_for

from webapp.http.addresses import own_page, page_before

Link = tuple[str, str]

# Where the JSON's sentence is for programs, a title in its place, with the error's details.
TITLES = {
    "csrf": "This form has expired",
    "run_active": "Training {run} is still going",
}
# Said below the title.
REMARKS = {
    "csrf": "It is from an earlier session, or this browser keeps no cookies. Nothing was changed.",
    "not_signed_in": "Nothing was changed.",
    "run_active": "There is one training at a time.",
}
# Endpoints of the pages where something can be done about an error.
HELPFUL = {
    "never_in_service": ("Choose a version", "versions.index"),
    "unusable_version": ("Choose another version", "versions.index"),
    "nothing_to_undo": ("Back to the corrections", "review.index"),
}


def error_page(status: int, code: str, message: str, details: Mapping[str, Any]) -> str:
    """Return an error as a page; `message` and `details` are those of the JSON answer."""
    title, _, rest = message.partition(". ")
    if code in TITLES:
        title, rest = TITLES[code].format(**details), ""
    return render_template(
        "error.html",
        status=status,
        title=title.removesuffix("."),
        remarks=[remark for remark in (rest, REMARKS.get(code)) if remark],
        links=_links(status, code, details),
    )


def _links(status: int, code: str, details: Mapping[str, Any]) -> list[Link]:
    """Return the links that lead on, the most helpful first; there is always one."""
    administrators = f"{request.path}/".startswith("/admin/") and code != "read_only"
    before = None if request.method in ("GET", "HEAD") else page_before()
    links: list[Link] = []
    if code == "run_active":
        links.append((f"Watch training {details['run']}", url_for("runs.run", run_id=details["run"])))
    if code in ("csrf", "not_signed_in") and administrators:
        links.append(("Sign in", sign_in_address(before)))
    if code in HELPFUL:
        text, endpoint = HELPFUL[code]
        links.append((text, url_for(endpoint)))
    if before and code != "not_signed_in":
        links.append(("Open the page again" if code == "csrf" else "Back to the page before", before))
    if status in (429, 500, 503) and request.method == "GET":
        links.append(("Try again", ""))
    if administrators and code not in ("csrf", "not_signed_in"):
        links.append(("Administration", url_for("admin.dashboard")))
    return [*links, ("Draw a digit", url_for("draw.page")), ("Gallery", url_for("gallery.index"))]


def sign_in_address(following: str | None) -> str:
    """Return the address of the sign-in, which leads on to `following` if that is an administrator's page."""
    following = own_page(following, "/admin")
    is_needless = (following or "").partition("?")[0] in ("", url_for("admin.dashboard"), url_for("sign_in.page"))
    return url_for("sign_in.page", next=None if is_needless else following)
