"""A proxy's words count when it is one of ours, and change nothing when anybody else says them."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest

from opencertd.errors import Refusal, RefusalKind
from opencertd.settings.proxy import ProxySettings
from opencertd.web.peer import shown_certificate, through_proxy
from opencertd.web.proxy import Forwarded, Proxies, parse_binaries, parse_escaped
from opencertd.web.refusals import new_app
from opencertd.web.site import build_site

from .pki import CLIENT, build, issuing, root
from .wire import edge, get, parse

PROXY = IPv4Address("TCP", "10.0.0.1", 4711)
STRANGER = IPv4Address("TCP", "192.0.2.66", 4711)


def proxies(*trusted: str, **settings: Any) -> Proxies:
    return ProxySettings(trusted=trusted or ("10.0.0.0/24", "fd00::/64"), **settings).build()


def client(of: Proxies, peer: IAddress, *values: str, header: str = "X-Forwarded-For") -> str:
    headers = Headers({header: list(values)} if values else {})
    found, _ = of.take(headers, peer)
    assert not list(headers.getAllRawHeaders())
    return str(getattr(found, "host", found))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((), "10.0.0.1"),
        (("192.0.2.1",), "192.0.2.1"),
        (("2001:db8::1",), "2001:db8::1"),
        (("203.0.113.9, 192.0.2.1",), "192.0.2.1"),  # what stands further left, the client may have made up
        (("203.0.113.9", "192.0.2.1"), "192.0.2.1"),
        (("203.0.113.9, 192.0.2.1, 10.0.0.7",), "192.0.2.1"),  # two proxies of ours
        (("203.0.113.9, 192.0.2.1", "10.0.0.7,fd00::9"), "192.0.2.1"),
        (("10.0.0.8, 10.0.0.7",), "10.0.0.8"),  # nobody but proxies
        (("192.0.2.1:4711",), "192.0.2.1"),
        (("[2001:db8::1]:4711",), "2001:db8::1"),
        (("::ffff:192.0.2.1",), "192.0.2.1"),
        (("unknown",), "10.0.0.1"),
        (("192.0.2.1, unknown",), "10.0.0.1"),
        (("192.0.2.1, unknown, 10.0.0.9",), "10.0.0.9"),
        (("192.0.2.1, ",), "10.0.0.1"),
        (("localhost",), "10.0.0.1"),
        (("1.2.3",), "10.0.0.1"),
        (("\xff\x00",), "10.0.0.1"),
    ],
)
def test_the_client_is_the_right_most_address_that_is_no_proxy(values: tuple[str, ...], expected: str) -> None:
    encoded = Headers({})
    for value in values:
        encoded.addRawHeader(b"x-forwarded-for", value.encode("latin-1"))
    found, _ = proxies().take(encoded, PROXY)
    assert getattr(found, "host", None) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("for=192.0.2.1",), "192.0.2.1"),
        (('For="[2001:db8::1]:4711";proto=https;by=10.0.0.1',), "2001:db8::1"),
        (("for=203.0.113.9;by=x, proto=https;for=192.0.2.1, for=10.0.0.7",), "192.0.2.1"),
        (("for=203.0.113.9", "for=192.0.2.1"), "192.0.2.1"),
        (("for=_hidden",), "10.0.0.1"),
        (("proto=https",), "10.0.0.1"),
        (('for="x, for=192.0.2.1',), "10.0.0.1"),  # an open quote swallows what the proxy adds
        (('for="x', "for=192.0.2.1"), "192.0.2.1"),
        (('for="192.0.2.\\1"',), "192.0.2.1"),
        (("192.0.2.1",), "10.0.0.1"),
    ],
)
def test_the_standard_header_says_the_same(values: tuple[str, ...], expected: str) -> None:
    of = proxies(address_header="Forwarded")
    assert client(of, PROXY, *values, header="Forwarded") == expected


@pytest.mark.parametrize("value", ["for=192.0.2.1," + " " * 16000 + "!", "," * 16000 + "!", 'for="' + "\\a" * 8000])
def test_a_header_as_long_as_may_be_costs_no_time_to_speak_of(value: str) -> None:
    of = proxies(address_header="Forwarded")
    began = time.thread_time()
    client(of, PROXY, value, header="Forwarded")
    assert time.thread_time() - began < 1


def test_only_the_header_of_the_settings_counts() -> None:
    assert client(proxies(address_header="Forwarded"), PROXY, "192.0.2.1") == "10.0.0.1"
    assert client(proxies(), PROXY, "for=192.0.2.1", header="Forwarded") == "10.0.0.1"


@pytest.mark.parametrize(
    ("trusted", "peer", "is_proxy"),
    [
        (("10.0.0.1",), PROXY, True),
        (("10.0.0.0/8",), PROXY, True),
        (("10.0.0.2",), PROXY, False),
        (("10.0.0.1",), IPv6Address("TCP", "::ffff:10.0.0.1", 1), True),  # what a listener for both families says
        (("fd00::/8",), IPv6Address("TCP", "fd00::1%eth0", 1), True),
        (("fd00::/8",), PROXY, False),
        (("unix",), UNIXAddress("/run/x.sock"), True),
        (("unix",), UNIXAddress(None), True),
        (("10.0.0.1",), UNIXAddress("/run/x.sock"), False),
        (("unix",), PROXY, False),
    ],
)
def test_whose_word_is_taken(trusted: tuple[str, ...], peer: IAddress, is_proxy: bool) -> None:
    of = proxies(*trusted)
    assert of.trusts(peer) is is_proxy
    found, forwarded = of.take(Headers({"X-Forwarded-For": ["192.0.2.1"]}), peer)
    assert (getattr(found, "host", None) == "192.0.2.1") is is_proxy
    assert (forwarded is not None) is is_proxy


LEAF = build("device", issuing(), usages=(CLIENT,))


def binary(data: bytes) -> str:
    return f":{base64.b64encode(data).decode()}:"


def test_certificates_in_the_form_of_rfc_9440() -> None:
    chain = f"{binary(issuing().der)}, {binary(root().der)}"
    headers = Headers({"Client-Cert": [binary(LEAF.der)], "Client-Cert-Chain": [chain]})
    _, forwarded = proxies(certificate_header="client-cert").take(headers, PROXY)
    assert forwarded is not None
    assert forwarded.certificates() == (LEAF.der, issuing().der, root().der)


def test_certificates_in_the_form_of_nginx() -> None:
    escaped = quote(LEAF.certificate.public_bytes(Encoding.PEM).decode(), safe="")
    headers = Headers({"X-SSL-Cert": [escaped], "Client-Cert-Chain": [binary(root().der)]})
    _, forwarded = proxies(certificate_header="X-SSL-Cert").take(headers, PROXY)
    assert forwarded is not None
    assert forwarded.certificates() == (LEAF.der,), "nobody has cleaned the header of the other form"


@pytest.mark.parametrize(
    "forwarded",
    [
        Forwarded(("a", "b")),
        Forwarded(("MIIB",)),
        Forwarded((":MII!:",)),
        Forwarded((":A:",)),
        Forwarded((":MIIB:", ":MIIB:")),
        Forwarded((binary(b"x"),), (", ".join([binary(b"x")] * 20),)),
        Forwarded(("nonsense",), escaped=True),
        Forwarded((quote("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),), escaped=True),
    ],
)
def test_words_that_cannot_be_read_are_refused(forwarded: Forwarded) -> None:
    with pytest.raises(Refusal) as caught:
        forwarded.certificates()
    assert caught.value.kind is RefusalKind.MALFORMED


@pytest.mark.parametrize("values", [(), ("",), (" ", "")])
def test_an_empty_header_is_no_certificate(values: tuple[str, ...]) -> None:
    assert Forwarded(values).certificates() == ()
    assert Forwarded(values, escaped=True).certificates() == ()


@given(st.text(st.characters(max_codepoint=255), max_size=80))
def test_no_header_does_harm(value: str) -> None:
    for parse_value in (parse_escaped, lambda text: parse_binaries((text,))):
        try:
            parse_value(value)
        except Refusal as refusal:
            assert refusal.kind is RefusalKind.MALFORMED
    for header in ("X-Forwarded-For", "Forwarded"):
        headers = Headers({})
        headers.addRawHeader(header.encode(), value.encode("latin-1"))
        found, _ = proxies(address_header=header).take(headers, PROXY)
        assert isinstance(found, IPv4Address | IPv6Address)


def asked(of: Proxies, peer: IPv4Address, *headers: str) -> str:
    """What a request says of itself behind a whole site."""
    app = new_app()

    @app.route("/api/who")
    def who(request: IRequest) -> bytes:
        shown = shown_certificate(request)
        said = "nobody" if shown is None else "certificate"
        left = [name for name, _ in request.requestHeaders.getAllRawHeaders()]
        return f"{request.getClientAddress().host} {said} {through_proxy(request)} {left}".encode()  # type: ignore[no-untyped-call]

    site = build_site([edge(app)], reactor=Clock(), proxies=of)
    transport = StringTransport(peerAddress=peer)
    channel: Any = site.buildProtocol(peer)
    channel.makeConnection(transport)
    channel.dataReceived(get("/api/who", *headers))
    return parse(transport.value())[2].decode()


HEADERS = (
    "X-Forwarded-For: 192.0.2.1",
    "Forwarded: for=192.0.2.1",
    f"Client-Cert: {binary(LEAF.der)}",
    f"Client-Cert-Chain: {binary(root().der)}",
    "X-SSL-Cert: %2D",
)


def test_a_site_takes_a_proxys_word() -> None:
    of = proxies(certificate_header="Client-Cert")
    assert asked(of, PROXY, *HEADERS[:4]) == "192.0.2.1 certificate True [b'Host']"


def test_a_site_takes_nobody_elses() -> None:
    for header in ("Client-Cert", "X-SSL-Cert"):
        of = proxies(certificate_header=header)
        left = "" if header == "X-SSL-Cert" else ", b'X-Ssl-Cert'"
        assert asked(of, STRANGER, *HEADERS) == f"192.0.2.66 nobody False [b'Host'{left}]"
    assert asked(Proxies(), PROXY, *HEADERS[:4]) == "10.0.0.1 nobody False [b'Host']"


def test_a_proxy_that_passes_no_certificates_on_has_none_counted() -> None:
    assert asked(proxies(), PROXY, *HEADERS[:4]) == "192.0.2.1 nobody True [b'Host']"
