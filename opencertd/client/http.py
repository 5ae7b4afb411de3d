"""One exchange over HTTPS: a whole answer in memory, or a `ClientError` that says what went wrong.

Proves who we are only when asked to (a 401).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import treq
from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.client import Agent, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from opencertd import __version__
from opencertd.client.authentication import Credentials, authorization, parse_challenges
from opencertd.client.body import WholeBody
from opencertd.client.bounds import BoundedEndpoints, Limits
from opencertd.client.errors import ClientError, ServerNotTrusted
from opencertd.client.line import Line
from opencertd.client.redirects import MOST_REDIRECTS, REDIRECTS, Follow, host, never, readable, redirected
from opencertd.client.tls import TlsSettings

_FAILURES = (
    ResponseFailed,
    RequestTransmissionFailed,
    SSL.Error,
    ClientError,
    error.ConnectError,
    error.ConnectionClosed,
    error.DNSLookupError,
    error.TimeoutError,
)
LinkedBody = Callable[[str], bytes]
"""Makes a body that says of itself which TLS connection carries it, from the base64 of that one's channel binding."""

Body = bytes | LinkedBody | None


@dataclass(frozen=True)
class Answer:
    """What came back, read whole. `headers` by `header`, the first of its name."""

    url: str
    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name; Latin-1, since servers may write any octets."""
        values = self.headers.getRawHeaders(name.encode("ascii"))
        return values[0].decode("latin-1") if values else None


def https_agent(reactor: IReactorTime, settings: TlsSettings, limits: Limits) -> IAgent:
    """An agent that speaks only HTTPS, one connection a request, under `settings` and `limits`."""
    return bounded_agent(reactor, settings, limits, plain=False)


def bounded_agent(reactor: IReactorTime, settings: TlsSettings, limits: Limits, *, plain: bool) -> IAgent:
    """The same, which with `plain` speaks HTTP too, where what is fetched is signed by itself."""
    endpoints = BoundedEndpoints(reactor, settings, limits, plain=plain)
    return cast(IAgent, Agent.usingEndpointFactory(reactor, endpoints))  # type: ignore[no-untyped-call]


class HttpsClient:
    """Sends requests through `agent` and turns what fails into words."""

    def __init__(
        self,
        agent: IAgent,
        credentials: Credentials | None = None,
        *,
        random: Callable[[int], bytes] = secrets.token_bytes,
        follow: Follow = never,
    ) -> None:
        self._agent = agent
        self._follow = follow
        self.credentials = credentials
        self._random = random

    async def get(self, url: str) -> Answer:
        """GET, following redirects."""
        return await self._followed("GET", url, {}, None)

    async def post(self, url: str, headers: dict[str, str], body: bytes | LinkedBody) -> Answer:
        """POST, following redirects, with the same body; a linked one is made anew for every connection."""
        return await self._followed("POST", url, headers, body)

    async def delete(self, url: str) -> Answer:
        """DELETE, following redirects."""
        return await self._followed("DELETE", url, {}, None)

    async def _followed(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        """The answer after at most three redirects, those to other servers only as `follow` says."""
        answer = await self._authenticated(method, url, headers, body)
        for _ in range(MOST_REDIRECTS):
            if answer.status not in REDIRECTS:
                return answer
            target = redirected(method, answer.url, answer.status, answer.header("Location"), self._follow)
            answer = await self._authenticated(method, target, headers, body)
        if answer.status in REDIRECTS:
            raise ClientError(f"{host(url)} redirects more than {MOST_REDIRECTS} times")
        return answer

    async def _authenticated(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        answer = await self._exchange(method, url, headers, body)
        if answer.status != 401 or self.credentials is None:
            return answer
        offered = answer.headers.getRawHeaders(b"WWW-Authenticate") or []
        challenges = parse_challenges([value.decode("utf-8", "replace") for value in offered])
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        proof = authorization(challenges, self.credentials, method, target, self._random)
        if proof is None:
            raise ClientError(f"{host(url)} asks for a proof other than a password (neither Basic nor Digest)")
        return await self._exchange(method, url, {**headers, "Authorization": proof}, body)

    async def _exchange(self, method: str, url: str, headers: dict[str, str], body: Body) -> Answer:
        sent = Headers({"User-Agent": [f"opencertd/{__version__}"], "Accept": ["*/*"]})
        for name, value in headers.items():
            sent.setRawHeaders(name.encode(), [value.encode()])
        try:
            content = await self._linked(url, body) if callable(body) else body
            producer = None if content is None else WholeBody(content)
            response: IResponse = await self._agent.request(method.encode(), url.encode("ascii"), sent, producer)
            received = await treq.content(response)
        except _FAILURES as why:
            raise explain(why, url) from None
        return Answer(url, response.code, response.headers, received)

    async def _linked(self, url: str, body: LinkedBody) -> bytes:
        """The body for the connection that the next request goes by."""
        if not isinstance(self._agent, Line):
            raise TypeError("a body can be linked to a connection only where one is kept for it")
        return body((await self._agent.binding(url.encode("ascii"))).text)


def explain(why: BaseException, url: str) -> ClientError:
    """The sentence for what the network, TLS or HTTP raised while `url` was asked."""
    where, cause = host(url), _cause(why)
    if isinstance(cause, ServerNotTrusted):
        return ServerNotTrusted(f"{where} is not trusted: {cause}")
    if isinstance(cause, ClientError):
        return ClientError(f"{where}: {cause}")
    if isinstance(cause, SSL.Error):
        return ClientError(f"TLS with {where} failed: {_tls_words(cause)}")
    for kinds, words in _NETWORK_WORDS:
        if isinstance(cause, kinds):
            return ClientError(words.format(host=where))
    if isinstance(cause, error.ConnectError) and cause.osError is not None:
        return ClientError(f"cannot connect to {where}: {readable(str(cause.osError))}")
    return ClientError(f"{where} did not answer in HTTP that can be read")


_NETWORK_WORDS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (error.ConnectionRefusedError, "cannot connect to {host}: nothing listens there (connection refused)"),
    (error.DNSLookupError, "cannot connect to {host}: no such host is known"),
    (error.NoRouteError, "cannot connect to {host}: there is no route to it"),
    (error.TimeoutError, "cannot connect to {host}: it did not answer in time"),
    (error.ConnectionClosed, "{host} closed the connection before its answer was whole"),
)


def _cause(why: BaseException) -> BaseException:
    """What lies at the bottom of Twisted's lists of reasons: our own words first, TLS next, else the first."""
    reasons: list[Failure] = getattr(why, "reasons", [])
    causes = [_cause(reason.value) for reason in reasons if reason.value is not None]
    for kind in (ClientError, SSL.Error):
        for cause in causes:
            if isinstance(cause, kind):
                return cause
    return causes[0] if causes else why


def _tls_words(cause: SSL.Error) -> str:
    entries = cause.args[0] if cause.args and isinstance(cause.args[0], list) else []
    reason = readable(str(entries[-1][-1])) if entries else ""
    for part, words in _TLS_WORDS.items():
        if part in reason:
            return words
    return reason or "the connection was closed"


_TLS_WORDS = {
    "certificate required": "the server demands a client certificate",
    "alert certificate expired": "the server refuses the client certificate as expired",
    "alert certificate revoked": "the server refuses the client certificate as revoked",
    "alert unknown ca": "the server refuses the client certificate: it does not know its issuer",
    "alert bad certificate": "the server refuses the client certificate",
    "alert certificate unknown": "the server refuses the client certificate",
    "alert unsupported certificate": "the server refuses the client certificate as unsuitable",
    "wrong version number": "there is no TLS server at that port",
    "packet length too long": "there is no TLS server at that port",
    "record layer failure": "there is no TLS server at that port",
    "http request": "there is no TLS server at that port",
    "handshake failure": "no common ground was found (handshake failure)",
    "protocol version": "the server speaks neither TLS 1.2 nor TLS 1.3",
    "unsupported protocol": "the server speaks neither TLS 1.2 nor TLS 1.3",
}
"""Parts of OpenSSL's reason strings, and what they mean to the person in front of the client."""
