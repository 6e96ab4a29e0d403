"""Compression of the public pages, which hold no secret beside text from their URL (the BREACH attack)."""

from __future__ import annotations

import gzip

from flask import Flask, Response, request

# Endpoints. No page with a CSRF token, a session or a receipt's address belongs here.
PAGES = {"draw.page", "draw.how_it_works", "gallery.index", "gallery.picture"}
SHORTEST = 1000
LEVEL = 6  # a page of 50 kB takes 1 ms; higher levels save less than 1 %


def register(app: Flask) -> None:
    app.after_request(_compress)


def _compress(response: Response) -> Response:
    if request.endpoint not in PAGES or response.status_code != 200 or response.is_streamed:
        return response
    response.vary.add("Accept-Encoding")
    data = response.get_data()
    if len(data) >= SHORTEST and request.accept_encodings["gzip"] > 0:
        response.set_data(gzip.compress(data, LEVEL, mtime=0))
        response.content_encoding = "gzip"
    return response
