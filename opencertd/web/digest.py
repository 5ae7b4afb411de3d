"""HTTP Digest (RFC 7616), qop=auth, with MD5 and SHA-256, and nonces that any worker can check.

A nonce is a time and a MAC over it: made without writing anything, good for five minutes. What is written down, only
once an answer is right, is the nonce with its count, so that no answer works twice on any worker.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

from twisted.internet.defer import DeferredSemaphore

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.web.limits import origin_form
from opencertd.web.users import DIGEST_ALGORITHMS, REALM, User, Users

LIFETIME = timedelta(minutes=5)

_AT_ONCE = 4
"""Answers judged at a time: whoever guesses on many connections is not to have all guesses judged before one counts."""

_MOST_WAITING = 1000
"""Each takes a millisecond or two: a fleet that comes back all at once fits in."""

Redeem = Callable[[str, datetime], Awaitable[None]]
"""Writes a key down until a time; Refusal BAD_NONCE when it was written down before."""

_PARAMETER = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))\s*(?:,|$)')


class StaleNonce(Refusal):
    """The password was right and the nonce was not (any more): the next challenge says `stale=true`."""


@dataclass(frozen=True)
class DigestCredentials:
    """What a client answered (RFC 7616 §3.4). `nonce_count` as sent, 8 hex digits."""

    username: str
    nonce: str
    uri: str
    response: str
    nonce_count: str
    cnonce: str
    algorithm: str


def parse_credentials(text: str) -> DigestCredentials:
    """The parameters of `Authorization: Digest …`, header bytes as Latin-1. Refusal UNAUTHENTICATED."""
    values = _parse_parameters(text)
    algorithm = values.get("algorithm", "MD5")  # RFC 7616 §3.4: MD5 when absent
    known = {name.lower(): name for name in DIGEST_ALGORITHMS}
    if algorithm.lower() not in known:
        raise _refuse(f"the Digest algorithm is none of {', '.join(DIGEST_ALGORITHMS)}")
    if values.get("qop") != "auth":
        raise _refuse("the Digest answer needs qop=auth")
    if values.get("realm") != REALM:
        raise _refuse("the Digest answer is for another realm")
    if not re.fullmatch(r"[0-9a-fA-F]{8}", values.get("nc", "")):
        raise _refuse("the Digest nonce count is not 8 hex digits")
    missing = [name for name in ("nonce", "uri", "response", "cnonce") if not values.get(name)]
    if missing:
        raise _refuse(f"the Digest answer has no {', '.join(missing)}")
    return DigestCredentials(
        username=_username(values),
        nonce=values["nonce"],
        uri=values["uri"],
        response=values["response"],
        nonce_count=values["nc"],
        cnonce=values["cnonce"],
        algorithm=known[algorithm.lower()],
    )


def _parse_parameters(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or match[1].lower() in values:
            raise _refuse("the Digest answer cannot be read")
        quoted, token = match[2], match[3]
        raw = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else token
        values[match[1].lower()] = _as_utf8(raw)
        position = match.end()
    return values


def _as_utf8(text: str) -> str:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _username(values: Mapping[str, str]) -> str:
    """`username`, or `username*` as RFC 7616 §3.4.4 has it for other characters than ASCII."""
    plain, extended = values.get("username"), values.get("username*")
    if extended is not None and plain is None and extended.lower().startswith("utf-8''"):
        return unquote(extended[len("utf-8''") :], errors="replace")
    if plain is None or extended is not None:
        raise _refuse("the Digest answer has no user name")
    return plain


def expected_response(secret: str, credentials: DigestCredentials, method: str) -> str:
    """The right `response` in hex for a user whose HA1 is `secret` (RFC 7616 §3.4.1 with qop=auth)."""
    digest = DIGEST_ALGORITHMS[credentials.algorithm]
    request = digest(f"{method}:{credentials.uri}".encode()).hexdigest()
    said = (secret, credentials.nonce, credentials.nonce_count, credentials.cnonce, "auth", request)
    return str(digest(":".join(said).encode()).hexdigest())


class Digest:
    """Challenges, and judges answers to them.

    `key`: 16 bytes or more, the same on every worker and node. `redeem`: writes a used nonce count down.
    """

    def __init__(
        self,
        *,
        users: Users,
        key: bytes,
        redeem: Redeem,
        clock: Clock,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._users = users
        self._key = hmac.digest(key, b"opencertd digest nonce", "sha256")
        self._redeem = redeem
        self._clock = clock
        self._randomness = randomness
        self._judging = DeferredSemaphore(_AT_ONCE)

    def challenges(self, *, stale: bool = False) -> tuple[str, ...]:
        """One WWW-Authenticate value for each algorithm, strongest first, all with one fresh nonce."""
        nonce = self._build_nonce()
        ending = ", stale=true" if stale else ""
        return tuple(
            f'Digest realm="{REALM}", qop="auth", algorithm={algorithm}, nonce="{nonce}"{ending}'
            for algorithm in DIGEST_ALGORITHMS
        )

    async def verify(self, text: str, method: str, target: str, address: str = "") -> User:
        """The user who answered. `text`: what follows `Digest `; `target`: the request target as it was sent, from
        `address`.

        Refusal UNAUTHENTICATED (as `StaleNonce` when only the nonce was at fault), RATE_LIMITED.
        """
        credentials = parse_credentials(text)
        if origin_form(credentials.uri.encode()) != origin_form(target.encode()):
            raise _refuse("the Digest answer is for another URI")
        if len(self._judging.waiting) >= _MOST_WAITING:
            raise Refusal(RefusalKind.RATE_LIMITED, "too many passwords are being checked", retry_after=2)
        await self._judging.acquire()
        try:  # the outcome is noted before the next in line begins
            user = await self._judge(credentials, method, address)
        finally:
            self._judging.release()
        await self._use_up(credentials, self._nonce_expiry(credentials.nonce))
        return user

    async def _judge(self, credentials: DigestCredentials, method: str, address: str) -> User:
        user = await self._users.find(credentials.username)
        await self._users.throttle.check(credentials.username, address)
        secret = None if user is None else user.digests.get(credentials.algorithm)
        expected = expected_response(secret or "", credentials, method)
        right = hmac.compare_digest(expected.encode(), credentials.response.lower().encode())
        if user is None or secret is None or not right:
            await self._users.throttle.failed(credentials.username, address)
            raise _refuse("user name or password is wrong")
        await self._users.throttle.succeeded(credentials.username, address)
        return user

    async def _use_up(self, credentials: DigestCredentials, expires: datetime) -> None:
        if not self._clock.now() < expires:
            raise StaleNonce(RefusalKind.UNAUTHENTICATED, "the Digest nonce is too old: answer the new one")
        try:
            await self._redeem(f"digest:{credentials.nonce}:{credentials.nonce_count.lower()}", expires)
        except Refusal as refusal:
            if refusal.kind is not RefusalKind.BAD_NONCE:
                raise
            detail = "the Digest nonce was used with this count before: answer the new one"
            raise StaleNonce(RefusalKind.UNAUTHENTICATED, detail) from None

    def _build_nonce(self) -> str:
        made = int(self._clock.now().timestamp()).to_bytes(8, "big") + self._randomness(9)
        return base64.urlsafe_b64encode(made + self._mac(made)).decode("ascii")

    def _nonce_expiry(self, nonce: str) -> datetime:
        """When a nonce of ours ceases to be good. A nonce that is not ours (any more) is stale, not an attack."""
        try:
            raw = base64.b64decode(nonce, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        made, mac = raw[:17], raw[17:]
        if len(made) < 17 or not hmac.compare_digest(mac, self._mac(made)):
            return datetime.min.replace(tzinfo=UTC)
        return datetime.fromtimestamp(int.from_bytes(made[:8], "big"), UTC) + LIFETIME

    def _mac(self, made: bytes) -> bytes:
        return hmac.digest(self._key, made, "sha256")[:16]


def _refuse(detail: str) -> Refusal:
    return Refusal(RefusalKind.UNAUTHENTICATED, detail)
