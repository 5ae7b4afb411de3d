"""The daemon's own certificates: for its TLS listener, its OCSP responders and its audit, issued through the one door.

Each is one file in the state directory's `own/`, key and chain together so that they are replaced together, shared by
the workers of a node. A certificate is renewed when a third of its life is left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from twisted.logger import Logger

from opencertd.asn1 import pem
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.shipped import responder_profile
from opencertd.keys.files import encode_private_key, load_private_key, write_secret
from opencertd.keys.kinds import KINDS, PrivateKey, PublicKey, kind_of
from opencertd.keys.signer import Elsewhere
from opencertd.model.names import AltName, parse_dns_name, parse_ip_address
from opencertd.model.request import IssuanceRequest
from opencertd.model.requester import ANY_NAME, Proof, Requester

_DAEMON = Requester(Proof.DAEMON, "daemon", "opencertd", ANY_NAME)
_FRESH_SHARE = 2 / 3
_TLS = "tls"
_EC = KINDS["p-256"]


@dataclass(frozen=True)
class OwnCertificate:
    """A private key, its certificate and the chain below the root, leaf first."""

    key: PrivateKey
    certificate: x509.Certificate
    chain_der: tuple[bytes, ...]


@dataclass(frozen=True)
class _Wish:
    """What a certificate of the daemon's is to be. `file`: the beginning of its file's name."""

    file: str
    profile: str
    subject: x509.Name
    names: tuple[AltName, ...]
    make_key: Callable[[], PrivateKey]


class OwnCertificates:
    """Loads what is on disk while it is fresh, else has a new one issued and written.

    Two workers that renew at once both get a good certificate; the file keeps the later one.
    """

    _log = Logger()

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

    def kept_tls(self, names: tuple[str, ...]) -> OwnCertificate | None:
        """The listener's certificate as it is on disk, even when it is due: a worker starts with it, then renews."""
        return self._load(self._path(_TLS, _alt_names(names)), trusted=False)

    async def tls(self, names: tuple[str, ...]) -> OwnCertificate:
        """The listener's certificate for these DNS names and addresses; a change of names makes a new one.

        When every CA that could sign it is revoked, the last one there was: the daemon must go on, since it is who
        tells the world of the revocation, over plain HTTP too.
        """
        wish = _Wish(_TLS, "daemon-tls", x509.Name([]), _alt_names(names), _EC.make)
        try:
            return await self._current(wish)
        except Refusal as refusal:
            kept = self.kept_tls(names)
            if kept is None or refusal.kind is not RefusalKind.UNAVAILABLE:
                raise
            self._log.error(
                "the TLS listener keeps a certificate that clients should not accept any more: {why}. Make another "
                "issuing CA, or roll this one over",
                why=refusal.detail,
            )
            return kept

    async def responder(self, issuer: Issuer) -> OwnCertificate:
        """The delegated OCSP responder of one issuer, with a key of the issuer's kind (RFC 6960 §4.2.2.2)."""
        return await self._current(_responder(issuer))

    async def new_responder(self, issuer: Issuer) -> OwnCertificate:
        """The same, but made now, whatever is on disk: the issuer's key is about to go."""
        wish = _responder(issuer)
        return await self._obtain(wish, await self._elsewhere(wish.make_key))

    async def audit_checkpoint(self) -> OwnCertificate:
        """What this node signs checkpoints of the audit chain with: an EC key for that alone."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Audit checkpoints")])
        return await self._current(_Wish("audit-checkpoint", "audit-checkpoint", subject, (), _EC.make))

    async def _current(self, wish: _Wish) -> OwnCertificate:
        path = self._path(wish.file, wish.names)
        kept = self._load(path, shown=wish.file == _TLS)
        if kept is not None and self._is_fresh(kept.certificate):
            return kept
        key = await self._elsewhere(wish.make_key)
        try:
            return await self._obtain(wish, key)
        except Refusal as refusal:
            if kept is None or refusal.kind is not RefusalKind.UNAVAILABLE or not self._is_valid(kept.certificate):
                raise
            return kept  # while an issuer cannot sign, what is still valid goes on serving

    async def _obtain(self, wish: _Wish, key: PrivateKey) -> OwnCertificate:
        issued = await self._authority.issue(
            IssuanceRequest(
                spki_der=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
                subject=wish.subject,
                names=wish.names,
                profile=wish.profile,
                requester=_DAEMON,
            )
        )
        path = self._path(wish.file, wish.names)
        write_secret(path, encode_private_key(key, self._passphrase) + pem.encode_certificates(issued.chain_der))
        return OwnCertificate(key, x509.load_der_x509_certificate(issued.certificate_der), issued.chain_der)

    def _path(self, file: str, names: tuple[AltName, ...]) -> Path:
        """The names are in the file's name, so that a daemon given other names does not find the old certificate."""
        mark = hashlib.sha256(" ".join(map(str, names)).encode()).hexdigest()[:8]
        return self._directory / f"{file}-{mark}.pem"

    def _is_valid(self, certificate: x509.Certificate) -> bool:
        return certificate.not_valid_before_utc <= self._clock.now() < certificate.not_valid_after_utc

    def _is_fresh(self, certificate: x509.Certificate) -> bool:
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return self._clock.now() < certificate.not_valid_before_utc + life * _FRESH_SHARE

    def _load(self, path: Path, *, trusted: bool = True, shown: bool = False) -> OwnCertificate | None:
        """What the file holds, if it is whole and by an issuer here, which with `trusted` is not revoked.

        With `shown` not distrusted either: clients meet it. A responder speaks for the distrusted, too.
        """
        if not path.exists():
            return None
        try:
            data = path.read_bytes()
            key = load_private_key(data, self._passphrase, str(path))
            chain = pem.parse_certificates(data)
            certificate = x509.load_der_x509_certificate(chain[0])
        except (StartError, ValueError, IndexError, OSError):
            return None  # made anew: nothing but the daemon itself depends on this key
        good = (i for i in self._authority.issuers.all() if not ((trusted and i.revoked) or (shown and i.distrusted)))
        known = {issuer.certificate_der for issuer in good}
        if key.public_key() != certificate.public_key() or (len(chain) > 1 and chain[1] not in known):
            return None
        return OwnCertificate(key, certificate, chain)


def _responder(issuer: Issuer) -> _Wish:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"OCSP responder of {issuer.name}")])
    make_key = _key_like(issuer.signer.public_key)
    profile = responder_profile(issuer.name).name
    return _Wish(f"ocsp-{issuer.id[:8]}-{issuer.name}", profile, subject, (), make_key)


def _alt_names(names: tuple[str, ...]) -> tuple[AltName, ...]:
    """Host names and addresses of the settings, which have checked them."""
    return tuple(
        parse_ip_address(name) if ":" in name or name.replace(".", "").isdigit() else parse_dns_name(name)
        for name in names
    )


def _key_like(issuer_key: PublicKey) -> Callable[[], PrivateKey]:
    """What makes a key of the issuer's kind (RSA of 2048 bits); P-256 for an imported CA on a curve of its own."""
    kind = kind_of(issuer_key)
    return (kind if kind.name in KINDS else _EC).make
