"""Whoever orders chooses where the CA connects: each way to turn that against the CA's own network, one by one.

Every refusal comes in words, within the time limit, and leaves no connection, no timer and no thread behind.
"""

from __future__ import annotations

import time
from ipaddress import ip_address
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.addresses import parse_network, refusal_of
from opencertd.validation.resolver import DnsServer
from opencertd.validation.validator import Validator
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind
from tests import dns_server
from tests.validation.servers import FakeResolver, Web, listening, script, site
from tests.validation.test_http01 import KEY_AUTHORIZATION, LOOPBACK, PATH, TOKEN, deferred_end

PLACES = {
    "loopback": ("127.0.0.1", "loopback"),
    "all of loopback": ("127.8.9.10", "loopback"),
    "loopback in IPv6": ("::1", "loopback"),
    "loopback mapped into IPv6": ("::ffff:127.0.0.1", "loopback"),
    "loopback by NAT64": ("64:ff9b::7f00:1", "loopback"),
    "loopback by 6to4": ("2002:7f00:1::", "loopback"),
    "this host": ("0.0.0.0", "unspecified"),
    "this host in IPv6": ("::", "unspecified"),
    "link-local": ("169.254.7.7", "link-local"),
    "link-local in IPv6": ("fe80::1", "link-local"),
    "metadata of most clouds": ("169.254.169.254", "link-local"),
    "metadata mapped into IPv6": ("::ffff:169.254.169.254", "link-local"),
    "metadata of Amazon in IPv6": ("fd00:ec2::254", "metadata"),
    "metadata of Google in IPv6": ("fd20:ce::254", "metadata"),
    "metadata of Azure": ("168.63.129.16", "metadata"),
    "metadata of Alibaba": ("100.100.100.200", "metadata"),
    "multicast": ("224.0.0.1", "multicast"),
    "broadcast": ("255.255.255.255", "broadcast"),
}

PRIVATE = ("10.1.2.3", "172.16.9.9", "192.168.0.1", "fd12:3456::1")
RFC_1918 = tuple(map(parse_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
SECONDS = 1.0


class NoConnections:
    """A reactor's time without its network: an attempt to connect is a failure of the test."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self._reactor: Any = reactor

    def callLater(self, *args: Any, **more: Any) -> Any:
        return self._reactor.callLater(*args, **more)

    def seconds(self) -> float:
        return float(self._reactor.seconds())

    def connectTCP(self, host: str, *_: Any, **__: Any) -> None:
        raise AssertionError(f"connected to {host}")


def question(kind: str, name: str) -> ControlQuestion:
    try:
        ip_address(name)
    except ValueError:
        return ControlQuestion(kind, AltName(AltNameKind.DNS, name), TOKEN, KEY_AUTHORIZATION)
    return ControlQuestion(kind, AltName(AltNameKind.IP, name), TOKEN, KEY_AUTHORIZATION)


async def refused(asking: Validator, asked: ControlQuestion) -> str:
    """The words of the refusal, which came in time."""
    began = time.monotonic()
    failed = await asking.validate(asked)
    assert isinstance(failed, FailedProof) and time.monotonic() - began < SECONDS + 1
    assert "log says more" not in failed.detail
    return failed.detail


@pytest.mark.parametrize("kind", ["http-01", "tls-alpn-01"])
@pytest.mark.parametrize(("place", "word"), PLACES.values(), ids=PLACES)
class TestPlaces:
    @pytest_twisted.ensureDeferred
    async def test_a_name_that_leads_there_is_refused(self, place: str, word: str, kind: str) -> None:
        asking = Validator(resolver=FakeResolver({"a.test": [place]}), reactor=NoConnections())
        told = await refused(asking, question(kind, "a.test"))
        assert str(ip_address(place)) in told and word in told and "does not validate unless its settings allow" in told

    @pytest_twisted.ensureDeferred
    async def test_the_address_itself_is_refused(self, place: str, word: str, kind: str) -> None:
        asking = Validator(resolver=FakeResolver(), reactor=NoConnections())
        assert word in await refused(asking, question(kind, str(ip_address(place))))


@pytest.mark.parametrize(("place", "word"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("by_name", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_redirect_there_is_refused(place: str, word: str, by_name: bool) -> None:
    from twisted.internet import reactor

    web = Web()
    resolver = FakeResolver({"a.test": ["127.0.0.2"], "inside.test": [place]})
    with listening(site(web), "127.0.0.2") as port:
        host = "inside.test" if by_name else f"[{place}]" if ":" in place else place
        web.redirect(PATH, f"http://{host}:{port}/latest/meta-data/")
        allow = (parse_network("127.0.0.2"),)
        asking = Validator(resolver=resolver, reactor=reactor, http01_port=port, allow=allow, time_limit=SECONDS)
        assert word in await refused(asking, question("http-01", "a.test"))
    assert len(web.seen) == 1


@pytest.mark.parametrize("place", PRIVATE)
@pytest_twisted.ensureDeferred
async def test_private_networks_are_open_unless_policy_closes_them(place: str) -> None:
    assert refusal_of(ip_address(place)) is None
    resolver = FakeResolver({"a.test": [place]})
    asking = Validator(resolver=resolver, reactor=NoConnections(), refuse=RFC_1918)
    assert "an address that settings close" in await refused(asking, question("http-01", "a.test"))


@pytest.mark.parametrize(
    ("address", "allow", "refuse", "open_"),
    [
        ("10.1.2.3", (), ("10.0.0.0/8",), False),
        ("10.1.2.3", ("10.1.0.0/16",), ("10.0.0.0/8",), True),
        ("10.1.2.3", ("10.0.0.0/8",), ("10.1.0.0/16",), False),
        ("10.1.2.3", ("10.0.0.0/8",), ("10.0.0.0/8",), False),
        ("127.0.0.1", ("127.0.0.0/8",), (), True),
        ("127.0.0.1", ("127.0.0.0/8",), ("127.0.0.1",), False),
        ("::ffff:10.1.2.3", (), ("10.0.0.0/8",), False),
        ("2002:a01:203::", (), ("10.0.0.0/8",), False),
        ("8.8.8.8", (), ("0.0.0.0/0",), False),
        ("192.168.1.1", ("192.168.0.0/16",), ("0.0.0.0/0",), True),
        ("fd00::1", (), ("0.0.0.0/0",), True),
    ],
)
def test_of_what_settings_say_the_longer_prefix_wins(
    address: str, allow: tuple[str, ...], refuse: tuple[str, ...], open_: bool
) -> None:
    networks = (tuple(map(parse_network, given)) for given in (allow, refuse))
    assert (refusal_of(ip_address(address), *networks) is None) == open_


class TestRebinding:
    """DNS says one thing when it is asked to check, and another when it would be asked to connect: it is asked once."""

    @pytest_twisted.ensureDeferred
    async def test_what_was_checked_is_what_is_connected_to(self) -> None:
        from twisted.internet import reactor

        inside, outside = Web(), Web()
        outside.pages[PATH] = lambda _: KEY_AUTHORIZATION.encode()
        resolver = FakeResolver({"a.test": [["127.0.0.2"], ["127.0.0.1"]]})
        with listening(site(outside), "127.0.0.2") as port, listening(site(inside), "127.0.0.1", port):
            asking = Validator(resolver=resolver, reactor=reactor, http01_port=port, allow=LOOPBACK)
            assert await asking.validate(question("http-01", "a.test")) is None
        assert inside.seen == [] and resolver.asked == ["a.test"]

    @pytest_twisted.ensureDeferred
    async def test_a_redirect_to_the_same_name_is_checked_anew(self) -> None:
        from twisted.internet import reactor

        web = Web()
        resolver = FakeResolver({"a.test": [["127.0.0.2"], ["169.254.169.254"]]})
        with listening(site(web), "127.0.0.2") as port:
            web.redirect(PATH, f"http://a.test:{port}/again")
            allow = (parse_network("127.0.0.2"),)
            asking = Validator(resolver=resolver, reactor=reactor, http01_port=port, allow=allow, time_limit=SECONDS)
            assert "169.254.169.254" in await refused(asking, question("http-01", "a.test"))

    @pytest_twisted.ensureDeferred
    async def test_of_several_addresses_only_the_open_ones_are_used(self, make_resolver: Any) -> None:
        from twisted.internet import reactor

        web = Web()
        web.pages[PATH] = lambda _: KEY_AUTHORIZATION.encode()
        with dns_server.DnsServer() as zone, listening(site(web), "127.0.0.2") as port:
            for place in ("169.254.169.254", "127.0.0.1", "127.0.0.2"):
                zone.add("a.test", "A", place)
            zone.add("a.test", "AAAA", "::1")
            asking = Validator(
                resolver=make_resolver(DnsServer("127.0.0.1", zone.port)),
                reactor=reactor,
                http01_port=port,
                allow=(parse_network("127.0.0.2"),),
            )
            assert await asking.validate(question("http-01", "a.test")) is None


HEAD = b"HTTP/1.1 200 OK\r\n"
HOLDING = {
    "a body without end": (HEAD + b"\r\n", b"x" * 65536, 0.001),
    "a huge body": (HEAD + b"Content-Length: 999999999999\r\n\r\n", b"x" * 65536, 0.001),
    "chunks without end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n", 0.001),
    "headers without end": (HEAD, b"X-A: " + b"y" * 4000 + b"\r\n", 0.001),
    "one header without end": (HEAD + b"X-A: ", b"y" * 4000, 0.001),
    "a status line without end": (b"HTTP/1.1 200 ", b"O" * 4000, 0.001),
    "interim answers without end": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 0.001),
    "silence": (b"", b"", 60.0),
    "silence after the headers": (HEAD + b"Content-Length: 500\r\n\r\n", b"", 60.0),
    "an octet now and then": (HEAD + b"Content-Length: 500\r\n\r\n", b"x", 0.2),
    "a header's octet now and then": (HEAD + b"X-A: ", b"y", 0.2),
}


@pytest.mark.parametrize(("first", "again", "every"), HOLDING.values(), ids=HOLDING)
@pytest_twisted.ensureDeferred
async def test_a_server_that_will_not_end_is_left(first: bytes, again: bytes, every: float) -> None:
    from twisted.internet import reactor

    factory: Any = script(first, again, every)
    with listening(factory) as port:
        asking = Validator(
            resolver=FakeResolver({"a.test": ["127.0.0.1"]}),
            reactor=reactor,
            http01_port=port,
            allow=LOOPBACK,
            time_limit=SECONDS,
        )
        told = await refused(asking, question("http-01", "a.test"))
        assert "a.test" in told
        await deferred_end(factory)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 400 Bad\r\n\r\n", b"\x16\x03\x03\x40\x00" + b"\x02" * 5])
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_will_not_end_is_left(first: bytes) -> None:
    from twisted.internet import reactor

    factory: Any = script(first, b"", 60.0)
    with listening(factory) as port:
        asking = Validator(
            resolver=FakeResolver({"a.test": ["127.0.0.1"]}),
            reactor=reactor,
            tlsalpn01_port=port,
            allow=LOOPBACK,
            time_limit=SECONDS,
        )
        assert "a.test" in await refused(asking, question("tls-alpn-01", "a.test"))
        await deferred_end(factory)


@pytest_twisted.ensureDeferred
async def test_a_host_that_takes_no_connection_and_a_silent_dns_are_left(make_resolver: Any) -> None:
    from twisted.internet import reactor

    net: Any = reactor
    with dns_server.DnsServer() as zone:
        zone.add("a.test", "SILENCE")
        resolver = make_resolver(DnsServer("127.0.0.1", zone.port), lifetime=3.0)
        before = len(net.getDelayedCalls())
        asking = Validator(resolver=resolver, reactor=reactor, time_limit=SECONDS)
        told = await refused(asking, question("http-01", "a.test"))
        assert "gave up after 1 seconds while looking up the addresses of a.test" in told
        await deferLater(net, 0)
        assert len(net.getDelayedCalls()) == before
    # TEST-NET-1 (RFC 5737): nobody answers there, if a route leads there at all
    asking = Validator(resolver=FakeResolver({"a.test": ["192.0.2.1"]}), reactor=reactor, time_limit=SECONDS)
    failed = await asking.validate(question("http-01", "a.test"))
    assert isinstance(failed, FailedProof) and failed.kind is FailureKind.CONNECTION
    await deferLater(net, 0)
    assert len(net.getDelayedCalls()) == before


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.2:70/x",
        "http://a.test:22/",
        "http://a.test:6379/",
        "//a.test:25/",
        "http://",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_redirect_by_other_schemes_and_ports_is_refused(target: str) -> None:
    from twisted.internet import reactor

    web = Web()
    with listening(site(web)) as port:
        web.redirect(PATH, target)
        asking = Validator(
            resolver=FakeResolver({"a.test": ["127.0.0.1"]}), reactor=reactor, http01_port=port, allow=LOOPBACK
        )
        assert "redirects" in await refused(asking, question("http-01", "a.test"))
