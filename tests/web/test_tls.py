"""TLS asks for a client certificate, takes none for an answer, and no wrong one."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.web.iweb import IRequest

from opencertd.errors import StartError
from opencertd.web.limits import Limits
from opencertd.web.peer import shown_certificate
from opencertd.web.refusals import new_app
from opencertd.web.site import build_site
from opencertd.web.tls import ServerTls

from .pki import CLIENT, SERVER, Pair, build, issuing, namesake, root
from .wire import edge


@dataclass(frozen=True)
class Seen:
    """What a client saw of one connection."""

    answer: bytes
    server_der: bytes | None
    alpn: str | None
    session: ssl.SSLSession | None
    resumed: bool | None


class Client:
    """Speaks TLS to one port from a thread."""

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory

    def context(self, client: Pair | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=root().pem.decode())
        if client is not None:
            file = self.directory / "client.pem"
            file.write_bytes(client.pem + client.key_pem)
            context.load_cert_chain(file)
        return context

    async def ask(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> Seen:
        """GET /api/peer over a fresh connection."""

        def ask() -> Seen:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as peer,
            ):
                peer.sendall(b"GET /api/peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = b""
                while piece := peer.recv(65536):
                    answer += piece
                return Seen(
                    answer.partition(b"\r\n\r\n")[2],
                    peer.getpeercert(binary_form=True),
                    peer.selected_alpn_protocol(),
                    peer.session,
                    peer.session_reused,
                )

        return await deferToThread(ask)


@pytest.fixture
def server() -> Iterator[Pair]:
    yield build("localhost", issuing(), usages=(SERVER,))


@asynccontextmanager
async def listening(tls: ServerTls, directory: Path, **limits: Any) -> AsyncIterator[Client]:
    app = new_app()

    @app.route("/api/peer")
    def peer(request: IRequest) -> bytes:
        shown = shown_certificate(request)
        return b"nobody" if shown is None else sha256(shown.certificate_der).hexdigest().encode()

    site = build_site([edge(app)], reactor=reactor, limits=Limits(**limits))  # type: ignore[arg-type]
    port = reactor.listenSSL(0, site, tls, interface="127.0.0.1")  # type: ignore[attr-defined]
    try:
        yield Client(port.getHost().port, directory)
    finally:
        await port.stopListening()


def own(server: Pair) -> ServerTls:
    return ServerTls(server.pem + issuing().pem, server.key_pem, client_anchors=[issuing().certificate])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest_twisted.ensureDeferred
async def test_good_clients_and_anonymous_ones_are_told_apart(
    server: Pair, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    good = build("good", issuing(), usages=(CLIENT, SERVER))
    async with listening(own(server), tmp_path) as client:
        for pair, expected in [(None, b"nobody"), (good, sha256(good.der).hexdigest().encode())]:
            context = client.context(pair)
            context.minimum_version = context.maximum_version = version
            assert (await client.ask(context)).answer == expected


BAD = {
    "expired": lambda: build("old", issuing(), usages=(CLIENT,), age=timedelta(hours=5)),
    "not yet valid": lambda: build("young", issuing(), usages=(CLIENT,), age=-timedelta(hours=5)),
    "foreign CA of the same name": lambda: build("foreign", namesake(), usages=(CLIENT,)),
    "self-signed": lambda: build("self", usages=(CLIENT,)),
    "not for clients": lambda: build("server", issuing(), usages=(SERVER,)),
    "below an end entity": lambda: build("sub", build("leaf", issuing(), usages=(CLIENT,)), usages=(CLIENT,)),
    "signed by the root, which is no anchor": lambda: build("rooted", root(), usages=(CLIENT,)),
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", BAD)
@pytest_twisted.ensureDeferred
async def test_wrong_client_certificates_make_the_handshake_fail(
    server: Pair, tmp_path: Path, kind: str, version: ssl.TLSVersion
) -> None:
    async with listening(own(server), tmp_path) as client:
        context = client.context(BAD[kind]())
        context.minimum_version = context.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await client.ask(context)


@pytest_twisted.ensureDeferred
async def test_tls_1_1_and_weak_ciphers_are_refused(server: Pair, tmp_path: Path) -> None:
    async with listening(own(server), tmp_path) as client:
        old = client.context()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = ssl.TLSVersion.TLSv1_1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        weak = client.context()
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("ECDHE-ECDSA-AES128-SHA:AES128-SHA:@SECLEVEL=0")
        for context in (old, weak):
            with pytest.raises(ssl.SSLError):
                await client.ask(context)


@pytest_twisted.ensureDeferred
async def test_a_reload_changes_what_new_connections_see(server: Pair, tmp_path: Path) -> None:
    tls = own(server)
    fresh = build("localhost", issuing(), usages=(SERVER,))
    async with listening(tls, tmp_path) as client:
        assert (await client.ask(client.context())).server_der == server.der
        tls.reload(fresh.pem + issuing().pem, fresh.key_pem)
        assert (await client.ask(client.context())).server_der == fresh.der
        with pytest.raises(StartError):
            tls.reload(fresh.pem, server.key_pem)
        good = build("good", issuing(), usages=(CLIENT,))
        seen = await client.ask(client.context(good))
        assert (seen.answer, seen.server_der) == (sha256(good.der).hexdigest().encode(), fresh.der)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest_twisted.ensureDeferred
async def test_no_session_is_resumed(server: Pair, tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with listening(own(server), tmp_path) as client:
        context = client.context(build("good", issuing(), usages=(CLIENT,)))
        context.minimum_version = context.maximum_version = version
        first = await client.ask(context)
        assert not (await client.ask(context, first.session)).resumed


def test_no_connection_is_renegotiated(server: Pair) -> None:
    """A second handshake would give it another channel binding, and perhaps another client."""
    answering = own(server).serverConnectionForTLS(None)  # type: ignore[arg-type]
    answering.set_accept_state()
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    asking = SSL.Connection(context, None)
    asking.set_connect_state()

    def exchange() -> None:
        for one, other in ((asking, answering), (answering, asking)) * 3:
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))

    exchange()
    first = answering.get_peer_finished()
    assert first is not None and first == asking.get_finished()
    assert asking.renegotiate()
    with contextlib.suppress(SSL.WantReadError):
        asking.do_handshake()
    answering.bio_write(asking.bio_read(65536))
    with contextlib.suppress(SSL.WantReadError):
        answering.recv(1)
    asking.bio_write(answering.bio_read(65536))
    with pytest.raises(SSL.Error, match="no renegotiation"):
        asking.do_handshake()
    assert answering.get_peer_finished() == first


@pytest_twisted.ensureDeferred
async def test_http_1_1_is_what_alpn_offers(server: Pair, tmp_path: Path) -> None:
    async with listening(own(server), tmp_path) as client:
        for offered, chosen in [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)]:
            context = client.context()
            context.set_alpn_protocols(offered)
            seen = await client.ask(context)
            assert (seen.answer, seen.alpn) == (b"nobody", chosen)


@pytest_twisted.ensureDeferred
async def test_clients_are_told_which_cas_count(server: Pair, tmp_path: Path) -> None:
    async with listening(own(server), tmp_path) as client:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{client.port}"]
        done = await deferToThread(subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True)
    assert b"Acceptable client certificate CA names\nCN = Test Issuing" in done.stdout


@pytest_twisted.ensureDeferred
async def test_an_unfinished_handshake_is_cut_off(server: Pair, tmp_path: Path) -> None:
    def drip(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            peer.sendall(b"\x16\x03\x01\x02\x00")
            try:
                return peer.recv(100)
            except ConnectionResetError:
                return b""

    async with listening(own(server), tmp_path, idle_seconds=0.3) as client:
        assert await deferToThread(drip, client.port) == b""


def test_a_chain_and_a_key_that_do_not_fit_are_refused_in_words(server: Pair) -> None:
    other = build("other", issuing())
    for chain, key, words in [
        (server.pem, other.key_pem, "do not belong together"),
        (b"nothing", server.key_pem, "no PEM certificate"),
        (server.pem, b"nothing", "no unencrypted PEM private key"),
    ]:
        with pytest.raises(StartError, match=words):
            ServerTls(chain, key)


def test_every_certificate_of_the_chain_is_read(server: Pair) -> None:
    assert len(x509.load_pem_x509_certificates(server.pem + issuing().pem)) == 2
    ServerTls(server.pem + issuing().pem, server.key_pem)
