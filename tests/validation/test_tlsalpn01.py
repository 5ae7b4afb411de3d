"""tls-alpn-01 with real TLS listeners: the handshake we ask for, and what each kind of server makes of it."""

from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol

from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.addresses import parse_network
from opencertd.validation.validator import Validator
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind
from tests.validation.certificates import challenge_certificate
from tests.validation.servers import ChallengeTls, FakeResolver, listening, script

KEY_AUTHORIZATION = "token.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
ALLOW = (parse_network("127.0.0.0/8"), parse_network("::1"))
RIGHT = challenge_certificate(KEY_AUTHORIZATION, ["a.test"])


def quiet() -> Factory:
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    return factory


async def ask(
    port: int, name: str = "a.test", kind: AltNameKind = AltNameKind.DNS, *, seconds: float = 5.0, **more: Any
) -> FailedProof | None:
    from twisted.internet import reactor

    validator = Validator(
        resolver=FakeResolver({"a.test": more.get("addresses", ["127.0.0.1"])}),
        reactor=reactor,
        tlsalpn01_port=port,
        allow=more.get("allow", ALLOW),
        time_limit=seconds,
    )
    return await validator.validate(ControlQuestion("tls-alpn-01", AltName(kind, name), "token", KEY_AUTHORIZATION))


@pytest_twisted.ensureDeferred
async def test_the_right_certificate_proves_and_only_acme_tls_is_offered_for_the_name() -> None:
    tls = ChallengeTls(RIGHT)
    with listening(quiet(), tls=tls) as port:
        assert await ask(port) is None
    assert tls.names == ["a.test"] and tls.offered == [[b"acme-tls/1"]]


@pytest.mark.parametrize(
    ("address", "server_name"),
    [("127.0.0.1", "1.0.0.127.in-addr.arpa"), ("::1", "1." + "0." * 31 + "ip6.arpa")],
)
@pytest_twisted.ensureDeferred
async def test_an_ip_address_is_asked_for_by_its_reverse_name(address: str, server_name: str) -> None:
    tls = ChallengeTls(challenge_certificate(KEY_AUTHORIZATION, [address]))
    with listening(quiet(), address, tls=tls) as port:
        assert await ask(port, address, AltNameKind.IP) is None
    assert tls.names == [server_name]


@pytest_twisted.ensureDeferred
async def test_the_server_sees_the_handshake_end_and_the_connection_close() -> None:
    ends = []

    class Watching(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            ends.append(reason)

    factory = Factory.forProtocol(Watching)
    with listening(factory, tls=ChallengeTls(RIGHT)) as port:
        assert await ask(port) is None
        deadline = time.monotonic() + 2
        while not ends:
            assert time.monotonic() < deadline
            await pause(0.01)
    assert ends[0].check(ConnectionDone)  # an orderly goodbye, not an aborted handshake


@pytest_twisted.ensureDeferred
async def test_a_certificate_of_another_challenge_is_refused() -> None:
    with listening(quiet(), tls=ChallengeTls(challenge_certificate("other.key", ["a.test"]))) as port:
        failed = await ask(port)
    assert failed is not None and failed.kind is FailureKind.INCORRECT_RESPONSE
    assert f"127.0.0.1:{port} (for a.test)" in failed.detail and "is not the digest" in failed.detail


@pytest_twisted.ensureDeferred
async def test_a_server_of_other_protocols_refuses_and_is_named() -> None:
    with listening(quiet(), tls=ChallengeTls(RIGHT, (b"h2", b"http/1.1"))) as port:
        failed = await ask(port)
    assert failed is not None
    assert (failed.kind, "did not agree to the ALPN protocol" in failed.detail) == (
        FailureKind.INCORRECT_RESPONSE,
        True,
    )


@pytest_twisted.ensureDeferred
async def test_a_server_of_an_old_tls_fails_as_tls() -> None:
    with listening(quiet(), tls=ChallengeTls(RIGHT, highest=SSL.TLS1_1_VERSION)) as port:
        failed = await ask(port)
    assert failed is not None and failed.kind is FailureKind.TLS and "handshake with" in failed.detail


@pytest.mark.parametrize("first", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"\x00" * 99])
@pytest_twisted.ensureDeferred
async def test_a_server_without_tls_fails_as_tls(first: bytes) -> None:
    with listening(script(first)) as port:
        failed = await ask(port)
    assert failed is not None and failed.kind is FailureKind.TLS
    assert f"the TLS handshake with 127.0.0.1:{port} for a.test" in failed.detail


@pytest_twisted.ensureDeferred
async def test_the_alert_of_rfc_7301_is_told_in_words() -> None:
    with listening(script(b"\x15\x03\x03\x00\x02\x02\x78")) as port:
        failed = await ask(port)
    assert failed is not None and failed.kind is FailureKind.TLS and "no application protocol" in failed.detail


@pytest_twisted.ensureDeferred
async def test_a_server_that_hangs_up_fails_as_tls() -> None:
    class HangUp(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.loseConnection()

    with listening(Factory.forProtocol(HangUp)) as port:
        failed = await ask(port)
    assert failed is not None and failed.kind is FailureKind.TLS and "broken off" in failed.detail


@pytest.mark.parametrize(("first", "again"), [(b"", b""), (b"\x16\x03\x03\x40\x00\x02\x00", b"\x00")])
@pytest_twisted.ensureDeferred
async def test_a_server_that_says_nothing_or_drips_is_left_when_time_is_up(first: bytes, again: bytes) -> None:
    with listening(script(first, again, 0.05)) as port:
        started = time.monotonic()
        failed = await ask(port, seconds=0.5)
        assert time.monotonic() - started < 1.5
        await pause(0.2)
    assert failed is not None and failed.kind is FailureKind.TLS
    assert "gave up after 0.5 seconds while waiting for the TLS handshake" in failed.detail


@pytest_twisted.ensureDeferred
async def test_a_closed_port_is_named() -> None:
    with listening(quiet()) as port:
        pass
    failed = await ask(port)
    assert failed == FailedProof(
        FailureKind.CONNECTION, f"cannot connect for a.test: 127.0.0.1:{port} refused the connection"
    )


@pytest_twisted.ensureDeferred
async def test_ipv4_is_used_when_ipv6_does_not_take_the_connection() -> None:
    with listening(quiet(), tls=ChallengeTls(RIGHT)) as port:
        assert await ask(port, addresses=["127.0.0.1", "::1"]) is None


@pytest_twisted.ensureDeferred
async def test_a_refused_address_is_never_connected_to() -> None:
    tls = ChallengeTls(RIGHT)
    with listening(quiet(), tls=tls) as port:
        failed = await ask(port, allow=())
    assert tls.names == [] and failed is not None and "a loopback address" in failed.detail


async def pause(seconds: float) -> None:
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    await deferLater(reactor, seconds)  # type: ignore[arg-type]
