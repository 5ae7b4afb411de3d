"""A small ACME client (RFC 8555) on one kept connection: P-256 account keys, http-01, no policy of its own.

It shows each step by itself, so that a test can break off between two of them and a benchmark can count them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.interop.wire import Answer, Connection

POLL_FIRST = 0.02
POLL_MOST = 0.5


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwk_of(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The public JWK (RFC 7518 §6.2.1)."""
    numbers = key.public_key().public_numbers()
    x, y = (b64url(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint_of(key: ec.EllipticCurvePrivateKey) -> str:
    """RFC 7638."""
    canonical = json.dumps(jwk_of(key), sort_keys=True, separators=(",", ":")).encode()
    return b64url(hashlib.sha256(canonical).digest())


def csr_for(key: CertificateIssuerPrivateKeyTypes, *names: str) -> bytes:
    """A PKCS#10 request in DER with `names` as SANs and an empty subject."""
    sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    digest = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None
    request = builder.add_extension(sans, critical=False).sign(key, digest)
    return request.public_bytes(serialization.Encoding.DER)


class AcmeError(Exception):
    """The server refused: its problem document and status."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.body[:600]!r}")
        self.status = answer.status
        self.type = ""
        if answer.headers.get("content-type", "").startswith("application/problem+json"):
            self.type = json.loads(answer.body).get("type", "").rpartition(":")[2]


class AcmeClient:
    """One account. Call `register` first; it may be called again to find the account."""

    def __init__(self, connection: Connection, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self.connection = connection
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.thumbprint = thumbprint_of(self.key)
        self.directory: dict[str, Any] = {}
        self.account: str | None = None
        self._nonce: str | None = None
        self.polls = 0

    async def register(self, directory: str = "/directory") -> str:
        """Make the account, or find it; answers its URL."""
        self.directory = json.loads((await self.connection.request("GET", directory)).body)
        self.account = None
        answer = await self.post(self.directory["newAccount"], {"termsOfServiceAgreed": True})
        self.account = answer.headers["location"]
        return self.account

    def sign(self, url: str, nonce: str, payload: dict[str, Any] | None) -> bytes:
        """The flattened JWS of a request (RFC 8555 §6.2); payload None is POST-as-GET."""
        who: dict[str, Any] = {"kid": self.account} if self.account else {"jwk": jwk_of(self.key)}
        protected = b64url(json.dumps({"alg": "ES256", "nonce": nonce, "url": url, **who}).encode())
        text = "" if payload is None else b64url(json.dumps(payload).encode())
        r, s = decode_dss_signature(self.key.sign(f"{protected}.{text}".encode(), ec.ECDSA(hashes.SHA256())))
        signature = b64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return json.dumps({"protected": protected, "payload": text, "signature": signature}).encode()

    async def nonce(self) -> str:
        """A nonce: the last answer's, or a fresh one."""
        nonce, self._nonce = self._nonce, None
        if nonce is None:
            path = path_of(self.directory["newNonce"])
            nonce = (await self.connection.request("HEAD", path)).headers["replay-nonce"]
        return nonce

    async def post(self, url: str, payload: dict[str, Any] | None = None) -> Answer:
        """Send a signed request; a nonce that was refused is replaced, twice at most. Raises `AcmeError`."""
        headers = {"Content-Type": "application/jose+json"}
        for tries_left in (2, 1, 0):
            body = self.sign(url, await self.nonce(), payload)
            answer = await self.connection.request("POST", path_of(url), headers, body)
            self._nonce = answer.headers.get("replay-nonce")
            if answer.status < 400:
                return answer
            error = AcmeError(answer)
            if error.type != "badNonce" or not tries_left:
                raise error
        raise AssertionError("the loop above returns or raises")

    async def fetch(self, url: str) -> dict[str, Any]:
        """POST-as-GET of a JSON resource."""
        return dict(json.loads((await self.post(url)).body))

    async def order(self, *names: str, **fields: Any) -> tuple[str, dict[str, Any]]:
        """A new order; answers its URL and what it says."""
        wanted = {"identifiers": [{"type": "dns", "value": name} for name in names], **fields}
        answer = await self.post(self.directory["newOrder"], wanted)
        return answer.headers["location"], json.loads(answer.body)

    async def prove(self, order: dict[str, Any], kind: str = "http-01") -> None:
        """Answer the order's challenges of that kind and wait until each authorization is valid."""
        for url in order["authorizations"]:
            authorization = await self.fetch(url)
            if authorization["status"] == "pending":
                challenge = next(c for c in authorization["challenges"] if c["type"] == kind)
                if challenge["status"] == "pending":
                    await self.post(challenge["url"], {})
            await self.wait(url, {"pending"})

    async def wait(self, url: str, while_in: set[str]) -> dict[str, Any]:
        """Poll until the status is another than these; raises ValueError when it then is `invalid`."""
        pause = POLL_FIRST
        while True:
            self.polls += 1
            thing = await self.fetch(url)
            if thing["status"] == "invalid":
                raise ValueError(f"{url} is invalid: {thing}")
            if thing["status"] not in while_in:
                return thing
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, POLL_MOST)

    async def finalize(self, url: str, order: dict[str, Any], csr_der: bytes) -> dict[str, Any]:
        """Send the CSR and wait until the order is valid; answers the order."""
        answer = await self.post(order["finalize"], {"csr": b64url(csr_der)})
        done = json.loads(answer.body)
        return done if done["status"] == "valid" else await self.wait(url, {"processing", "ready"})

    async def download(self, order: dict[str, Any]) -> bytes:
        """The PEM chain of a valid order."""
        return (await self.post(order["certificate"])).body

    async def flow(self, name: str, key: CertificateIssuerPrivateKeyTypes) -> bytes:
        """Everything from order to download for one name; answers the PEM chain."""
        url, order = await self.order(name)
        await self.prove(order)
        return await self.download(await self.finalize(url, order, csr_for(key, name)))


def path_of(url: str) -> str:
    """The path of an absolute URL: the server is always the one of the connection."""
    return "/" + url.split("/", 3)[3]
