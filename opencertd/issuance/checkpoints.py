"""Checkpoints: signed words of how far the audit chain had grown, for a file outside the database.

Whoever can write to the database can rewrite the chain from some entry to its end, or cut it off there, and it fits
together again; it does not fit the checkpoints any more. They are signed by a key made for nothing else, whose
certificate says so by its only extended key usage: a CA's key signs certificates and CRLs, and nothing that somebody
could take for one. A line of the file is a JSON object that needs nothing beside it but the issuing CA's certificate.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.issuance.profiles import AUDIT_CHECKPOINT

_MAGIC = "opencertd audit checkpoint 1"
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Checkpoint:
    """The last entry's number and hash at a time (aware UTC, whole seconds), as a node found them."""

    sequence: int
    hash: bytes
    at: datetime
    node: str

    def to_be_signed(self) -> bytes:
        """The bytes under the signature: five lines of text that begin unlike anything else that is signed here."""
        lines = (_MAGIC, str(self.sequence), self.hash.hex(), self.at.strftime(_TIME), self.node)
        return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True)
class SignedCheckpoint:
    """A checkpoint, an ECDSA signature with SHA-256 over its bytes, and the certificate of the key that made it."""

    checkpoint: Checkpoint
    certificate_der: bytes
    signature: bytes


def sign_checkpoint(
    checkpoint: Checkpoint, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> SignedCheckpoint:
    """Sign with the key that the certificate belongs to."""
    signature = key.sign(checkpoint.to_be_signed(), ec.ECDSA(hashes.SHA256()))
    return SignedCheckpoint(checkpoint, certificate.public_bytes(Encoding.DER), signature)


def encode_line(signed: SignedCheckpoint) -> bytes:
    """One line of the file, its end included."""
    checkpoint = signed.checkpoint
    shown = {
        "sequence": checkpoint.sequence,
        "hash": checkpoint.hash.hex(),
        "at": checkpoint.at.strftime(_TIME),
        "node": checkpoint.node,
        "signature": base64.b64encode(signed.signature).decode(),
        "certificate": base64.b64encode(signed.certificate_der).decode(),
    }
    return json.dumps(shown, separators=(",", ":")).encode() + b"\n"


def parse_line(line: bytes) -> SignedCheckpoint:
    """What the line says. Raises ValueError when it is no checkpoint."""
    try:
        shown = json.loads(line)
        checkpoint = Checkpoint(
            sequence=int(shown["sequence"]),
            hash=bytes.fromhex(shown["hash"]),
            at=datetime.strptime(shown["at"], _TIME).replace(tzinfo=UTC),
            node=str(shown["node"]),
        )
        signature = base64.b64decode(shown["signature"], validate=True)
        return SignedCheckpoint(checkpoint, base64.b64decode(shown["certificate"], validate=True), signature)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("it is not a checkpoint") from error


def fault_of(signed: SignedCheckpoint, issuers: Iterable[x509.Certificate]) -> str | None:
    """Why this checkpoint is worth nothing, in words; None when it is good. `issuers`: the CA's certificates."""
    try:
        certificate = x509.load_der_x509_certificate(signed.certificate_der)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        key = certificate.public_key()
    except (ValueError, x509.ExtensionNotFound):
        return "its certificate is not one for checkpoints"
    if list(usage) != [AUDIT_CHECKPOINT] or not isinstance(key, ec.EllipticCurvePublicKey):
        return "its certificate is not one for checkpoints"
    if not any(_issued_by(certificate, issuer) for issuer in issuers):
        return "its certificate is not by this CA"
    at = signed.checkpoint.at
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        return "its certificate was not valid at its time"
    try:
        key.verify(signed.signature, signed.checkpoint.to_be_signed(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return "its signature is wrong"
    return None


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
