"""What the client of the `/ca` API makes of servers that answer otherwise."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from klein import Klein
from treq.testing import RequestTraversalAgent
from twisted.web.iweb import IRequest

from opencertd.client.ca_api import CaApiClient, parse_server_url
from opencertd.client.errors import ClientError
from opencertd.client.http import HttpsClient
from tests.client.fake_est import ec_key


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("ca.example", "https://ca.example"),
        (" https://ca.example:5001/ ", "https://ca.example:5001"),
        ("https://[::1]:5001", "https://[::1]:5001"),
        ("bücher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_servers_as_people_type_them(typed: str, url: str) -> None:
    assert parse_server_url(typed) == url


@pytest.mark.parametrize(
    "typed", ["", "http://ca.example", "https://", "https://a@b", "https://a/ca", "a?b", "https://a:x", "https://[a"]
)
def test_what_is_no_server(typed: str) -> None:
    with pytest.raises(ClientError):
        parse_server_url(typed)


def client(status: int, body: bytes) -> CaApiClient:
    app = Klein()

    def answer(request: IRequest, **_: Any) -> bytes:
        request.setResponseCode(status)  # type: ignore[no-untyped-call]
        return body

    app.route("/ca/", branch=True)(answer)
    return CaApiClient(HttpsClient(RequestTraversalAgent(app.resource())), "https://ca.test", ec_key())


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, b'{"detail": "no\\u001b[31m right."}', "refused: no?[31m right"),
        (500, b"<html>", "HTTP 500"),
        (404, b"", "no /ca API"),
        (409, b'{"detail": 5}', "HTTP 409"),
        (200, b"<html>", "not JSON"),
        (200, b"[]", "not JSON"),
        (200, b"[" * 100_000, "not JSON"),
        (307, b"", "redirects"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_every_answer_is_a_sentence(status: int, body: bytes, words: str) -> None:
    for deed in (
        client(status, body).revoke("12", "superseded"),
        client(status, body).reinstate("12"),
    ):
        with pytest.raises(ClientError) as caught:
            await deed
        assert words in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_a_list_that_is_none() -> None:
    for body in (b"{}", b'{"certificates": 1}', b'{"certificates": [1]}'):
        with pytest.raises(ClientError, match="lists no certificates"):
            await client(200, body).certificates("12")
