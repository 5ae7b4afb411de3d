"""A GET from hosts that strangers chose: every hop checked, everything received bounded.

Redirects are followed by hand, since each may lead somewhere else: its host is looked up and its addresses are
checked like the first one's, its port must be one that validation uses, and HTTPS is taken from any certificate
(RFC 8555 §8.3). Whoever asks chose the first URL only; where redirects led is shown without path and query.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from opencertd.errors import Refusal
from opencertd.model.names import AltName, AltNameKind, parse_dns_name, parse_ip_address
from opencertd.validation.addresses import Address, host_port
from opencertd.validation.attempt import Attempt
from opencertd.validation.dialer import Dialer
from opencertd.validation.transport import SingleConnection, TrustingTls, tls_reason
from opencertd.validation.verdict import FailureKind, HttpEvidence, Unproven

BODY_LIMIT = 64 * 1024
REDIRECTS = 10
URL_LIMIT = 2048

_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class WebAddress:
    """A URL in parts; `path` with its query. `scheme`: `http` or `https`."""

    scheme: str
    host: AltName
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them; the scheme's own port is left out."""
        is_ipv6 = self.host.kind is AltNameKind.IP and ":" in self.host.value
        host = f"[{self.host.value}]" if is_ipv6 else self.host.value
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def follow(came_from: WebAddress, location: bytes, ports: frozenset[int]) -> WebAddress:
    """Where a `Location` header leads. Raises `Unproven` with the reason when validation does not go there."""
    shown = f"{came_from.scheme}://{came_from.authority}"

    def refuse(why: str) -> Unproven:
        return Unproven(FailureKind.CONNECTION, f"{shown} redirects {why}")

    text = location.decode("latin-1").strip()
    if not text or len(text) > URL_LIMIT or not all("!" <= octet <= "~" for octet in text):
        raise refuse("to what is no URL")
    try:
        parts = urlsplit(urljoin(str(came_from), text))
        port = parts.port
        hostname = parts.hostname or ""
    except ValueError:
        raise refuse("to what is no URL") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise refuse(f"by the scheme {parts.scheme[:20]!r}; only http and https are followed")
    port = _DEFAULT_PORTS[parts.scheme] if port is None else port
    if port not in ports:
        known = ", ".join(map(str, sorted(ports)))
        raise refuse(f"to port {port}; only {known} are followed")
    try:
        host = _parse_host(hostname)
    except Refusal as refusal:
        raise refuse(f"to a host that is none: {refusal.detail}") from None
    query = f"?{parts.query}" if parts.query else ""
    return WebAddress(parts.scheme, host, port, (parts.path or "/") + query)


def _parse_host(text: str) -> AltName:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return parse_dns_name(text, wildcard=False)
    return parse_ip_address(text)


class Fetcher:
    """GETs by a `Dialer`. `ports`: those a redirect may lead to. `user_agent`: printable ASCII.

    `reactor` provides `IReactorTCP` and `IReactorTime`.
    """

    def __init__(self, reactor: Any, dialer: Dialer, *, ports: frozenset[int], user_agent: str) -> None:
        self._reactor = reactor
        self._dialer = dialer
        self._ports = ports
        self._user_agent = user_agent

    async def get(self, attempt: Attempt, first: WebAddress) -> HttpEvidence:
        """The answer of `first`, or of where its redirects end. Raises `Unproven`."""
        url, shown = first, str(first)
        for _ in range(REDIRECTS + 1):
            answer = await self._one(attempt, url, shown)
            if isinstance(answer, HttpEvidence):
                return answer
            url = follow(url, answer, self._ports)
            shown = f"{url.scheme}://{url.authority}, where {first} redirects to,"
        raise Unproven(FailureKind.CONNECTION, f"{first} redirects more than {REDIRECTS} times")

    async def _one(self, attempt: Attempt, url: WebAddress, shown: str) -> HttpEvidence | bytes:
        """One answer: what it says, or the `Location` it redirects to."""

        async def talk(address: Address, connection: SingleConnection) -> HttpEvidence | bytes:
            place = host_port(address, url.port)
            exchange = _Exchange(self._reactor, url, connection, f"{shown} (at {place})")
            response = await exchange.request(self._user_agent)
            attempt.enter(f"reading the answer of {shown} (at {place})")
            if response.code in _REDIRECT_STATUSES:
                locations: Sequence[bytes] = response.headers.getRawHeaders(b"Location") or (b"",)
                return locations[0]
            if response.code != 200:
                return HttpEvidence(shown, place, response.code, b"")
            body, whole = await exchange.read(response)
            return HttpEvidence(shown, place, response.code, body, whole)

        return await self._dialer.reach(attempt, url.host, url.port, talk)


@implementer(IAgentEndpointFactory)
class _Exchange:
    """One request and its answer over one connection; what breaks is told of `where`."""

    def __init__(self, reactor: Any, url: WebAddress, connection: SingleConnection, where: str) -> None:
        self._reactor = reactor
        self._url = url
        self._connection = connection
        self._where = where

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:  # noqa: N802  (Twisted's name)
        """See `IAgentEndpointFactory`: always the checked address, whatever `uri` names."""
        if self._url.scheme == "http":
            return self._connection
        named = self._url.host.kind is AltNameKind.DNS  # an IP address must not stand in SNI (RFC 6066 §3)
        return wrapClientTLS(TrustingTls(self._url.host.value if named else None), self._connection)

    async def request(self, user_agent: str) -> IResponse:
        """Send the GET; the response without its body. Lets a `ConnectError` through, else raises `Unproven`."""
        headers = Headers(
            {
                "Host": [self._url.authority],
                "User-Agent": [user_agent],
                "Accept": ["*/*"],
            }
        )
        agent = cast(Any, Agent).usingEndpointFactory(self._reactor, self)
        try:
            response: IResponse = await agent.request(b"GET", str(self._url).encode("ascii"), headers)
        except ResponseFailed as failure:
            raise self._told(failure) from failure
        return response

    async def read(self, response: IResponse) -> tuple[bytes, bool]:
        """The body up to `BODY_LIMIT`, and whether that is all. Raises `Unproven`."""
        body = _Body()
        cast(Any, response).deliverBody(body)
        try:
            return await body.done
        except ResponseFailed as failure:
            raise self._told(failure) from failure

    def _told(self, failure: ResponseFailed) -> Exception:
        """What broke the exchange, as what is to be raised."""
        causes = [reason.value for reason in failure.reasons]
        if any(isinstance(cause, CancelledError) for cause in causes):
            return CancelledError()
        if self._connection.overflowed:
            return Unproven(FailureKind.CONNECTION, f"{self._where} sent more than an answer's headers may hold")
        for cause in causes:
            if isinstance(cause, SSL.Error):
                return Unproven(FailureKind.TLS, f"TLS with {self._where} failed: {tls_reason(cause)}")
        return Unproven(FailureKind.CONNECTION, f"{self._where} broke off, or does not speak HTTP")


class _Body(Protocol):
    """Collects a body; `done` fires with (octets, whether that is all) when it ends or passes `BODY_LIMIT`."""

    def __init__(self) -> None:
        self.done: Deferred[tuple[bytes, bool]] = Deferred()
        self._received = bytearray()
        self._ended = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  (Twisted's name)
        """Keep up to the limit."""
        if self._ended:
            return
        self._received += data[: BODY_LIMIT + 1]
        if len(self._received) > BODY_LIMIT:
            self._end(whole=False)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The body's end; that of the connection is one when no length was told (PotentialDataLoss)."""
        if self._ended:
            return
        if isinstance(reason.value, (ResponseDone, PotentialDataLoss)):
            self._end(whole=True)
        else:
            self._ended = True
            self.done.errback(reason)

    def _end(self, *, whole: bool) -> None:
        self._ended = True
        self.done.callback((bytes(self._received[:BODY_LIMIT]), whole))
