"""A client of the `/ca` API: looks certificates up, revokes, holds and reinstates them; it signs each deed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from opencertd.client.errors import ClientError
from opencertd.client.http import Answer, HttpsClient
from opencertd.client.redirects import readable
from opencertd.keys.kinds import PrivateKey

REINSTATE = "reinstate"
"""What is signed after the serial to end a hold, where a revocation has its reason."""


def parse_server_url(text: str) -> str:
    """The URL of a server from what a person types: `ca.example`, `https://ca.example:5001`. Raises ClientError."""
    url = text.strip() if "://" in text else f"https://{text.strip()}"
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError:
        raise ClientError(f"{text!r} is not a URL") from None
    if parts.scheme != "https" or not host or parts.username is not None:
        raise ClientError(f"{text!r} must be https://HOST or https://HOST:PORT")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ClientError(f"{text!r} must be https://HOST or https://HOST:PORT, with nothing after it")
    return "https://" + (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")


class CaApiClient:
    """Speaks to one CA under `base_url` (see `parse_server_url`). Every method raises ClientError.

    `key`: the client certificate's; it signs each deed beside what TLS proves. Certificates are dictionaries as the
    API's JSON has them.
    """

    def __init__(self, http: HttpsClient, base_url: str, key: PrivateKey) -> None:
        self._http = http
        self._base_url = base_url
        self._key = key

    async def certificates(self, serial: str) -> tuple[dict[str, Any], ...]:
        """The certificates with this serial number, with their histories."""
        document = _document(await self._http.get(f"{self._base_url}/ca/inventory/{quote(serial, safe='')}"))
        found = document.get("certificates")
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise ClientError("the server's answer lists no certificates")
        return tuple(found)

    async def revoke(
        self, serial: str, reason: str, *, invalidity_date: str | None = None, issuer: str | None = None
    ) -> dict[str, Any]:
        """Revoke, or hold when `reason` is certificateHold; the certificate as it is then."""
        words = serial + reason + (invalidity_date or "")
        asked = {"sn": serial, "reason": reason, "invalidityDate": invalidity_date, "issuer": issuer}
        return _document(await self._http.delete(self._url("revoke", asked, words)))

    async def reinstate(self, serial: str, *, issuer: str | None = None) -> dict[str, Any]:
        """End a hold; the certificate as it is then."""
        url = self._url(REINSTATE, {"sn": serial, "issuer": issuer}, serial + REINSTATE)
        return _document(await self._http.post(url, {}, b""))

    def _url(self, deed: str, asked: Mapping[str, str | None], words: str) -> str:
        given = {name: value for name, value in asked.items() if value is not None}
        signature = base64.urlsafe_b64encode(_sign(self._key, words.encode())).decode()
        return f"{self._base_url}/ca/{deed}?" + urlencode({**given, "signature": signature})


def _sign(key: PrivateKey, words: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(words, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(words, ec.ECDSA(hashes.SHA256()))
    return key.sign(words)  # the others say themselves how they hash


def _document(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer; a problem document (RFC 9457) becomes a ClientError in its own words."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    if answer.status == 200 and isinstance(document, dict):
        return document
    if answer.status == 200:
        raise ClientError("the server's answer is not JSON that can be read")
    detail = document.get("detail") if isinstance(document, dict) else None
    if isinstance(detail, str) and detail:
        raise ClientError(f"the server refused: {readable(detail).rstrip('.')}")
    if answer.status == 404:
        raise ClientError("the server has no /ca API at this URL (HTTP 404)")
    raise ClientError(f"the server refused (HTTP {answer.status})")
