"""Asking a log of Certificate Transparency for a timestamp: add-pre-chain (RFC 6962 §4.2)."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography import x509
from twisted.internet.interfaces import IReactorTime

from opencertd.asn1.transparency import V1, Timestamp, parse_digitally_signed
from opencertd.client.bounds import Limits
from opencertd.client.errors import ClientError
from opencertd.client.http import HttpsClient, bounded_agent
from opencertd.client.redirects import readable
from opencertd.client.tls import TlsSettings
from opencertd.issuance.timestamps import LogFailedError

MOST_OCTETS = 1 << 16
"""Of an answer with its headers; one timestamp has some hundred."""

_SHOWN = 200


class LogClient:
    """One log. `url`: of the log, without `ct/v1/…`. `anchors`: for https; None for the operating system's."""

    def __init__(
        self, url: str, reactor: IReactorTime, seconds: float, anchors: tuple[x509.Certificate, ...] | None = None
    ) -> None:
        self._url = f"{url}/ct/v1/add-pre-chain"
        limits = Limits(seconds=seconds, size=MOST_OCTETS)
        self._client = HttpsClient(bounded_agent(reactor, TlsSettings(anchors), limits, plain=True))

    async def ask(self, chain_der: tuple[bytes, ...]) -> Timestamp:
        """A timestamp, nothing in it checked yet. Raises LogFailedError with what the log did instead."""
        body = json.dumps({"chain": [base64.b64encode(der).decode() for der in chain_der]}).encode()
        try:
            answer = await self._client.post(self._url, {"Content-Type": "application/json"}, body)
        except ClientError as error:
            raise LogFailedError(str(error)) from None
        if answer.status != 200:
            words = readable(answer.body.decode("utf-8", errors="replace"), _SHOWN)
            raise LogFailedError(f"it answered with status {answer.status}: {words}")
        try:
            return parse_timestamp(answer.body)
        except ValueError as error:
            raise LogFailedError(f"its answer is no timestamp: {error}") from None


def parse_timestamp(body: bytes) -> Timestamp:
    """The answer of a log as a value. Raises ValueError in words."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError("it is not a JSON object")  # noqa: TRY004  (the words of whoever calls)
    version, milliseconds = given.get("sct_version"), given.get("timestamp")
    if type(version) is not int or version != V1:
        raise ValueError("sct_version is not 0")
    if type(milliseconds) is not int or not 0 <= milliseconds < 1 << 64:
        raise ValueError("timestamp is not a number of milliseconds")
    log_id = _octets(given, "id")
    if len(log_id) != 32:
        raise ValueError("id does not have 32 octets")
    extensions = _octets(given, "extensions")
    if len(extensions) >= 1 << 16:
        raise ValueError("extensions are too long")
    return Timestamp(log_id, milliseconds, extensions, *parse_digitally_signed(_octets(given, "signature")))


def _octets(given: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(given[name], validate=True)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{name} is not base64") from None
