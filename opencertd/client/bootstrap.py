"""Trust anchors from a server nobody has vouched for yet: what a person confirms is trusted, and what leads to it.

RFC 7030 §4.1.1. The TLS connection proves nothing, so nothing but cacerts is asked over it, and nobody proves anything
to it; what counts is that a certificate has the fingerprint which came another way. Pure, but for the one question.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from opencertd.client.errors import ClientError

_HASHES: dict[int, hashes.HashAlgorithm] = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}
MOST_CERTIFICATES = 50


@dataclass(frozen=True)
class Introduced:
    """`anchors`: what was confirmed; `others`: CAs below them, at whatever distance; `left_out`: all the rest."""

    anchors: tuple[x509.Certificate, ...]
    others: tuple[x509.Certificate, ...]
    left_out: tuple[x509.Certificate, ...]


def parse_fingerprint(text: str) -> bytes:
    """A SHA-256, SHA-384 or SHA-512 in hex, with or without colons and spaces. Raises ClientError."""
    digits = "".join(text.replace(":", " ").split())
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        value = b""
    if len(value) not in _HASHES:
        raise ClientError(
            f"{text[:200]!r} is no fingerprint: it has 64 hex digits (SHA-256), 96 or 128 (SHA-384, SHA-512)"
        )
    return value


def fingerprint(certificate: x509.Certificate) -> str:
    """The SHA-256 of the whole certificate, in hex with colons, as `openssl x509 -fingerprint -sha256` prints it."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def introduce(
    certificates: Sequence[x509.Certificate],
    fingerprints: Sequence[bytes],
    confirm: Callable[[x509.Certificate], bool],
) -> Introduced:
    """What becomes trusted of a cacerts answer.

    With `fingerprints`, each must be that of one of the certificates; without, `confirm` is asked of each root. Raises
    ClientError when nothing is confirmed.
    """
    if len(certificates) > MOST_CERTIFICATES:
        raise ClientError(f"the server sent more than {MOST_CERTIFICATES} certificates")
    if fingerprints:
        anchors = [_found(certificates, wanted) for wanted in fingerprints]
    else:
        anchors = [one for one in certificates if one.subject == one.issuer and confirm(one)]
    if not anchors:
        raise ClientError("none of the server's certificates is confirmed, so nothing is trusted")
    trusted = list(dict.fromkeys(anchors))
    for _ in certificates:  # each round goes one step down, of which there are no more than certificates
        below = [one for one in certificates if one not in trusted and any(_issued(ca, one) for ca in trusted)]
        trusted += [one for one in below if _is_ca(one)]  # whoever stands in between may have a certificate of the CA's
    count = len(dict.fromkeys(anchors))
    left_out = tuple(one for one in certificates if one not in trusted)
    return Introduced(tuple(trusted[:count]), tuple(trusted[count:]), left_out)


def _found(certificates: Sequence[x509.Certificate], wanted: bytes) -> x509.Certificate:
    for certificate in certificates:
        if hmac.compare_digest(certificate.fingerprint(_HASHES[len(wanted)]), wanted):
            return certificate
    raise ClientError(
        f"none of the server's {len(certificates)} certificates has the fingerprint {wanted.hex(':').upper()}: this is "
        "not the CA that was meant, or somebody stands in between"
    )


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """By signature, and as a CA that may (RFC 5280 §4.2.1.9)."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return _is_ca(issuer)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
