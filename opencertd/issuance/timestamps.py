"""Timestamps of several logs at once: all logs are asked, what they say is checked, and the first to serve are enough.

A log is a stranger's server. Whatever it does, silence included, it is one timestamp less, and the time for all of them
together is limited.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from opencertd.asn1.transparency import ECDSA, RSA, SHA256, Timestamp
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.transparency_table import LogKey, log_id
from opencertd.keys.kinds import scheme_of

AHEAD = timedelta(seconds=10)
"""How far a log's clock may be before ours: TLS clients refuse timestamps of the future (RFC 6962 §5.2)."""
BEHIND = timedelta(hours=1)
"""How far it may be behind: the precertificate is some milliseconds old."""
RETRY_SECONDS = 30

_log = Logger()

Ask = Callable[[tuple[bytes, ...]], Coroutine[Deferred[Any], Any, Timestamp]]


class LogFailedError(Exception):
    """A log gave no timestamp that can be used: says why."""


@dataclass(frozen=True)
class TransparencyLog:
    """A log. `ask` sends it a chain that begins with a precertificate, and raises LogFailedError."""

    url: str
    key: LogKey
    ask: Ask


@dataclass(frozen=True)
class Entry:
    """What logs are to sign. `tbs_der`: the precertificate's without the poison; `chain_der` begins with it."""

    chain_der: tuple[bytes, ...]
    issuer_spki_der: bytes
    tbs_der: bytes


async def gather(
    logs: Sequence[TransparencyLog],
    entry: Entry,
    needed: int,
    *,
    seconds: float,
    clock: Clock,
    reactor: IReactorTime,
) -> tuple[Timestamp, ...]:
    """`needed` timestamps of as many logs, in the order of the logs. A log that is there twice counts once.

    Refusal UNAVAILABLE when they are not there in time, or cannot come any more.
    """
    gathering = _Gathering(needed, len(logs))
    asked = [Deferred.fromCoroutine(_checked(log, entry, clock)) for log in logs]
    for log, answer in zip(logs, asked, strict=True):
        answer.addCallbacks(gathering.came, gathering.failed, errbackArgs=(log,))
    try:
        await gathering.over.addTimeout(seconds, reactor)
    except DeferredTimeout:
        _log.warn("logs of certificate transparency are silent for {seconds:g} seconds", seconds=seconds)
    finally:
        for answer in asked:
            answer.cancel()
    found = gathering.found
    if len(found) < needed:
        raise Refusal(
            RefusalKind.UNAVAILABLE,
            f"{len(found)} of {needed} timestamps of certificate transparency came in time: try again later",
            retry_after=RETRY_SECONDS,
        )
    ordered = dict.fromkeys(log_id(log.key) for log in logs)
    return tuple(found[one] for one in ordered if one in found)


class _Gathering:
    """What has come. `over` fires when it is enough, or cannot be enough any more."""

    def __init__(self, needed: int, asked: int) -> None:
        self.found: dict[bytes, Timestamp] = {}
        self.over: Deferred[None] = Deferred()
        self._needed = needed
        self._open = asked

    def came(self, timestamp: Timestamp) -> None:
        if not self.over.called:
            self.found[timestamp.log_id] = timestamp
            self._one_less()

    def failed(self, failure: Failure, log: TransparencyLog) -> None:
        if self.over.called:  # nobody waits for it any more: it was cancelled
            return
        if isinstance(failure.value, LogFailedError):
            _log.warn("no timestamp of certificate transparency by {log}: {why}", log=log.url, why=str(failure.value))
        else:
            _log.failure("asking {log} failed", failure, log=log.url)
        self._one_less()

    def _one_less(self) -> None:
        self._open -= 1
        if len(self.found) >= self._needed or len(self.found) + self._open < self._needed:
            self.over.callback(None)


async def _checked(log: TransparencyLog, entry: Entry, clock: Clock) -> Timestamp:
    timestamp = await log.ask(entry.chain_der)
    check_timestamp(timestamp, log.key, entry, clock.now())
    return timestamp


def check_timestamp(timestamp: Timestamp, key: LogKey, entry: Entry, now: datetime) -> None:
    """Raise LogFailedError unless the log of that key gave this timestamp to this entry, about now."""
    if timestamp.log_id != log_id(key):
        raise LogFailedError("its timestamp is another log's")
    algorithms = (SHA256, ECDSA if isinstance(key, ec.EllipticCurvePublicKey) else RSA)
    if (timestamp.hash_algorithm, timestamp.signature_algorithm) != algorithms:
        raise LogFailedError("its timestamp is signed by algorithms that do not fit its key")
    try:
        at = timestamp.at
    except OverflowError:
        raise LogFailedError("its timestamp is of no time there is") from None
    if not now - BEHIND <= at <= now + AHEAD:
        raise LogFailedError(f"its timestamp is of {at:%Y-%m-%d %H:%M:%S} UTC: is its clock right, and ours?")
    data = timestamp.signed_bytes(entry.issuer_spki_der, entry.tbs_der)
    if not scheme_of(key).verifies(key, timestamp.signature, data):
        raise LogFailedError("its timestamp is not signed by its key")
