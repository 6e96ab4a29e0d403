"""The page of an error: a sentence as its title, and links that lead on."""

import re

import pytest

from tests.support.administrator import BROWSER, csrf_token
from webapp.http.addresses import page_before
from webapp.http.errors import error_response

LINK = re.compile(r'<a class="button[^"]*" href="([^"]*)">([^<]+)</a>')
HERE = "http://localhost"


def parts(response):
    """The title, the heading and the links of an error's page."""
    page = response.get_data(as_text=True)
    assert f"Error {response.status_code}</p>" in page and response.mimetype == "text/html"
    heading = re.search(r"<h1>(.*?)</h1>", page)[1]
    assert re.search(r"<title>(.*?)</title>", page)[1] == f"{heading} · Inkling"
    return heading, [(address, words) for address, words in LINK.findall(page.partition("<main")[2])]


def test_page_not_found_leads_to_the_drawing_page_and_the_gallery(reader):
    heading, links = parts(reader.get("/nothing", headers=BROWSER))
    assert heading == "There is nothing at this address"
    assert links == [("/", "Draw a digit"), ("/gallery", "Gallery")]
    assert parts(reader.get("/admin/nothing", headers=BROWSER))[1][0] == ("/admin", "Administration")


def test_form_sent_when_signed_out_leads_to_the_sign_in_and_back(reader):
    before = HERE + "/admin/corrections?state=approved"
    heading, links = parts(reader.post("/admin/corrections/decide", headers=BROWSER | {"Referer": before}))
    assert heading == "Please sign in as administrator first"
    assert links[0] == ("/admin/sign-in?next=/admin/corrections?state%3Dapproved", "Sign in")
    _, links = parts(reader.post("/admin/retrain", headers=BROWSER | {"Referer": "https://elsewhere.example/admin"}))
    assert links[0] == ("/admin/sign-in", "Sign in")


def test_form_that_has_expired_leads_back_and_to_the_sign_in(signed_in):
    headers = BROWSER | {"Referer": HERE + "/admin/versions/1"}
    heading, links = parts(signed_in.post("/admin/versions/1/promote", headers=headers))
    assert heading == "This form has expired"
    assert dict(links[:2]) == {
        "/admin/versions/1": "Open the page again",
        "/admin/sign-in?next=/admin/versions/1": "Sign in",
    }


def test_conflict_leads_to_what_is_in_the_way(shared_app, signed_in):
    with shared_app.test_request_context("/admin/retrain", method="POST", headers=BROWSER):
        heading, links = parts(error_response(409, "run_active", "Run 3 is under way; there is one at a time.", run=3))
    assert heading == "Training 3 is still going" and links[0] == ("/admin/runs/3", "Watch training 3")
    form, headers = {"csrf_token": csrf_token(signed_in)}, BROWSER | {"Referer": HERE + "/admin/corrections?page=2"}
    heading, links = parts(signed_in.post("/admin/corrections/undo", data=form, headers=headers))
    assert heading == "There is no decision to take back"
    assert links[:2] == [
        ("/admin/corrections", "Back to the corrections"),
        ("/admin/corrections?page=2", "Back to the page before"),
    ]


@pytest.mark.parametrize(
    ("referrer", "page"),
    [
        (HERE + "/gallery?page=2#p105", "/gallery?page=2"),
        (HERE + "/", "/"),
        (HERE, None),
        (None, None),
        ("", None),
        (HERE + "/nothing", None),
        (HERE + "//elsewhere.example", None),
        (HERE + "/\\elsewhere.example", None),
        (HERE + ".elsewhere.example/", None),
        ("http://localhost:8000/", None),
        ("http://[/", None),
        ("https://elsewhere.example/", None),
        ("javascript://localhost/%0aalert(1)", None),
        (HERE + "/predict", None),
    ],
)
def test_page_before_is_an_own_page_alone(shared_app, referrer, page):
    with shared_app.test_request_context(headers={"Referer": referrer} if referrer is not None else {}):
        assert page_before() == page
