"""Whom the client trusts, and what it endures, over real TLS on loopback."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import pytest_twisted
from cryptography import x509
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.web.iweb import IAgent

from opencertd.client.authentication import Credentials
from opencertd.client.bounds import Limits
from opencertd.client.errors import ClientError, ServerNotTrusted
from opencertd.client.est import EstClient, parse_est_url
from opencertd.client.http import HttpsClient, https_agent
from opencertd.client.line import Line
from opencertd.client.tls import Identity, TlsSettings
from opencertd.clock import SystemClock
from tests.client import pki
from tests.client.fake_est import PASSWORD, USER, FakeEst, ec_key, listening

ROOT = pki.authority("TLS Root")
ISSUING = pki.authority("TLS Issuing CA", ROOT)
ROOMY = Limits(5, 1 << 20)
SERVER = pki.leaf(ISSUING, "localhost", "127.0.0.1")


def client(
    port: int,
    *anchors: x509.Certificate,
    host: str = "localhost",
    path: str = "",
    identity: Identity | None = None,
    limits: Limits = ROOMY,
    agent: Callable[..., IAgent] = Line,
) -> EstClient:
    http = HttpsClient(agent(reactor, TlsSettings(anchors, identity), limits), Credentials(USER, PASSWORD))
    return EstClient(http, parse_est_url(f"https://{host}:{port}{path}"), reactor=reactor, clock=SystemClock())


async def failure(asking: EstClient, kind: type[ClientError] = ClientError) -> str:
    with pytest.raises(kind) as caught:
        await asking.cacerts()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest_twisted.ensureDeferred
async def test_enrols_over_tls_by_dns_name_and_by_address() -> None:
    with listening(FakeEst(), SERVER, (ISSUING,)) as port:
        for host, agent in itertools.product(("localhost", "127.0.0.1"), (https_agent, Line)):
            asking = client(port, ROOT.certificate, host=host, agent=agent)
            enrolled = await asking.simpleenroll(pki.request(ec_key(), "www.example.com"))
            assert enrolled.certificate.subject == pki.name("www.example.com")


@pytest_twisted.ensureDeferred
async def test_an_issuing_ca_alone_may_be_the_anchor() -> None:
    with listening(FakeEst(), SERVER, (ISSUING,)) as port:
        assert await client(port, ISSUING.certificate).cacerts()


@pytest_twisted.ensureDeferred
async def test_other_anchors_do_not_trust_the_server() -> None:
    fake = FakeEst()
    with listening(fake, SERVER, (ISSUING,)) as port:
        words = await failure(client(port, pki.authority("TLS Root").certificate), ServerNotTrusted)
        assert words == f"localhost:{port} is not trusted: its certificate was not issued by one of the trust anchors"
        assert await failure(client(port), ServerNotTrusted)  # no anchors: nobody
    assert fake.seen == []


@pytest_twisted.ensureDeferred
async def test_another_host_name_or_address_is_refused_with_the_names_there_are() -> None:
    fake = FakeEst()
    with listening(fake, pki.leaf(ROOT, "ca.example", "192.0.2.1")) as port:
        words = await failure(client(port, ROOT.certificate), ServerNotTrusted)
        assert words.endswith("its certificate is for ca.example, 192.0.2.1, not for localhost")
        assert "not for 127.0.0.1" in await failure(client(port, ROOT.certificate, host="127.0.0.1"), ServerNotTrusted)
    with listening(
        fake, pki.Pair(pki.certify(ROOT, (key := ec_key()).public_key(), pki.name("localhost"), []), key)
    ) as port:
        assert "is for no name at all" in await failure(client(port, ROOT.certificate), ServerNotTrusted)
    assert fake.seen == []


@pytest_twisted.ensureDeferred
async def test_an_expired_certificate_and_a_self_signed_one_are_named() -> None:
    with listening(FakeEst(), pki.leaf(ROOT, "localhost", ends=timedelta(hours=-1))) as port:
        assert (await failure(client(port, ROOT.certificate))).endswith("is not trusted: its certificate has expired")
    with listening(FakeEst(), pki.authority("localhost")) as port:
        assert "is self-signed and not among" in await failure(client(port, ROOT.certificate), ServerNotTrusted)


@pytest_twisted.ensureDeferred
async def test_a_client_certificate_is_shown_and_its_absence_explained() -> None:
    own = pki.leaf(ROOT, "device.example")
    with listening(FakeEst(), SERVER, (ISSUING,), clients=(ROOT,)) as port:
        identity = Identity(own.certificate, own.key)
        asking = client(port, ROOT.certificate, identity=identity)
        assert (await asking.simplereenroll(pki.request(ec_key(), "device.example"))).certificate
        words = await failure(client(port, ROOT.certificate))
        assert words == f"TLS with localhost:{port} failed: the server demands a client certificate"
        stranger = pki.leaf(pki.authority("Elsewhere"), "device.example")
        identity = Identity(stranger.certificate, stranger.key)
        assert "the server refuses the client certificate" in await failure(
            client(port, ROOT.certificate, identity=identity)
        )


@pytest_twisted.ensureDeferred
async def test_refused_and_unknown_and_plain_and_silent() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert "nothing listens there" in await failure(client(port, ROOT.certificate, host="127.0.0.1"))
    assert "no such host is known" in await failure(client(443, ROOT.certificate, host="nowhere.invalid"))
    with speaking(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        assert "there is no TLS server at that port" in await failure(client(port, ROOT.certificate, host="127.0.0.1"))
    with speaking(b"") as port:
        asking = client(port, ROOT.certificate, host="127.0.0.1", limits=Limits(1, 1 << 20))
        assert "did not answer within 1 seconds" in await failure(asking)


@contextmanager
def speaking(greeting: bytes) -> Iterator[int]:
    """A listener without TLS that says `greeting` to everybody."""

    class Greeter(Protocol):
        def connectionMade(self) -> None:
            self.transport.write(greeting)

    port = reactor.listenTCP(0, Factory.forProtocol(Greeter), interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        port.stopListening()


@pytest.mark.parametrize(
    ("label", "limits", "words"),
    [
        ("huge", Limits(20, 100_000), "its answer is larger than 100000 bytes"),
        ("slow", Limits(1, 1 << 20), "it did not answer within 1 seconds"),
        ("trickle", Limits(1, 1 << 20), "it did not answer within 1 seconds"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_limits_end_the_exchange_and_the_connection(label: str, limits: Limits, words: str) -> None:
    fake = FakeEst()
    with listening(fake, SERVER, (ISSUING,)) as port:
        began = time.monotonic()
        assert words in await failure(client(port, ROOT.certificate, path=f"/.well-known/est/{label}", limits=limits))
        assert time.monotonic() - began < 5
        await soon()
        assert fake.gone == [label]


def soon() -> Deferred[None]:
    return deferLater(reactor, 0.2)


@pytest_twisted.ensureDeferred
async def test_garbage_is_no_traceback() -> None:
    with listening(FakeEst(), SERVER, (ISSUING,)) as port:
        asking = client(port, ROOT.certificate, path="/.well-known/est/html")
        assert "holds no certificates" in await failure(asking)
