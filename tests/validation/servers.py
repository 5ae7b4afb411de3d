"""Servers on loopback that answer a validator rightly and wrongly, and a resolver that answers what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL
from twisted.internet import protocol, ssl
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.web import resource, server
from zope.interface import implementer

from opencertd.validation.addresses import Address
from opencertd.validation.resolver import LookupFailed, LookupProblem
from tests.validation.certificates import Shown


class FakeResolver:
    """Answers by tables; `asked` lists the names. Of a list of lists each is given out once, the last for ever."""

    def __init__(
        self,
        addresses: dict[str, list[str] | list[list[str]]] | None = None,
        texts: dict[str, tuple[bytes, ...]] | None = None,
    ) -> None:
        self._addresses = addresses or {}
        self._texts = texts or {}
        self.asked: list[str] = []

    def addresses(self, name: str) -> Deferred[tuple[Address, ...]]:
        self.asked.append(name)
        if name not in self._addresses:
            return fail(LookupFailed(LookupProblem.NO_SUCH_NAME, f"DNS knows no name {name} (NXDOMAIN)"))
        answer: Any = self._addresses[name]
        if isinstance(answer[0], list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return succeed(tuple(ip_address(text) for text in answer))

    def texts(self, name: str) -> Deferred[tuple[bytes, ...]]:
        self.asked.append(name)
        if name not in self._texts:
            return fail(LookupFailed(LookupProblem.NO_ANSWER, f"DNS has no TXT of {name}"))
        return succeed(self._texts[name])


class SilentResolver:
    """Never answers."""

    def addresses(self, name: str) -> Deferred[tuple[Address, ...]]:
        return Deferred()

    def texts(self, name: str) -> Deferred[tuple[bytes, ...]]:
        return Deferred()


Handler = Callable[[Any], bytes | int]


class Web(resource.Resource):
    """A site of functions: by (Host header, path) or by path alone. `seen` lists (host, path, user agent)."""

    isLeaf = True  # noqa: N815  (Twisted's name)

    def __init__(self) -> None:
        super().__init__()
        self.pages: dict[str, Handler] = {}
        self.seen: list[tuple[str, str, str]] = []

    def redirect(self, path: str, target: str, code: int = 302) -> None:
        def page(request: Any) -> bytes:
            request.setResponseCode(code)
            request.setHeader(b"Location", target.encode())
            return b""

        self.pages[path] = page

    def render_GET(self, request: Any) -> bytes | int:
        host = (request.getHeader(b"host") or b"").decode()
        path = request.uri.decode()
        self.seen.append((host, path, (request.getHeader(b"user-agent") or b"").decode()))
        page = self.pages.get(f"{host}{path}") or self.pages.get(path)
        if page is None:
            request.setResponseCode(404)
            return b"nothing here, secret-of-an-internal-service"
        return page(request)


@contextmanager
def listening(factory: Any, host: str = "127.0.0.1", port: int = 0, tls: Any = None) -> Iterator[int]:
    """The port where `factory` listens, by TLS when `tls` is a context factory."""
    from twisted.internet import reactor

    net: Any = reactor
    listener = (
        net.listenTCP(port, factory, interface=host)
        if tls is None
        else net.listenSSL(port, factory, tls, interface=host)
    )
    try:
        yield listener.getHost().port
    finally:
        listener.stopListening()


def site(web: Web) -> server.Site:
    """Serves `web`, quietly."""
    made = server.Site(web)
    made.noisy = False
    return made


class Script(protocol.Protocol):
    """Writes `first` when a request has come, then `again` every `every` seconds for as long as it may."""

    first = b""
    again = b""
    every = 0.0
    sent = 0
    running = True

    def dataReceived(self, data: bytes) -> None:
        if self.sent == 0:
            self.sent += 1
            self.transport.write(self.first)
            if self.again:
                self.transport.registerProducer(self, False) if not self.every else self._drip()

    def _drip(self) -> None:
        from twisted.internet import reactor

        if self.running:
            self.resumeProducing()
            reactor.callLater(self.every, self._drip)  # type: ignore[attr-defined]

    def resumeProducing(self) -> None:
        self.sent += len(self.again)
        self.transport.write(self.again)

    def stopProducing(self) -> None:
        self.running = False

    def connectionLost(self, reason: Any = None) -> None:
        self.running = False


def script(first: bytes, again: bytes = b"", every: float = 0.0) -> protocol.Factory:
    """A factory of `Script`s; `factory.made` lists them."""
    factory = protocol.Factory()
    factory.noisy = False
    factory.made = []  # type: ignore[attr-defined]

    def build(addr: Any) -> Script:
        made = Script()
        made.first, made.again, made.every = first, again, every
        factory.made.append(made)  # type: ignore[attr-defined]
        return made

    factory.buildProtocol = build  # type: ignore[method-assign, assignment]
    return factory


@implementer(IOpenSSLServerConnectionCreator)
class ChallengeTls:
    """A TLS server that shows `shown` and agrees to `protocols` by ALPN. `names` lists the SNI of each client."""

    def __init__(self, shown: Shown, protocols: Sequence[bytes] = (b"acme-tls/1",), highest: int | None = None) -> None:
        self.names: list[str | None] = []
        self.offered: list[list[bytes]] = []
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(x509.load_der_x509_certificate(shown.certificate_der))
        context.use_privatekey(cast(Any, serialization.load_pem_private_key(shown.key_pem, None)))
        if highest is not None:
            context.set_max_proto_version(highest)

        def select(connection: SSL.Connection, offered: list[bytes]) -> Any:
            self.offered.append(offered)
            name = connection.get_servername()
            self.names.append(name.decode() if name else None)
            return next((p for p in protocols if p in offered), SSL.NO_OVERLAPPING_PROTOCOLS)

        context.set_alpn_select_callback(select)
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:  # noqa: N803  (Twisted's name)
        return SSL.Connection(self._context, None)


def https_context(shown: Shown, directory: Path) -> Any:
    """For a plain HTTPS server with a certificate that nobody trusts."""
    key, certificate = directory / "key.pem", directory / "cert.pem"
    key.write_bytes(shown.key_pem)
    certificate.write_bytes(shown.certificate_pem)
    return ssl.DefaultOpenSSLContextFactory(str(key), str(certificate))
