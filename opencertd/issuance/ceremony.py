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
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from opencertd.asn1 import dn, signed
from opencertd.errors import StartError
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.store import CertificateStore
from opencertd.keys.files import write_private_key
from opencertd.keys.key_uri import in_token
from opencertd.keys.signer import PrivateKey, PublicKey, hash_of, verifies
from opencertd.model.certificates import CertificateIntent, CertificateState, IssuerRecord, IssuerRole

ROOT_YEARS = 20
ISSUING_YEARS = 10
_YEAR = timedelta(days=365)
_BACKDATE = timedelta(minutes=10)
"""CA certificates begin a little before the first certificates under them, whose begin is set back too."""


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


HoldKey = Callable[[str, str, Callable[[], PrivateKey]], HeldKey]
"""Makes a key for the issuer of a name, of a kind in words (`EC P-384`); the function makes one in memory."""


def held_in_file(name: str, _kind: str, make: Callable[[], PrivateKey]) -> HeldKey:
    """A key in memory, for a file that `keep` writes."""
    return HeldKey(make(), f"{name}.pem")


@dataclass(frozen=True)
class _Plan:
    name: str
    role: IssuerRole
    words: str  # added to the common name, so that no two CAs share a subject
    kind: str
    make_key: Callable[[], PrivateKey]


_PLANS = (
    (
        _Plan("ecdsa-root", IssuerRole.ROOT, "ECDSA Root", "EC P-384", lambda: ec.generate_private_key(ec.SECP384R1())),
        _Plan(
            "ecdsa", IssuerRole.ISSUING, "ECDSA Issuing CA", "EC P-256", lambda: ec.generate_private_key(ec.SECP256R1())
        ),
    ),
    (
        _Plan("rsa-root", IssuerRole.ROOT, "RSA Root", "RSA 3072", lambda: rsa.generate_private_key(65537, 3072)),
        _Plan("rsa", IssuerRole.ISSUING, "RSA Issuing CA", "RSA 3072", lambda: rsa.generate_private_key(65537, 3072)),
    ),
)


def ca_name(text: str) -> x509.Name:
    """The name given for the CA; `CN=` is added where it is missing. Raises StartError."""
    try:
        name = dn.parse_dn(text if "=" in text else f"CN={text}")
        if not name.get_attributes_for_oid(NameOID.COMMON_NAME):
            raise ValueError("it has no common name (CN=…)")
        subjects_of(name)
    except ValueError as error:
        raise StartError(f"--dn: {error}. Write for example --dn 'CN=My Internal CA,O=Example,C=DE'.") from None
    return name


def subjects_of(name: x509.Name) -> tuple[x509.Name, ...]:
    """The subjects of all CAs made under a name. Raises ValueError when one would be too long."""
    return tuple(_named(name, plan.words) for pair in _PLANS for plan in pair)


def _named(base: x509.Name, words: str) -> x509.Name:
    return x509.Name(
        x509.RelativeDistinguishedName(
            x509.NameAttribute(a.oid, f"{a.value!s} {words}") if a.oid == NameOID.COMMON_NAME else a for a in rdn
        )
        for rdn in base.rdns
    )


def make_authorities(name: x509.Name, now: datetime, hold: HoldKey = held_in_file) -> tuple[NewAuthority, ...]:
    """Two roots and an issuing CA under each: ECDSA P-384 over P-256, RSA-3072 over RSA-3072."""
    made: list[NewAuthority] = []
    for root_plan, issuing_plan in _PLANS:
        root_held, issuing_held = (hold(plan.name, plan.kind, plan.make_key) for plan in (root_plan, issuing_plan))
        root_key, issuing_key = root_held.key, issuing_held.key
        root = _ca_certificate(
            _named(name, root_plan.words), root_key.public_key(), issuer=None, issuer_key=root_key, now=now
        )
        issuing = _ca_certificate(
            _named(name, issuing_plan.words), issuing_key.public_key(), issuer=root, issuer_key=root_key, now=now
        )
        root_record = issuer_record(root_plan.name, root_plan.role, root, None, (), key_reference=root_held.reference)
        made.append(NewAuthority(root_record, root_key))
        reference = issuing_held.reference
        record = issuer_record(
            issuing_plan.name, issuing_plan.role, issuing, root_record.id, (), key_reference=reference
        )
        made.append(NewAuthority(record, issuing_key))
    return tuple(made)


def _ca_certificate(
    subject: x509.Name,
    key: PublicKey,
    *,
    issuer: x509.Certificate | None,
    issuer_key: PrivateKey,
    now: datetime,
) -> x509.Certificate:
    """A CA certificate; a root when `issuer` is None. An issuing CA may have no CA below it (pathLen 0)."""
    begin = now.replace(microsecond=0) - _BACKDATE
    years = ISSUING_YEARS if issuer else ROOT_YEARS
    usage = dict.fromkeys(
        (
            "content_commitment",
            "data_encipherment",
            "key_agreement",
            "key_encipherment",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key)
        .not_valid_before(begin)
        .not_valid_after(begin + years * _YEAR - timedelta(seconds=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **usage), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    if issuer:
        identifier = x509.SubjectKeyIdentifier.from_public_key(issuer_key.public_key()).digest
        builder = builder.add_extension(x509.AuthorityKeyIdentifier(identifier, None, None), critical=False)
    return builder.sign(issuer_key, hash_of(issuer_key.public_key()))


def issuer_record(
    name: str,
    role: IssuerRole,
    certificate: x509.Certificate,
    parent: str | None,
    parents_der: tuple[bytes, ...],
    *,
    key_reference: str | None = None,
) -> IssuerRecord:
    der = certificate.public_bytes(Encoding.DER)
    return IssuerRecord(
        id=hashlib.sha256(der).hexdigest()[:32],
        name=name,
        role=role,
        certificate_der=der,
        key_reference=key_reference or f"{name}.pem",
        parent_id=parent,
        parents_der=parents_der,
    )


async def keep(made: tuple[NewAuthority, ...], keys: Path, passphrase: bytes | None, store: CertificateStore) -> None:
    """Keep new authorities: keys first, then the issuers, so that no issuer is ever known without its key."""
    for authority in made:
        if not in_token(authority.record.key_reference):
            write_private_key(keys / authority.record.key_reference, authority.key, passphrase)
    await store.add_issuers(tuple(authority.record for authority in made))


async def record_ca_certificates(issuers: Issuers, store: CertificateStore, owner: str, now: datetime) -> None:
    """Make sure that the CA certificates which our own issuers signed are in the inventory and have a status."""
    for issuer in issuers.all():
        parent = issuers.by_id(issuer.record.parent_id) if issuer.record.parent_id else issuer
        if parent is None or not _is_by(issuer.certificate, parent):
            continue
        certificate = issuer.certificate
        intent = CertificateIntent(
            issuer_id=parent.id,
            serial=certificate.serial_number,
            profile=issuer.role.value,
            requester="daemon:ceremony",
            requester_label="ceremony",
            subject=dn.format_dn(certificate.subject),
            names=(),
            spki_sha256=hashlib.sha256(
                certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            ).hexdigest(),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            tbs_der=signed.split(issuer.certificate_der)[0],
            owner=owner,
            intended_at=now,
            transaction=f"ca:{issuer.id}",
        )
        record = await store.reserve(intent, None, now)
        if record.state is CertificateState.INTENDED:
            await store.complete(record.id, issuer.certificate_der, now)


def _is_by(certificate: x509.Certificate, issuer: Issuer) -> bool:
    if certificate.issuer != issuer.certificate.subject:
        return False
    return verifies(issuer.signer.public_key, certificate.signature, certificate.tbs_certificate_bytes)
