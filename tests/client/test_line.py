"""One connection that is kept, and requests that are linked to it, over real TLS on loopback."""

from __future__ import annotations

import base64
import contextlib
import functools
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import TLSVersion
from twisted.internet.task import deferLater

from opencertd.cli.csr import csr_maker
from opencertd.client.authentication import Credentials
from opencertd.client.bounds import Limits
from opencertd.client.errors import ClientError, ServerNotTrusted
from opencertd.client.est import EstClient, Linking, Patience, parse_est_url
from opencertd.client.http import HttpsClient, https_agent
from opencertd.client.line import Line
from opencertd.client.tls import Identity, TlsSettings
from opencertd.clock import SystemClock
from tests.client import pki
from tests.client.fake_est import PASSWORD, USER, FakeEst, ec_key, listening

ROOT = pki.authority("TLS Root")
SERVER = pki.leaf(ROOT, "localhost")
BOTH = pytest.mark.parametrize("version", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])


class Asking:
    """An EST client on a line of its own."""

    def __init__(
        self,
        port: int,
        label: str,
        *,
        version: Any = None,
        linking: Linking = Linking.WANTED,
        identity: Identity | None = None,
        limits: Limits = Limits(5, 1 << 20),  # noqa: B008  (frozen)
        anchor: pki.Pair = ROOT,
        patience: Patience = Patience(),  # noqa: B008  (frozen)
    ) -> None:
        self.line = Line(reactor, TlsSettings((anchor.certificate,), identity, version), limits)
        url = parse_est_url(f"https://localhost:{port}/.well-known/est/{label}")
        http = HttpsClient(self.line, Credentials(USER, PASSWORD))
        self.client = EstClient(http, url, reactor=reactor, clock=SystemClock(), linking=linking, patience=patience)

    async def enrol(self, operation: str = "simpleenroll", key: Any = None) -> Any:
        maker = csr_maker(key or ec_key(), "CN=www.example.com", ("dns:www.example.com",))
        try:
            return await getattr(self.client, operation)(maker)
        finally:
            await self.line.close()


@BOTH
@pytest_twisted.ensureDeferred
async def test_a_request_holds_the_binding_of_its_connection_when_csrattrs_asks(version: Any) -> None:
    fake = FakeEst()
    with listening(fake, SERVER) as port:
        key = ec_key()
        enrolled = await Asking(port, "linked", version=version).enrol(key=key)
        assert enrolled.certificate.public_key() == key.public_key()
    assert [path.rpartition("/")[2] for _, path, _ in fake.seen] == ["csrattrs", "simpleenroll", "simpleenroll"]
    assert len(set(fake.connections)) == 1  # also the one that was answered by 401


@BOTH
@pytest_twisted.ensureDeferred
async def test_a_server_that_keeps_no_connection_gets_a_request_made_for_each(version: Any) -> None:
    fake = FakeEst()
    with listening(fake, SERVER) as port:
        assert (await Asking(port, "unkept", version=version).enrol()).certificate
    requests = [body for (method, *_), body in zip(fake.seen, fake.bodies, strict=True) if method == "POST"]
    assert len(requests) == 2 and requests[0] != requests[1]


@BOTH
@pytest_twisted.ensureDeferred
async def test_renewal_by_mutual_tls_is_linked_too(version: Any) -> None:
    own = pki.leaf(ROOT, "device.example")
    with listening(FakeEst(), SERVER, clients=(ROOT,)) as port:
        identity = Identity(own.certificate, own.key)
        asking = Asking(port, "linked", version=version, identity=identity, linking=Linking.ALWAYS)
        assert (await asking.enrol("simplereenroll")).certificate


@pytest_twisted.ensureDeferred
async def test_a_202_is_asked_again_with_a_request_for_the_connection_there_is_then() -> None:
    fake = FakeEst(pending=1)
    with listening(fake, SERVER) as port:
        asking = Asking(port, "unkept", patience=Patience(10))
        assert (await asking.enrol()).certificate


@pytest_twisted.ensureDeferred
async def test_nothing_is_linked_when_nobody_asks_or_when_told_not_to() -> None:
    for label, linking, asked in [
        ("", Linking.WANTED, ["csrattrs"]),
        ("busy", Linking.WANTED, ["csrattrs"]),
        ("linked", Linking.NEVER, []),
    ]:
        fake = FakeEst()
        with listening(fake, SERVER) as port:
            try:
                await Asking(port, label, linking=linking).enrol()
            except ClientError as error:
                assert label and ("busy" in str(error) or "HTTP 500" in str(error))
        paths = [path.rpartition("/")[2] for _, path, _ in fake.seen]
        assert [path for path in paths if path == "csrattrs"] == asked
        assert b"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07" not in b"".join(map(base64.b64decode, fake.bodies))


@pytest_twisted.ensureDeferred
async def test_a_ready_request_is_sent_as_it_is_but_not_as_a_linked_one() -> None:
    fake = FakeEst()
    csr = pki.request(ec_key(), "www.example.com")
    with listening(fake, SERVER) as port:
        asking = Asking(port, "")
        assert (await asking.client.simpleenroll(csr)).certificate
        await asking.line.close()
        with pytest.raises(ClientError, match="made already"):
            await Asking(port, "", linking=Linking.ALWAYS).client.simpleenroll(csr)
    assert {path.rpartition("/")[2] for _, path, _ in fake.seen} == {"simpleenroll"}


@pytest_twisted.ensureDeferred
async def test_an_agent_that_keeps_no_connection_cannot_link() -> None:
    http = HttpsClient(https_agent(reactor, TlsSettings(()), Limits()))
    with pytest.raises(TypeError):
        await http.post("https://localhost:1/", {}, lambda text: b"")


@pytest_twisted.ensureDeferred
async def test_several_answers_come_by_one_connection_and_limits_count_for_each() -> None:
    fake = FakeEst()
    with listening(fake, SERVER) as port:
        asking = Asking(port, "", limits=Limits(1, 6000))
        connection = None
        for _ in range(4):
            assert len(await asking.client.cacerts()) == 2
            held = next(iter(asking.line._connections._connections.values()))[0]
            assert connection in (None, held)
            connection = held
            await deferLater(reactor, 0.4)
        await deferLater(reactor, 1.2)  # left alone it is given up
        assert connection.state == "CONNECTION_LOST"
        assert len(await asking.client.cacerts()) == 2
        await asking.line.close()


@pytest_twisted.ensureDeferred
async def test_what_fails_before_the_request_is_made_is_said_as_ever() -> None:
    with listening(FakeEst(), SERVER) as port:
        asking = Asking(port, "", linking=Linking.ALWAYS, anchor=pki.authority("Another"))
        with pytest.raises(ServerNotTrusted, match="is not trusted: its certificate was not issued by"):
            await asking.enrol()
    with listening(FakeEst(), SERVER, clients=(ROOT,)) as port:
        for version in (TLSVersion.TLSv1_2, TLSVersion.TLSv1_3):
            with pytest.raises(ClientError, match=r"the server demands a client certificate|no common ground"):
                await Asking(port, "", linking=Linking.ALWAYS, version=version).enrol()
    with pytest.raises(ClientError, match="nothing listens there"):
        await Asking(1, "", linking=Linking.ALWAYS).enrol()


@contextmanager
def silent() -> Any:
    port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")  # type: ignore[attr-defined]
    try:
        yield port.getHost().port
    finally:
        port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_never_ends_is_given_up() -> None:
    with silent() as port, pytest.raises(ClientError, match=r"did not answer within 0\.3 seconds"):
        await Asking(port, "", linking=Linking.ALWAYS, limits=Limits(0.3, 1000)).enrol()


@contextmanager
def unending(directory: Path) -> Iterator[int]:
    """A server that answers one request with nothing, and never says farewell."""
    (directory / "server.pem").write_bytes(SERVER.pem + SERVER.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
    over = threading.Event()

    def serve() -> None:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as peer, contextlib.suppress(OSError):
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
        thread.join(10)


@pytest_twisted.ensureDeferred
async def test_the_end_waits_for_no_farewell(tmp_path: Path) -> None:
    with unending(tmp_path) as port:
        asking = Asking(port, "")
        assert await asking.client.csrattrs() is None
        before = time.monotonic()
        await asking.line.close()
        assert time.monotonic() - before < 2


@pytest_twisted.ensureDeferred
async def test_one_version_is_spoken_when_told() -> None:
    for version, name in ((TLSVersion.TLSv1_2, "TLSv1.2"), (TLSVersion.TLSv1_3, "TLSv1.3")):
        fake = FakeEst()
        seen: list[str] = []
        answer = fake.cacerts
        fake.cacerts = functools.partial(  # type: ignore[method-assign]
            lambda request, seen, answer: (
                seen.append(request.transport.getHandle().get_protocol_version_name()) or answer(request)
            ),
            seen=seen,
            answer=answer,
        )
        with listening(fake, SERVER) as port:
            asking = Asking(port, "", version=version)
            await asking.client.cacerts()
            await asking.line.close()
        assert seen == [name]
