"""Requests of status gone wrong in many ways, the same ones for a seed, as bytes to write into a socket.

What is asked and how is bent, and where HTTP ends one request and begins the next is not: so each has its answer, also
when many are sent at once. `bent_anywhere` bends that too.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Sequence
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

NAMES = ("ecdsa", "rsa", "ecdsa-root", "rsa-root", "default", "nobody", "crl", "ca", "..", "%2e%2e", "%00", "é", "")
WORDS = ("4-1", "4-4", "cas", "users", "delta", "0-0", "1024-1023", "99999-1", "4-01", "\u0664-1", "-", "%34-1", "")
QUERIES = ("", "?format=pem", "?format=der", "?format=", "?format=pem&format=der", "?format=%ff", "?", "?x" * 200)
HEADERS = (
    b"Accept: application/x-pem-file",
    b"Accept: */*;q=0, \xff",
    b'If-None-Match: "x", W/"y"',
    b"If-None-Match: *",
    b"If-None-Match: " + b'"' * 300,
    b"If-Modified-Since: Sun, 99 Nov 9999 99:99:99 GMT",
    b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",
    b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 +9999999999",
    b"Range: bytes=0-1,2-",
    b"Content-Type: application/ocsp-request; charset=\xff",
    b"Content-Type: text/plain",
    b"Accept-Encoding: gzip;q=banana",
    b"Cookie: " + b"a=b;" * 300,
    b"Expect: 100-continue-not",
    b"Origin: null",
)
SERIALS = (0, 1, 127, 128, 1 << 63, (1 << 159) - 1)


class StatusMutants:
    """Mutants of requests about these certificates of one issuer."""

    def __init__(self, seed: str, leaves: Sequence[x509.Certificate], issuer: x509.Certificate) -> None:
        self._source = random.Random(seed)
        self._requests = [
            question(leaf, issuer, digest, nonce) for leaf in leaves for digest in DIGESTS for nonce in NONCES
        ]

    def next(self) -> bytes:
        """One request."""
        kind = self._source.choice((self._post, self._post, self._get, self._get, self._crl, self._certificate))
        return kind()

    def bent_anywhere(self) -> bytes:
        """One that may be no request at all."""
        return self._bend(self.next(), self._source.randint(1, 4))

    def _der(self) -> bytes:
        return self._bend(self._source.choice(self._requests), self._source.choice((0, 1, 1, 1, 2, 5)))

    def _bend(self, data: bytes, times: int) -> bytes:
        bent = bytearray(data)
        for _ in range(times):
            self._source.choice(WAYS)(self._source, bent)
        return bytes(bent)

    def _post(self) -> bytes:
        body = self._der()
        path = self._source.choice(("/ca/ocsp", "/ca/ocsp/", "/ca/rsa/ocsp", f"/ca/{self._name()}/ocsp"))
        return (
            self._head("POST", path, b"Content-Type: application/ocsp-request", b"Content-Length: %d" % len(body))
            + body
        )

    def _get(self) -> bytes:
        text = base64.b64encode(self._der()).decode()
        shaped = self._source.choice(
            (
                lambda: quote(text, safe=""),
                lambda: quote(text, safe="/+="),
                lambda: text.rstrip("="),
                lambda: text.replace("/", "//"),
                lambda: text.replace("+", "-").replace("/", "_"),
                lambda: quote(self._bend(text.encode(), 2), safe="/+=%"),
                lambda: text[: self._source.randrange(len(text) + 1)],
            )
        )()
        return self._head("GET", f"/ca/ocsp/{shaped}")

    def _crl(self) -> bytes:
        part = self._source.choice(("", "", f"/{self._source.choice(WORDS)}"))
        path = self._source.choice(("/ca/crl", f"/ca/{self._name()}/crl{part}"))
        return self._head("GET", path + self._source.choice(QUERIES))

    def _certificate(self) -> bytes:
        path = self._source.choice(("/ca/certificate", f"/ca/{self._name()}/certificate"))
        return self._head("GET", path + self._source.choice((*QUERIES, "?format=p7c")))

    def _name(self) -> str:
        return self._source.choice(NAMES)

    def _head(self, method: str, path: str, *headers: bytes) -> bytes:
        more = self._source.sample(HEADERS, self._source.choice((0, 0, 0, 1, 1, 2)))
        target = quote(path, safe="/%?&=+-._~")
        return b"\r\n".join((f"{method} {target} HTTP/1.1".encode(), b"Host: ca.test", *headers, *more, b"", b""))


DIGESTS = (hashes.SHA1(), hashes.SHA256())
NONCES = (None, b"x", bytes(16), bytes(200))


def question(
    leaf: x509.Certificate, issuer: x509.Certificate, digest: hashes.HashAlgorithm, nonce: bytes | None
) -> bytes:
    """An OCSP request."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, digest)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def _flip(source: random.Random, data: bytearray) -> None:
    if data:
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)


def _set(source: random.Random, data: bytearray) -> None:
    if data:
        data[source.randrange(len(data))] = source.choice((0, 1, 0x0A, 0x0D, 0x25, 0x30, 0x7F, 0x80, 0x84, 0xA0, 0xFF))


def _cut(source: random.Random, data: bytearray) -> None:
    del data[source.randrange(len(data) + 1) :]


def _leave_out(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data) + 1)
    del data[start : start + source.randint(1, 9)]


def _put_in(source: random.Random, data: bytearray) -> None:
    at = source.randrange(len(data) + 1)
    data[at:at] = source.randbytes(source.randint(1, 9))


def _repeat(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data) + 1)
    data[start:start] = data[start : start + source.randint(1, 60)] * source.choice((1, 1, 2, 8))


WAYS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip,
    _flip,
    _set,
    _set,
    _cut,
    _leave_out,
    _put_in,
    _repeat,
)
