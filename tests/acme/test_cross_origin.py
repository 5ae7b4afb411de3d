"""Browsers may speak to this server (RFC 8555 §6.1): cross-origin requests are answered as Boulder answers them."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.acme.rig import BASE, Client, Rig, ask

PAGE = {"Origin": "https://page.example"}


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/directory", "GET", "GET, HEAD, POST"),
        ("/new-nonce", "HEAD", "GET, HEAD, POST"),
        ("/new-order", "POST", "POST"),
        ("/order/x/finalize", "POST", "POST"),
        ("/challenge/x", "POST", "POST"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_6_1_a_preflight_is_told_what_it_may_send(path: str, method: str, allowed: str) -> None:
    asked = {**PAGE, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
    reply = await ask(Rig(), "OPTIONS", BASE + path, headers=asked)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["allow"] == [f"{allowed}, OPTIONS"]
    assert reply.headers["access-control-allow-origin"] == ["*"]
    assert reply.headers["access-control-allow-methods"] == [allowed]
    assert reply.headers["access-control-allow-headers"] == ["Content-Type"]
    assert reply.headers["access-control-max-age"] == ["86400"]


@pytest_twisted.ensureDeferred
async def test_6_1_every_answer_can_be_read_by_a_page_and_no_other_is_longer_for_it() -> None:
    rig = Rig()
    client = Client(rig)
    body = await client.signed(f"{BASE}/new-account", {})
    jose = {"Content-Type": "application/jose+json"}
    for method, path, content, headers in (
        ("GET", "/directory", None, {}),
        ("HEAD", "/new-nonce", None, {}),
        ("POST", "/new-account", body, jose),
        ("POST", "/new-account", b"{}", jose),
        ("GET", "/order/x", None, {}),
    ):
        plain = await ask(rig, method, BASE + path, content, headers)
        assert not [name for name in plain.headers if name.startswith("access-control")]
        reply = await ask(rig, method, BASE + path, content, {**headers, **PAGE})
        assert reply.headers["access-control-allow-origin"] == ["*"]
        assert "Replay-Nonce" in reply.headers["access-control-expose-headers"][0]
