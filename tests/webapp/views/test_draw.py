"""The drawing page and what it says of itself."""

import re


def text(reader, path):
    """The page's main part without tags, and the addresses that it links."""
    page = reader.get(path).get_data(as_text=True).partition("<main")[2].partition("</main")[0]
    return " ".join(re.sub("<[^>]*>", " ", page).split()), re.findall('href="([^"]*)"', page)


def test_first_screen_says_what_it_is_and_how_it_works(reader):
    words, links = text(reader, "/")
    assert "Draw a digit or a number. A small neural network reads it while you draw. How it works" in words
    assert {"/how-it-works", "/gallery"} <= set(links)
    assert "Press Tab until the sheet has a frame. Then the arrow keys move the pen" in words
    words, links = text(reader, "/how-it-works")
    assert all(part in words for part in ("28 × 28", "What it cannot do", "What is kept", "Probabilities"))
    assert {"/receipts", "/gallery", "/"} <= set(links)
