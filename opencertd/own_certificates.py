"""The daemon's own certificates: for its TLS listener and its OCSP responders, issued through the one door.

Each is one file in the state directory's `own/`, key and chain together so that they are replaced together, shared by
the workers of a node. A certificate is renewed when a third of its life is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from opencertd.asn1 import pem
from opencertd.clock import Clock
from opencertd.errors import StartError
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.profiles import responder_profile
from opencertd.keys.files import encode_private_key, load_private_key, write_secret
from opencertd.keys.signer import Elsewhere, PrivateKey
from opencertd.model.names import AltName, parse_dns_name, parse_ip_address
from opencertd.model.request import IssuanceRequest
from opencertd.model.requester import ANY_NAME, Proof, Requester

_DAEMON = Requester(Proof.DAEMON, "daemon", "opencertd", ANY_NAME)
_FRESH_SHARE = 2 / 3


@dataclass(frozen=True)
class OwnCertificate:
    """A private key, its certificate and the chain below the root, leaf first."""

    key: PrivateKey
    certificate: x509.Certificate
    chain_der: tuple[bytes, ...]


class OwnCertificates:
    """Loads what is on disk while it is fresh, else has a new one issued and written.

    Two workers that renew at once both get a good certificate; the file keeps the later one.
    """

    def __init__(
        self,
        authority: CertificateAuthority,
        directory: Path,
        passphrase: bytes | None,
        clock: Clock,
        elsewhere: Elsewhere[PrivateKey],
    ) -> None:
        self._authority = authority
        self._elsewhere = elsewhere
        self._directory = directory
        self._passphrase = passphrase
        self._clock = clock

    async def tls(self, names: tuple[str, ...]) -> OwnCertificate:
        """The listener's certificate for these DNS names and addresses; a change of names makes a new one."""
        alt_names = tuple(_alt_name(name) for name in names)
        return await self._current(
            "tls", "daemon-tls", x509.Name([]), alt_names, lambda: ec.generate_private_key(ec.SECP256R1())
        )

    async def responder(self, issuer: Issuer) -> OwnCertificate:
        """The delegated OCSP responder of one issuer, with a key of the issuer's kind (RFC 6960 §4.2.2.2)."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"OCSP responder of {issuer.name}")])
        is_rsa = isinstance(issuer.signer.public_key, rsa.RSAPublicKey)
        return await self._current(
            f"ocsp-{issuer.id[:8]}-{issuer.name}",
            responder_profile(issuer.name).name,
            subject,
            (),
            (lambda: rsa.generate_private_key(65537, 2048))
            if is_rsa
            else lambda: ec.generate_private_key(ec.SECP256R1()),
        )

    async def _current(
        self,
        file: str,
        profile: str,
        subject: x509.Name,
        names: tuple[AltName, ...],
        make_key: Callable[[], PrivateKey],
    ) -> OwnCertificate:
        # The names are in the file's name, so that a daemon given other names does not find the old certificate.
        mark = hashlib.sha256(" ".join(map(str, names)).encode()).hexdigest()[:8]
        path = self._directory / f"{file}-{mark}.pem"
        kept = self._load(path)
        if kept is not None:
            return kept
        key = await self._elsewhere(make_key)
        issued = await self._authority.issue(
            IssuanceRequest(
                spki_der=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
                subject=subject,
                names=names,
                profile=profile,
                requester=_DAEMON,
            )
        )
        write_secret(path, encode_private_key(key, self._passphrase) + pem.encode_certificates(issued.chain_der))
        return OwnCertificate(key, x509.load_der_x509_certificate(issued.certificate_der), issued.chain_der)

    def _load(self, path: Path) -> OwnCertificate | None:
        """What the file holds, if it is whole, fresh and by an issuer we still have."""
        if not path.exists():
            return None
        try:
            data = path.read_bytes()
            key = load_private_key(data, self._passphrase, str(path))
            chain = pem.parse_certificates(data)
            certificate = x509.load_der_x509_certificate(chain[0])
        except (StartError, ValueError, IndexError, OSError):
            return None  # made anew: nothing but the daemon itself depends on this key
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        if self._clock.now() >= certificate.not_valid_before_utc + life * _FRESH_SHARE:
            return None
        known = {issuer.certificate_der for issuer in self._authority.issuers.all()}
        if key.public_key() != certificate.public_key() or (len(chain) > 1 and chain[1] not in known):
            return None
        return OwnCertificate(key, certificate, chain)


def _alt_name(name: str) -> AltName:
    """A setting's host name or address, which the settings have checked."""
    if ":" in name or name.replace(".", "").isdigit():
        return parse_ip_address(name)
    return parse_dns_name(name)
