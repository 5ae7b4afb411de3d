"""RFC 8737: tls-alpn-01."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from opencertd.validation.verdict import FailedProof
from opencertd.web.tls import ServerTls
from tests.acme.conformance.test_rfc8555_challenges import check_letters, check_random, dialled, tokens
from tests.conformance import shows
from tests.validation.certificates import Shown, challenge_certificate
from tests.validation.servers import ChallengeTls, listening
from tests.validation.test_tlsalpn01 import KEY_AUTHORIZATION, RIGHT, ask, quiet


async def verdict(shown: Shown, **tls: Any) -> FailedProof | None:
    with listening(quiet(), tls=ChallengeTls(shown, **tls)) as port:
        return await ask(port)


async def check_refused(*shown: Shown) -> None:
    assert await verdict(RIGHT) is None
    for wrong in shown:
        assert isinstance(await verdict(wrong), FailedProof)


@shows("8737 §3/1")
async def test_3_a_random_token() -> None:
    check_random(await tokens("tls-alpn-01"))


@shows("8737 §3/2")
async def test_3_its_letters() -> None:
    check_letters(await tokens("tls-alpn-01"))


@shows("8737 §3/3")
def test_3_port_443() -> None:
    assert dialled("tls-alpn-01") == [("192.0.2.7", 443)]


@shows("8737 §3/4")
async def test_3_alpn() -> None:
    tls = ChallengeTls(RIGHT)
    with listening(quiet(), tls=tls) as port:
        await ask(port)
    assert tls.offered == [[b"acme-tls/1"]]


@shows("8737 §3/5")
async def test_3_sni() -> None:
    tls = ChallengeTls(RIGHT)
    with listening(quiet(), tls=tls) as port:
        await ask(port)
    assert tls.names == ["a.test"]


@shows("8737 §3/6")
async def test_3_the_server_agrees() -> None:
    assert isinstance(await verdict(RIGHT, protocols=(b"http/1.1",)), FailedProof)
    with listening(quiet(), tls=ServerTls(RIGHT.certificate_pem, RIGHT.key_pem)) as port:
        assert isinstance(await ask(port), FailedProof)


@shows("8737 §3/7")
async def test_3_self_signed() -> None:
    await check_refused(challenge_certificate(KEY_AUTHORIZATION, ["a.test"], foreign=True))


@shows("8737 §3/8")
async def test_3_one_name() -> None:
    await check_refused(
        *(challenge_certificate(KEY_AUTHORIZATION, names) for names in ([], ["b.test"], ["a.test", "b.test"]))
    )


@shows("8737 §3/9")
async def test_3_the_digest() -> None:
    await check_refused(
        challenge_certificate(KEY_AUTHORIZATION, ["a.test"], critical=False),
        challenge_certificate(KEY_AUTHORIZATION, ["a.test"], with_digest=False),
        challenge_certificate(KEY_AUTHORIZATION, ["a.test"], digest=hashlib.sha256(b"other").digest()),
        challenge_certificate(KEY_AUTHORIZATION, ["a.test"], digest=hashlib.sha1(b"short").digest()),
    )


@shows("8737 §3/10")
async def test_3_whatever_the_case() -> None:
    assert await verdict(challenge_certificate(KEY_AUTHORIZATION, ["A.Test"])) is None


@shows("8737 §3/11")
async def test_3_a_labels() -> None:
    from tests.acme.conformance.people import registered

    client = await registered()
    assert (await client.order("bücher.example")).status == 400
    assert (await client.order("xn--bcher-kva.example")).status == 201


@shows("8737 §4/1")
def test_4_the_daemon_itself_does_not_speak_it() -> None:
    from tests.acme.conformance.test_rfc8555_transport import shakes_hands

    context = ServerTls(RIGHT.certificate_pem, RIGHT.key_pem)._context
    asking = SSL.Context(SSL.TLS_CLIENT_METHOD)
    asking.set_alpn_protos([b"acme-tls/1"])
    client = SSL.Connection(asking)
    shakes_hands(client, SSL.Connection(context))
    assert client.get_alpn_proto_negotiated() == b""


class Watching(Protocol):
    """Keeps what comes after the handshake, and when the connection ends."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended = True


async def watched() -> Watching:
    from twisted.internet import reactor

    made = Watching()
    factory = Factory.forProtocol(lambda: made)  # type: ignore[arg-type]
    factory.noisy = False
    with listening(factory, tls=ChallengeTls(RIGHT)) as port:
        assert await ask(port) is None
        end = time.monotonic() + 2
        while not made.ended and time.monotonic() < end:
            await deferLater(reactor, 0.01)
    return made


@shows("8737 §4/2")
async def test_4_nothing_follows() -> None:
    assert (await watched()).received == b""


@shows("8737 §4/3")
async def test_4_it_ends_at_once() -> None:
    assert (await watched()).ended


@shows("8737 §4/4")
async def test_4_tls_1_2() -> None:
    assert await verdict(RIGHT, highest=SSL.TLS1_2_VERSION) is None
    assert isinstance(await verdict(RIGHT, highest=SSL.TLS1_1_VERSION), FailedProof)
