"""An OpenID Connect authority in memory: metadata, keys, tokens, and a count of what was asked."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from klein import Klein
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.iweb import IRequest

from opencertd.clock import FixedClock
from opencertd.web.authority import Authority
from opencertd.web.bearer import BearerVerifier

from .people import NOW

URL = "https://idp.test/realm"


@cache
def key(kind: str) -> Any:
    """A private key that stays the same for a whole run."""
    name, _, _ = kind.partition("#")
    makers: dict[str, Callable[[], Any]] = {
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
        "RSA-1024": lambda: rsa.generate_private_key(65537, 1024),
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    return makers[name]()


ALGORITHM = {
    "RSA": "RS256",
    "RSA-1024": "RS256",
    "P-256": "ES256",
    "P-384": "ES384",
    "P-521": "ES512",
    "Ed25519": "EdDSA",
}


def jwk(kind: str, **members: Any) -> dict[str, Any]:
    """The public key as the key set has it, its `kid` being its kind."""
    name, _, _ = kind.partition("#")
    algorithm = jwt.get_algorithm_by_name(ALGORITHM[name])
    document: dict[str, Any] = json.loads(algorithm.to_jwk(key(kind).public_key()))  # type: ignore[attr-defined]
    document.pop("key_ops", None)
    return document | {"kid": kind} | members


class Idp:
    """The authority; what it says can be changed at any time."""

    def __init__(self, *kinds: str) -> None:
        self.clock = FixedClock(NOW)
        self.reactor = Clock()
        self.metadata: Any = {"issuer": URL, "jwks_uri": URL + "/keys"}
        self.keys: Any = {"keys": [jwk(kind) for kind in kinds]}
        self.code = 200
        self.asked: list[str] = []
        self.hang: Deferred[bytes] | None = None
        self.http = StubTreq(self._app().resource())
        self.authority = Authority(URL, client=self.http, reactor=self.reactor, clock=self.clock)
        self.verifier = BearerVerifier(self.authority, "ca", clock=self.clock)

    def _app(self) -> Klein:
        app = Klein()

        @app.route("/realm/<path:rest>")
        def answer(request: IRequest, rest: str) -> Any:
            self.asked.append(rest)
            request.setResponseCode(self.code)
            if self.hang is not None:
                return self.hang
            document = self.keys if rest == "keys" else self.metadata
            return document if isinstance(document, bytes) else json.dumps(document).encode()

        return app

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(self.clock.now().timestamp())
        claims = {"iss": URL, "aud": "ca", "sub": "s-1", "iat": now, "exp": now + 300} | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, kind: str = "RSA", algorithm: str | None = None, header: Any = None, **changes: Any) -> str:
        name, _, _ = kind.partition("#")
        header = {"kid": kind} if header is None else header
        return jwt.encode(self.claims(**changes), key(kind), algorithm or ALGORITHM[name], headers=header)


def forge(header: dict[str, Any], claims: Any, signature: bytes = b"") -> str:
    """A token of any parts."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    return ".".join([part(json.dumps(header).encode()), part(json.dumps(claims).encode()), part(signature)])
