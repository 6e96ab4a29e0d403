"""Compressed pages: the public ones, which hold no token."""

import gzip

import pytest

from tests.support.administrator import BROWSER

PACKED = BROWSER | {"Accept-Encoding": "gzip, deflate, br"}
PUBLIC = pytest.mark.parametrize("address", ["/", "/how-it-works"])


@PUBLIC
def test_page_without_tokens_is_compressed_for_those_that_accept_it(reader, address):
    plain = reader.get(address, headers=BROWSER)
    assert "Content-Encoding" not in plain.headers and "Accept-Encoding" in plain.headers["Vary"]
    for accepted in ("gzip", "gzip, deflate, br", "br;q=1, gzip;q=0.5", "*"):
        packed = reader.get(address, headers=BROWSER | {"Accept-Encoding": accepted})
        assert packed.headers["Content-Encoding"] == "gzip" and packed.vary == plain.vary
        assert gzip.decompress(packed.data) == plain.data and packed.content_length == len(packed.data)
        assert len(packed.data) < len(plain.data) / 2
    for accepted in ("identity", "br", "gzip;q=0", "nonsense"):
        assert "Content-Encoding" not in reader.get(address, headers={"Accept-Encoding": accepted}).headers
    head = reader.head(address, headers=PACKED)
    assert head.headers["Content-Encoding"] == "gzip" and not head.data


@PUBLIC
def test_page_compressed_holds_no_token(signed_in, address):
    """Beside text from the URL a compressed token could be guessed by the length of the answer."""
    assert "csrf" not in signed_in.get(address, headers=BROWSER).text


def test_page_with_a_token_or_of_an_administrator_is_not_compressed(signed_in):
    for path in ("/admin/sign-in", "/admin", "/admin/versions", "/admin/corrections", "/nothing", "/readyz"):
        assert "Content-Encoding" not in signed_in.get(path, headers=PACKED).headers, path
