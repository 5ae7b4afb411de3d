"""Who signs OCSP requests, and an `Admission` that knows them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.task import Clock as Reactor

from opencertd.asn1 import der
from opencertd.keys.kinds import scheme_of
from opencertd.keys.signer import PrivateKey
from opencertd.model.certificates import CertificateRecord, CertificateState, Revocation
from opencertd.ocsp.admission import Admission
from opencertd.web.client_trust import ClientTrust
from tests.ocsp.pki import NOW, Ca, build_certificate, pki, write_pem


@dataclass(frozen=True)
class Person:
    """A key with its certificate."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def record(self, revocation: Revocation | None = None) -> CertificateRecord:
        return CertificateRecord(
            id=1,
            issuer_id=pki().ecdsa.issuer.id,
            serial=self.certificate.serial_number,
            state=CertificateState.ISSUED,
            profile="default",
            requester="tls-certificate:partner",
            requester_label="partner",
            subject="CN=partner",
            names=(),
            not_before=NOW - timedelta(days=1),
            not_after=NOW + timedelta(days=1),
            owner="w",
            intended_at=NOW,
            certificate_der=self.der,
            revocation=revocation,
        )


def person(ca: Ca | None = None, key: PrivateKey | None = None, **options: Any) -> Person:
    ca = ca or pki().ecdsa
    key = key or ec.generate_private_key(ec.SECP256R1())
    made = build_certificate("partner", key.public_key(), ca.certificate.subject, ca.key, **options)
    return Person(key, made)


class Records:
    """What the CA recognises."""

    def __init__(self, *records: CertificateRecord) -> None:
        self.by_der = {record.certificate_der: record for record in records}

    async def __call__(self, certificate_der: bytes) -> CertificateRecord | None:
        return self.by_der.get(certificate_der)


def admission(*records: CertificateRecord, reactor: Any = None, **options: Any) -> Admission:
    """For holders of these certificates, by the issuing CAs of the tests."""
    anchors = (pki().ecdsa.certificate, pki().rsa.certificate)
    trust = ClientTrust(lambda: anchors)
    return Admission(trust=trust, recognise=Records(*records), reactor=reactor or Reactor(), **options)


def signed(
    request_der: bytes,
    who: Person,
    *,
    name: bytes | None = b"",
    certificates: tuple[bytes, ...] | None = None,
    spoil: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """The request with a requestorName (the signer's; None: none) and a signature, which `spoil` may change."""
    whole = der.read_only(request_der, der.SEQUENCE)
    (tbs,) = der.children(request_der, whole)
    subject = who.certificate.subject.public_bytes() if name == b"" else name
    who_asks = b"" if subject is None else der.explicit(1, der.explicit(4, subject))
    tbs_der = der.sequence(who_asks, tbs.content(request_der))
    scheme = scheme_of(who.key.public_key())
    signature = der.bit_string(spoil(scheme.sign(who.key, tbs_der)))
    listed = (who.der,) if certificates is None else certificates
    enclosed = der.explicit(0, der.sequence(*listed)) if listed else b""
    return der.sequence(tbs_der, der.explicit(0, der.sequence(scheme.algorithm_der, signature, enclosed)))


def signed_by_openssl(directory: Path, leaf: x509.Certificate, issuer: x509.Certificate, who: Person) -> bytes:
    """The request that `openssl ocsp` makes."""
    write_pem(directory / "leaf.pem", leaf)
    write_pem(directory / "issuer.pem", issuer)
    write_pem(directory / "signer.pem", who.certificate)
    (directory / "signer.key").write_bytes(
        who.key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    command = ["openssl", "ocsp", "-issuer", "issuer.pem", "-cert", "leaf.pem", "-reqout", "request.der", "-no_nonce"]
    signer = ["-signer", "signer.pem", "-signkey", "signer.key"]
    subprocess.run([*command, *signer], cwd=directory, check=True, capture_output=True, timeout=30)
    return (directory / "request.der").read_bytes()


def abandoned(who: Person) -> CertificateRecord:
    """Its record, of an intent that came to nothing."""
    return replace(who.record(), state=CertificateState.ABANDONED)
