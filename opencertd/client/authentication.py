"""Answers to a 401: Basic (RFC 7617), and Digest (RFC 7616) for servers that offer no Basic.

Basic goes first although it shows the password to the server: it only ever travels inside verified TLS, and a server
may offer Digest to everybody while it can check it only for some users.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from opencertd.client.errors import ClientError

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  (RFC 9110 §5.6.2: a token of the grammar)
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s+|\s*,|\s*$)(?!\s*=)")
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
_HASHES = {"SHA-256": "sha256", "MD5": "md5"}
"""Algorithms we answer in, the better one first."""


@dataclass(frozen=True)
class Credentials:
    """A user's name and password. Raises ClientError for a name that Basic cannot carry."""

    user: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if ":" in self.user or not self.user:
            raise ClientError("a user's name must not be empty and must not contain a colon")


@dataclass(frozen=True)
class Challenge:
    """One challenge of a WWW-Authenticate header: scheme in lower case, parameters by lower-case name."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(values: Sequence[str]) -> tuple[Challenge, ...]:
    """Every challenge in the header's values (RFC 9110 §11.6.1); what cannot be read is passed over."""
    found = []
    for value in values:
        at = 0
        while (scheme := _SCHEME.match(value, at)) is not None:
            at = scheme.end()
            parameters = {}
            while (parameter := _PARAMETER.match(value, at)) is not None:
                name, quoted, plain = parameter.groups()
                parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                at = parameter.end()
            found.append(Challenge(scheme.group(1).lower(), parameters))
    return tuple(found)


def authorization(
    challenges: Sequence[Challenge],
    credentials: Credentials,
    method: str,
    request_target: str,
    random: Callable[[int], bytes],
) -> str | None:
    """The Authorization header that answers the best of the challenges; None when none can be answered."""
    if any(challenge.scheme == "basic" for challenge in challenges):
        text = f"{credentials.user}:{credentials.password}".encode()
        return "Basic " + base64.b64encode(text).decode()
    digests = [c.parameters for c in challenges if c.scheme == "digest" and "nonce" in c.parameters]
    for algorithm in _HASHES:
        for parameters in digests:
            if parameters.get("algorithm", "MD5").upper() == algorithm and _offers_auth(parameters):
                purpose = f"{method}:{request_target}"
                return _digest(parameters, algorithm, credentials, purpose, random(16).hex())
    return None


def _offers_auth(parameters: Mapping[str, str]) -> bool:
    return "auth" in (offer.strip() for offer in parameters.get("qop", "").split(","))


def _digest(
    parameters: Mapping[str, str],
    algorithm: str,
    credentials: Credentials,
    purpose: str,
    client_nonce: str,
) -> str:
    """RFC 7616 §3.4 with qop=auth for the `purpose` METHOD:TARGET; a nonce is used once, so that its count is 1."""

    def digest(text: str) -> str:
        return hashlib.new(_HASHES[algorithm], text.encode(), usedforsecurity=False).hexdigest()

    realm, nonce = parameters.get("realm", ""), parameters["nonce"]
    secret = digest(f"{credentials.user}:{realm}:{credentials.password}")
    proof = digest(f"{secret}:{nonce}:00000001:{client_nonce}:auth:{digest(purpose)}")
    quoted = {"username": credentials.user, "realm": realm, "nonce": nonce, "uri": purpose.partition(":")[2]}
    quoted |= {"response": proof, "cnonce": client_nonce}
    if "opaque" in parameters:
        quoted["opaque"] = parameters["opaque"]
    fields = [f'{name}="{_quote(value)}"' for name, value in quoted.items()]
    return "Digest " + ", ".join((*fields, f"algorithm={algorithm}", "qop=auth", "nc=00000001"))


def _quote(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
