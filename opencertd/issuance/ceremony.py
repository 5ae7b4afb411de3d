"""The ceremony of first start: roots and issuing CAs are made under a name, and kept.

What it makes is durable in this order: keys (in files or a token), then issuers, then the CA certificates' own records;
a crash in between leaves keys that nothing refers to, or issuers whose records the next start completes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from opencertd.asn1 import dn, signed
from opencertd.errors import StartError
from opencertd.issuance.ca_certificates import CaTerms, ca_builder, valid_from
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.key_types import KeyType, NewKey, parse_key_types
from opencertd.issuance.store import CertificateStore
from opencertd.keys.files import write_private_key
from opencertd.keys.key_uri import in_token
from opencertd.keys.kinds import PrivateKey, PublicKey, Scheme, scheme_of, verifies
from opencertd.model.certificates import CertificateIntent, IssuerRecord, IssuerRole

ROOT_YEARS = 20
ISSUING_YEARS = 10
_YEAR = timedelta(days=365)


@dataclass(frozen=True)
class NewAuthority:
    """One certificate and key of the ceremony, not kept yet."""

    record: IssuerRecord
    key: PrivateKey


@dataclass(frozen=True)
class HeldKey:
    """A new key, and where it is, as an issuer's record says it."""

    key: PrivateKey
    reference: str


HoldKey = Callable[[str, NewKey], HeldKey]
"""Makes a key for the issuer of a name."""


def held_in_file(name: str, wanted: NewKey) -> HeldKey:
    """A key in memory, for a file that `keep` writes."""
    return HeldKey(wanted.make(), f"{name}.pem")


def ca_name(text: str, types: tuple[KeyType, ...]) -> x509.Name:
    """The name given for the CA; `CN=` is added where it is missing. Raises StartError."""
    try:
        name = dn.normal(dn.parse_dn(text if "=" in text else f"CN={text}"))
        if not name.get_attributes_for_oid(NameOID.COMMON_NAME):
            raise ValueError("it has no common name (CN=…)")
        for key_type in types:
            subjects_of(name, key_type.words)
    except ValueError as error:
        raise StartError(f"--dn: {error}. Write for example --dn 'CN=My Internal CA,O=Example,C=DE'.") from None
    return name


def subjects_of(name: x509.Name, words: str) -> tuple[x509.Name, x509.Name]:
    """The subjects of root and issuing CA made under a name, told apart by `words` of `WORDS`.

    Raises ValueError when one would be too long.
    """
    return _named(name, f"{words} Root"), _named(name, f"{words} Issuing CA")


def _named(base: x509.Name, words: str) -> x509.Name:
    return x509.Name(
        x509.RelativeDistinguishedName(
            x509.NameAttribute(a.oid, f"{a.value!s} {words}") if a.oid == NameOID.COMMON_NAME else a for a in rdn
        )
        for rdn in base.rdns
    )


def make_authorities(
    name: x509.Name,
    now: datetime,
    types: tuple[KeyType, ...] = parse_key_types(()),
    hold: HoldKey = held_in_file,
) -> tuple[NewAuthority, ...]:
    """A root and an issuing CA under it for each key type; `hold` makes their keys."""
    return tuple(authority for key_type in types for authority in _make_pair(name, key_type, now, hold))


def _make_pair(name: x509.Name, key_type: KeyType, now: datetime, hold: HoldKey) -> tuple[NewAuthority, NewAuthority]:
    root_subject, issuing_subject = subjects_of(name, key_type.words)
    above_name, below_name = f"{key_type.issuer}-root", key_type.issuer
    root_key, issuing_key = hold(above_name, key_type.root), hold(below_name, key_type.issuing)
    scheme = scheme_of(root_key.key.public_key(), key_type.scheme)

    def certify(subject: x509.Name, key: PublicKey, issuer: x509.Certificate | None) -> x509.Certificate:
        return _ca_certificate(subject, key, issuer=issuer, issuer_key=root_key.key, scheme=scheme, now=now)

    root = certify(root_subject, root_key.key.public_key(), None)
    issuing = certify(issuing_subject, issuing_key.key.public_key(), root)
    above = issuer_record(above_name, IssuerRole.ROOT, root, scheme=key_type.scheme, key_reference=root_key.reference)
    below = issuer_record(
        below_name,
        IssuerRole.ISSUING,
        issuing,
        parent_id=above.id,
        scheme=key_type.scheme,
        key_reference=issuing_key.reference,
    )
    return NewAuthority(above, root_key.key), NewAuthority(below, issuing_key.key)


def _ca_certificate(
    subject: x509.Name,
    key: PublicKey,
    *,
    issuer: x509.Certificate | None,
    issuer_key: PrivateKey,
    scheme: Scheme,
    now: datetime,
) -> x509.Certificate:
    """A CA certificate; a root when `issuer` is None. An issuing CA may have no CA below it (pathLen 0)."""
    begin, end = valid_from(now, (ISSUING_YEARS if issuer else ROOT_YEARS) * _YEAR)
    terms = CaTerms(subject, key, begin, end, path_length=0 if issuer else None)
    identifier = x509.SubjectKeyIdentifier.from_public_key(issuer_key.public_key()).digest if issuer else None
    builder = ca_builder(
        terms,
        x509.random_serial_number(),
        issuer=issuer.subject if issuer else None,
        issuer_key_identifier=identifier,
    )
    return builder.sign(issuer_key, scheme.digest, rsa_padding=scheme.padding)


def issuer_record(
    name: str,
    role: IssuerRole,
    certificate: x509.Certificate,
    *,
    parent_id: str | None = None,
    parents_der: tuple[bytes, ...] = (),
    scheme: str | None = None,
    key_reference: str | None = None,
) -> IssuerRecord:
    der = certificate.public_bytes(Encoding.DER)
    return IssuerRecord(
        id=hashlib.sha256(der).hexdigest()[:32],
        name=name,
        role=role,
        certificate_der=der,
        key_reference=key_reference or f"{name}.pem",
        parent_id=parent_id,
        parents_der=parents_der,
        scheme=scheme,
    )


async def keep(made: tuple[NewAuthority, ...], keys: Path, passphrase: bytes | None, store: CertificateStore) -> None:
    """Keep new authorities: keys first, then the issuers, so that no issuer is ever known without its key."""
    for authority in made:
        reference = authority.record.key_reference
        if reference is not None and not in_token(reference):
            write_private_key(keys / reference, authority.key, passphrase)
    await store.add_issuers(tuple(authority.record for authority in made))


async def record_ca_certificates(issuers: Issuers, store: CertificateStore, owner: str, now: datetime) -> None:
    """Make sure that the CA certificates which our own issuers signed are in the inventory and have a status."""
    signed_by: list[tuple[bytes, str, Issuer | None]] = []
    for issuer in issuers.all():
        parent = issuers.by_id(issuer.record.parent_id) if issuer.record.parent_id else issuer
        signed_by.append((issuer.certificate_der, issuer.role.value, parent))
    for cross in issuers.cross_certificates:
        signed_by.append((cross.certificate_der, cross.kind.value, issuers.by_id(cross.signer_id or "")))
    for certificate_der, recorded_as, parent in signed_by:
        if parent is not None:
            await _record(certificate_der, recorded_as, parent, store, owner=owner, now=now)


async def _record(
    certificate_der: bytes, recorded_as: str, parent: Issuer, store: CertificateStore, *, owner: str, now: datetime
) -> None:
    certificate = x509.load_der_x509_certificate(certificate_der)
    if not _is_by(certificate, parent) or await store.by_serial(certificate.serial_number, parent.id):
        return
    intent = CertificateIntent(
        issuer_id=parent.id,
        serial=certificate.serial_number,
        profile=recorded_as,
        requester="daemon:ceremony",
        requester_label="ceremony",
        subject=dn.format_dn(certificate.subject),
        names=(),
        spki_sha256=hashlib.sha256(
            certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).hexdigest(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        tbs_der=signed.split(certificate_der)[0],
        owner=owner,
        intended_at=now,
        transaction=f"ca:{hashlib.sha256(certificate_der).hexdigest()[:32]}",
    )
    await store.note(intent, certificate_der)


def _is_by(certificate: x509.Certificate, issuer: Issuer) -> bool:
    if certificate.issuer != issuer.certificate.subject:
        return False
    tbs_der, algorithm_der, signature = signed.split(certificate.public_bytes(Encoding.DER))
    return verifies(issuer.signer.public_key, signature, tbs_der, algorithm_der)
