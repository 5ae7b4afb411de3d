"""An issuer is a CA certificate with its signer; `Issuers` is the set that this daemon has at a time.

A set never changes. When the hierarchy does (a rollover, a retirement, a new sub CA), another set takes its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509

from opencertd.errors import StartError
from opencertd.keys.files import load_private_key
from opencertd.keys.key_uri import in_token
from opencertd.keys.kinds import PrivateKey, PublicKey, Scheme, scheme_of
from opencertd.keys.signer import AbsentSigner, Elsewhere, Signer, SoftwareSigner
from opencertd.model.certificates import CrossCertificate, IssuerRecord, IssuerRole, IssuerState


@dataclass(frozen=True)
class Issuer:
    """A CA certificate and what signs for it.

    `chain_der`: this issuer's certificate, then its parents, without a self-signed root (a root's own chain is
    itself). `root_der`: the self-signed certificate above, None when an imported chain does not reach one.
    """

    record: IssuerRecord
    certificate: x509.Certificate
    signer: Signer
    chain_der: tuple[bytes, ...]
    root_der: bytes | None

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def role(self) -> IssuerRole:
        return self.record.role

    @property
    def active(self) -> bool:
        """Whether it signs certificates; others sign only the status of those they signed."""
        return self.record.state is IssuerState.ACTIVE

    @property
    def has_key(self) -> bool:
        """Whether its key is here, in a file or a token."""
        return self.record.key_reference is not None

    @property
    def certificate_der(self) -> bytes:
        return self.record.certificate_der

    @cached_property
    def subject_key_identifier(self) -> bytes:
        """Its certificate's own; where an imported CA has none, the SHA-1 of its key (RFC 5280 §4.2.1.2 (1))."""
        try:
            extension = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return x509.SubjectKeyIdentifier.from_public_key(self.signer.public_key).digest
        return extension.value.digest


class Issuers:
    """All issuers, in the order in which they came to be."""

    def __init__(self, issuers: tuple[Issuer, ...], cross_certificates: tuple[CrossCertificate, ...] = ()) -> None:
        self._issuers = issuers
        self.cross_certificates = cross_certificates
        self._by_id = {issuer.id: issuer for issuer in issuers}
        self._by_name = {issuer.name: issuer for issuer in issuers}
        self._successor_of = {i.record.predecessor_id: i for i in issuers if i.record.predecessor_id is not None}

    def all(self) -> tuple[Issuer, ...]:
        return self._issuers

    def issuing(self) -> tuple[Issuer, ...]:
        """Those that sign end entities, or did so before they were retired."""
        return tuple(issuer for issuer in self._issuers if issuer.role is IssuerRole.ISSUING)

    def by_id(self, issuer_id: str) -> Issuer | None:
        return self._by_id.get(issuer_id)

    def by_name(self, name: str) -> Issuer | None:
        return self._by_name.get(name)

    def current(self, name: str) -> Issuer | None:
        """Who signs where profiles say `name`: that issuer or its latest successor; None when it signs no more."""
        issuer = self._by_name.get(name)
        while issuer is not None and (successor := self._successor_of.get(issuer.id)) is not None:
            issuer = successor
        return issuer if issuer is not None and issuer.active else None

    def roots_der(self) -> tuple[bytes, ...]:
        """The self-signed roots above all issuers, once each."""
        return tuple(dict.fromkeys(issuer.root_der for issuer in self._issuers if issuer.root_der))

    def authorities_der(self) -> tuple[bytes, ...]:
        """Every CA certificate a client may need: issuing chains first, then roots, once each."""
        chains = (der for issuer in self.issuing() for der in issuer.chain_der)
        return tuple(dict.fromkeys((*chains, *self.roots_der())))


SignerInToken = Callable[[str, PublicKey, Scheme], Signer]
"""The signer for a key reference, its public key and how it signs."""


def load_issuers(
    records: tuple[IssuerRecord, ...],
    keys: Path,
    passphrase: bytes | None,
    elsewhere: Elsewhere[bytes],
    signer_in_token: SignerInToken | None = None,
    *,
    cross_certificates: tuple[CrossCertificate, ...] = (),
) -> Issuers:
    """Issuers with their signers. Raises StartError when a key file is missing or does not belong to its certificate.

    Keys in a token are not looked for: it may be away.
    """
    by_id = {record.id: record for record in records}
    issuers = []
    for record in records:
        certificate = x509.load_der_x509_certificate(record.certificate_der)
        signer: Signer
        if record.key_reference is None:
            signer = _absent_signer(record, certificate)
        elif in_token(record.key_reference):
            signer = _signer_in_token(record, certificate, signer_in_token)
        else:
            key = read_issuer_key(record, keys, passphrase)
            signer = SoftwareSigner(key, elsewhere, scheme_of(key.public_key(), record.scheme))
        chain_der, root_der = chain_of(record, by_id)
        issuers.append(Issuer(record, certificate, signer, chain_der, root_der))
    return Issuers(tuple(issuers), cross_certificates)


def read_issuer_key(record: IssuerRecord, keys: Path, passphrase: bytes | None) -> PrivateKey:
    """The issuer's private key from its file. Raises StartError."""
    if record.key_reference is None:
        raise StartError(f"the key of the CA {record.name!r} is not here: it was taken away")
    path = keys / record.key_reference
    if not path.exists():
        raise StartError(
            f"the key of the CA {record.name!r} is missing: {path}. Restore the state directory from a backup."
        )
    key = load_private_key(path.read_bytes(), passphrase, str(path))
    if key.public_key() != x509.load_der_x509_certificate(record.certificate_der).public_key():
        raise StartError(f"the key in {path} does not belong to the certificate of the CA {record.name!r}")
    return key


def _absent_signer(record: IssuerRecord, certificate: x509.Certificate) -> Signer:
    key = certificate.public_key()
    if not isinstance(key, PublicKey):
        raise StartError(f"the CA {record.name!r} has a kind of key that is not known here")
    return AbsentSigner(record.name, key, scheme_of(key, record.scheme))


def _signer_in_token(record: IssuerRecord, certificate: x509.Certificate, make: SignerInToken | None) -> Signer:
    if make is None:
        raise StartError(
            f"the key of the CA {record.name!r} is in a token: say which by module, token and pin_file under [pkcs11] "
            "in the settings file"
        )
    key = certificate.public_key()
    if not isinstance(key, PublicKey):
        raise StartError(f"the CA {record.name!r} has a kind of key that tokens do not hold here")
    assert record.key_reference is not None  # noqa: S101  (the caller has looked)
    return make(record.key_reference, key, scheme_of(key, record.scheme))


def chain_of(record: IssuerRecord, by_id: dict[str, IssuerRecord]) -> tuple[tuple[bytes, ...], bytes | None]:
    above = [record.certificate_der]
    current: IssuerRecord | None = record
    while current is not None and current.parent_id is not None:
        current = by_id.get(current.parent_id)
        if current is not None:
            above.append(current.certificate_der)
    if current is not None:
        above.extend(current.parents_der)
    last = x509.load_der_x509_certificate(above[-1])
    if last.issuer != last.subject:
        return tuple(above), None
    return tuple(above[:-1]) or tuple(above), above[-1]
