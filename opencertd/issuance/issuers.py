"""An issuer is a CA certificate with its signer; `Issuers` is the fixed set that this daemon has, loaded at start."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509

from opencertd.errors import StartError
from opencertd.keys.files import load_private_key
from opencertd.keys.kinds import scheme_of
from opencertd.keys.signer import Elsewhere, Signer, SoftwareSigner
from opencertd.model.certificates import IssuerRecord, IssuerRole


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

    def __init__(self, issuers: tuple[Issuer, ...]) -> None:
        self._issuers = issuers
        self._by_id = {issuer.id: issuer for issuer in issuers}
        self._by_name = {issuer.name: issuer for issuer in issuers}

    def all(self) -> tuple[Issuer, ...]:
        return self._issuers

    def issuing(self) -> tuple[Issuer, ...]:
        """Those that sign end entities."""
        return tuple(issuer for issuer in self._issuers if issuer.role is IssuerRole.ISSUING)

    def by_id(self, issuer_id: str) -> Issuer | None:
        return self._by_id.get(issuer_id)

    def by_name(self, name: str) -> Issuer | None:
        return self._by_name.get(name)

    def roots_der(self) -> tuple[bytes, ...]:
        """The self-signed roots above all issuers, once each."""
        return tuple(dict.fromkeys(issuer.root_der for issuer in self._issuers if issuer.root_der))

    def authorities_der(self) -> tuple[bytes, ...]:
        """Every CA certificate a client may need: issuing chains first, then roots, once each."""
        chains = (der for issuer in self.issuing() for der in issuer.chain_der)
        return tuple(dict.fromkeys((*chains, *self.roots_der())))


def load_issuers(
    records: tuple[IssuerRecord, ...], keys: Path, passphrase: bytes | None, elsewhere: Elsewhere[bytes]
) -> Issuers:
    """Issuers with their signers. Raises StartError when a key is missing or does not belong to its certificate."""
    by_id = {record.id: record for record in records}
    issuers = []
    for record in records:
        certificate = x509.load_der_x509_certificate(record.certificate_der)
        path = keys / record.key_file
        if not path.exists():
            raise StartError(
                f"the key of the CA {record.name!r} is missing: {path}. Restore the state directory from a backup."
            )
        key = load_private_key(path.read_bytes(), passphrase, str(path))
        if key.public_key() != certificate.public_key():
            raise StartError(f"the key in {path} does not belong to the certificate of the CA {record.name!r}")
        chain_der, root_der = chain_of(record, by_id)
        signer = SoftwareSigner(key, elsewhere, scheme_of(key.public_key(), record.scheme))
        issuers.append(Issuer(record, certificate, signer, chain_der, root_der))
    return Issuers(tuple(issuers))


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
