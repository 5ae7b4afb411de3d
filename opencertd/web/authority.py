"""An OpenID Connect authority's keys: found by its metadata, fetched when needed, kept for ten minutes.

OpenID Connect Discovery 1.0 §4 (metadata), RFC 7517 (key sets). What the authority says is limited in size and time,
and only keys that fit an algorithm of ours are kept.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.tasks import Tasks

KEEP_KEYS = timedelta(minutes=10)
ASK_AGAIN = timedelta(minutes=1)  # for a key id that is not in the set: anybody can make one up
REST_AFTER_FAILURE = timedelta(seconds=5)
FETCH_SECONDS = 10
LARGEST_DOCUMENT = 1024 * 1024
MOST_KEYS = 100


class HttpClient(Protocol):
    """The one method of `treq.client.HTTPClient` that is used."""

    def get(self, url: str, **options: Any) -> Deferred[Any]:
        """Answer an IResponse."""


@dataclass(frozen=True)
class VerifyingKey:
    """One key of the authority: `kid` as it names it, and the algorithms it may be used with."""

    kid: str | None
    algorithms: frozenset[str]
    key: Any


@dataclass(frozen=True)
class KeySet:
    """What the authority said of itself at `fetched_at`."""

    issuer: str
    keys: tuple[VerifyingKey, ...]
    fetched_at: datetime

    def candidates(self, kid: str | None, algorithm: str) -> tuple[VerifyingKey, ...]:
        """The keys that may have signed a token with this header; without `kid` any that fits the algorithm."""
        return tuple(key for key in self.keys if algorithm in key.algorithms and (kid is None or key.kid == kid))


def parse_keys(document: Any) -> tuple[VerifyingKey, ...]:
    """The keys of a JWK set that can verify signatures here; others (unknown, private, weak, for "enc") are left."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the key set has no list of keys")  # noqa: TRY004  (the document is at fault)
    found = []
    for entry in entries[:MOST_KEYS]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        algorithms = _algorithms_of(key := _load_key(entry))
        if "alg" in entry:
            algorithms &= {entry["alg"]} if isinstance(entry["alg"], str) else set()
        kid = entry.get("kid")
        if algorithms and (kid is None or isinstance(kid, str)):
            found.append(VerifyingKey(kid, algorithms, key))
    return tuple(found)


def _load_key(entry: dict[str, Any]) -> Any:
    any_algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}  # only chooses the parser
    try:
        curve = {"P-384": "ES384"}.get(str(entry.get("crv")))
        return jwt.PyJWK(entry, algorithm=curve or any_algorithm[entry["kty"]]).key
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        return None


def _algorithms_of(key: Any) -> frozenset[str]:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return frozenset({"RS256", "PS256"})
    if isinstance(key, ec.EllipticCurvePublicKey):
        return {"secp256r1": frozenset({"ES256"}), "secp384r1": frozenset({"ES384"})}.get(key.curve.name, frozenset())
    return frozenset({"EdDSA"}) if isinstance(key, ed25519.Ed25519PublicKey) else frozenset()


class Authority:
    """The authority at an issuer URL, asked when its keys are wanted and not known.

    Its keys are at its own origin (scheme, host and port), or at one of `key_hosts` (`HOST` or `HOST:PORT`): whatever
    its metadata say, this CA asks nobody else. `client`: a treq client that verifies the authority's TLS.
    `loopback_http`: allow `http:` to this machine, for tests. StartError when the URL is no https URL.
    """

    _log = Logger()

    def __init__(
        self,
        url: str,
        *,
        client: HttpClient,
        reactor: IReactorTime,
        clock: Clock,
        loopback_http: bool = False,
        key_hosts: Collection[str] = (),
    ) -> None:
        self._url = url.rstrip("/")
        self._client = client
        self._reactor = reactor
        self._clock = clock
        self._loopback_http = loopback_http
        self._key_hosts = frozenset(key_hosts)
        self._known: KeySet | None = None
        self._failed_at: datetime | None = None
        self._lock = DeferredLock()
        self._tasks = Tasks()
        if not self._may_ask(url):
            raise StartError(f"the authority {url!r} is not an https URL without query")

    async def keys_for(self, kid: str | None, algorithm: str) -> tuple[str, tuple[VerifyingKey, ...]]:
        """The issuer's exact name, and the keys that may have signed a token with this header, perhaps none.

        An unknown `kid` makes the set be fetched again, at most once a minute. Refusal UNAVAILABLE.
        """
        known = await self._key_set(KEEP_KEYS)
        found = known.candidates(kid, algorithm)
        if not found and kid is not None:
            known = await self._key_set(ASK_AGAIN)
            found = known.candidates(kid, algorithm)
        return known.issuer, found

    async def _key_set(self, fresh: timedelta) -> KeySet:
        """The key set, fetched no longer than `fresh` ago; many who wait share one fetch."""
        if self._known is not None and self._clock.now() - self._known.fetched_at < fresh:
            return self._known
        return await self._tasks.shield(self._fetch_in_turn(fresh))  # one who hangs up ends nobody else's fetch

    async def _fetch_in_turn(self, fresh: timedelta) -> KeySet:
        await self._lock.acquire()
        try:
            now = self._clock.now()
            if self._known is not None and now - self._known.fetched_at < fresh:
                return self._known
            if self._failed_at is not None and now - self._failed_at < REST_AFTER_FAILURE:
                raise _unavailable()
            self._known = await self._fetch()
            self._failed_at = None
            return self._known
        finally:
            self._lock.release()

    async def _fetch(self) -> KeySet:
        try:
            metadata = await self._fetch_json(self._url + "/.well-known/openid-configuration")
            issuer, keys_url = str(metadata["issuer"]), str(metadata["jwks_uri"])
            if issuer.rstrip("/") != self._url:
                raise ValueError(f"it calls itself {issuer!r}")
            if not (self._may_ask(keys_url) and self._is_for_keys(keys_url)):
                raise ValueError(f"its key set is at {keys_url!r}, which tokens.key_hosts does not name")
            keys = parse_keys(await self._fetch_json(keys_url))
            return KeySet(issuer, keys, self._clock.now())
        except Exception as error:
            self._failed_at = self._clock.now()
            self._log.warn("the authority {url} cannot be asked: {error}", url=self._url, error=repr(error))
            raise _unavailable() from error

    async def _fetch_json(self, url: str) -> dict[str, Any]:
        answer = Deferred.fromCoroutine(self._get(url)).addTimeout(FETCH_SECONDS, self._reactor)
        document = json.loads(await answer)
        if not isinstance(document, dict):
            raise ValueError(f"{url} is no JSON object")  # noqa: TRY004  (the document is at fault)
        return document

    async def _get(self, url: str) -> bytes:
        response = await self._client.get(
            url, headers={"Accept": "application/json"}, allow_redirects=False, unbuffered=True
        )
        if response.code != 200:
            raise ValueError(f"{url} answered {response.code}")
        return await read_body(response, LARGEST_DOCUMENT)

    def _is_for_keys(self, url: str) -> bool:
        scheme, host, port = _origin(url)
        shown = f"[{host}]" if ":" in host else host
        named = scheme == "https" and (shown if port == 443 else f"{shown}:{port}") in self._key_hosts
        return named or _origin(self._url) == (scheme, host, port)

    def _may_ask(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if parts.query or parts.fragment or "@" in parts.netloc or not host:
            return False
        return parts.scheme == "https" or (self._loopback_http and parts.scheme == "http" and _is_loopback(host))


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unavailable() -> Refusal:
    return Refusal(RefusalKind.UNAVAILABLE, "tokens cannot be checked now: their authority is away", retry_after=10)


class _Body(TwistedProtocol):
    def __init__(self, limit: int, done: Callable[[bytes | Failure], None]) -> None:
        self._limit = limit
        self._done = done
        self._pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._limit -= len(data)
        if self._limit < 0:
            self._done(Failure(ValueError("the document is too large")))  # type: ignore[no-untyped-call]
            self.abort()
        else:
            self._pieces.append(data)

    def abort(self) -> None:
        getattr(self.transport, "abortConnection", lambda: None)()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        whole = reason.check(ResponseDone, PotentialDataLoss)  # type: ignore[no-untyped-call]
        self._done(b"".join(self._pieces) if whole else reason)


def read_body(response: IResponse, limit: int) -> Deferred[bytes]:
    """The body of a response of at most `limit` bytes, else ValueError; cancelling ends the connection."""
    body: _Body

    def done(result: bytes | Failure) -> None:
        if not answer.called:
            answer.callback(result)  # a Failure makes it fail

    answer: Deferred[bytes] = Deferred(lambda _: body.abort())
    body = _Body(limit, done)
    response.deliverBody(body)  # type: ignore[no-untyped-call]
    return answer
