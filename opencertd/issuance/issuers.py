"""An issuer is a CA certificate with its signer; `Issuers` is the set that this daemon has at a time.

A set never changes. When the hierarchy does (a rollover, a retirement, a new sub CA), another set takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1 import dn
from opencertd.asn1.dn import CanonicalName
from opencertd.errors import StartError
from opencertd.issuance.name_constraints import NameLimits, limits_of
from opencertd.issuance.path_length import room_below
from opencertd.keys.files import load_private_key
from opencertd.keys.key_uri import in_token
from opencertd.keys.kinds import PrivateKey, PublicKey, Scheme, kind_of, scheme_of
from opencertd.keys.signer import AbsentSigner, Elsewhere, Signer, SoftwareSigner
from opencertd.model.certificates import CrossCertificate, CrossKind, IssuerRecord, IssuerRole, IssuerState


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
        return self.record.state is IssuerState.ACTIVE and not self.distrusted

    @property
    def distrusted(self) -> bool:
        """Whether what it signed is to be replaced, and nothing of it is revoked."""
        return self.record.distrusted_at is not None

    @property
    def revoked(self) -> bool:
        """Whether nothing under it is to be trusted any more."""
        return self.record.state is IssuerState.REVOKED

    @property
    def has_key(self) -> bool:
        """Whether its key is here, in a file or a token."""
        return self.record.key_reference is not None

    def speaks(self, now: datetime) -> bool:
        """Whether it can still sign the status of what it signed."""
        return self.has_key and not self.revoked and is_open(self._expires_at, now)

    def is_offered(self, now: datetime) -> bool:
        """Whether its certificate is one to give to clients: it is good, and its window, if it has one, is open."""
        return not self.revoked and is_open(self.record.published_until, now) and is_open(self._expires_at, now)

    @cached_property
    def _expires_at(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def certificate_der(self) -> bytes:
        return self.record.certificate_der

    @cached_property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Its certificate, then its parents, the root last when it is known."""
        above = dict.fromkeys((*self.chain_der, self.root_der or self.chain_der[-1]))
        return tuple(x509.load_der_x509_certificate(der) for der in above)

    @cached_property
    def room_below(self) -> int | None:
        """How many CAs its chain allows below it (`path_length.room_below`)."""
        return room_below(self.certificates)

    @cached_property
    def name_limits(self) -> tuple[NameLimits, ...]:
        """What its chain says of the names below it. Raises Refusal UNAVAILABLE when that cannot be read."""
        return limits_of(self.certificates)

    def signing_by(self, names: tuple[str, ...]) -> Issuer:
        """This issuer, its key signing by the first scheme of those names that it has; its usual one when it has none.

        Always the same object for the same scheme.
        """
        own = {scheme.name: scheme for scheme in kind_of(self.signer.public_key).schemes} if names else {}
        scheme = next((own[name] for name in names if name in own), None)
        if scheme is None or scheme.algorithm_der == self.signer.algorithm_der:
            return self
        if scheme.name not in self._variants:
            self._variants[scheme.name] = replace(self, signer=self.signer.by(scheme))
        return self._variants[scheme.name]

    @cached_property
    def _variants(self) -> dict[str, Issuer]:
        return {}

    @cached_property
    def subject_key_identifier(self) -> bytes:
        """Its certificate's own; where an imported CA has none, the SHA-1 of its key (RFC 5280 §4.2.1.2 (1))."""
        try:
            extension = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return x509.SubjectKeyIdentifier.from_public_key(self.signer.public_key).digest
        return extension.value.digest


class Issuers:
    """All issuers, in the order in which they came to be.

    `waiting`: ids of successors that do not sign yet, since not every worker knows them or their key is not here yet;
    until they do, whoever they succeed goes on signing.
    """

    def __init__(
        self,
        issuers: tuple[Issuer, ...],
        cross_certificates: tuple[CrossCertificate, ...] = (),
        waiting: frozenset[str] = frozenset(),
    ) -> None:
        self._issuers = issuers
        self.cross_certificates = cross_certificates
        self.waiting = waiting
        self._by_id = {issuer.id: issuer for issuer in issuers}
        self._by_name = {issuer.name: issuer for issuer in issuers}
        self._successor_of = {i.record.predecessor_id: i for i in issuers if i.record.predecessor_id is not None}
        self._expiry = {cross.certificate_der: _not_after(cross.certificate_der) for cross in cross_certificates}

    def waiting_for(self, waiting: frozenset[str]) -> Issuers:
        """The same issuers, of which others wait."""
        return Issuers(self._issuers, self.cross_certificates, waiting)

    def all(self) -> tuple[Issuer, ...]:
        return self._issuers

    def issuing(self) -> tuple[Issuer, ...]:
        """Those that sign end entities, or did so before they were retired."""
        return tuple(issuer for issuer in self._issuers if issuer.role is IssuerRole.ISSUING)

    @cached_property
    def subjects(self) -> frozenset[CanonicalName]:
        """The names of all of them."""
        return frozenset(dn.canonical(issuer.certificate.subject) for issuer in self._issuers)

    @cached_property
    def keys_der(self) -> frozenset[bytes]:
        """The SubjectPublicKeyInfo of each one's key."""
        return frozenset(
            issuer.signer.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            for issuer in self._issuers
        )

    def by_id(self, issuer_id: str) -> Issuer | None:
        return self._by_id.get(issuer_id)

    def by_name(self, name: str) -> Issuer | None:
        return self._by_name.get(name)

    def successor(self, issuer: Issuer) -> Issuer | None:
        """Who took its place at a rollover."""
        return self._successor_of.get(issuer.id)

    def current(self, name: str) -> Issuer | None:
        """Who signs where profiles say `name`: that issuer or its latest successor; None when it signs no more."""
        issuer = self._by_name.get(name)
        while issuer is not None and (successor := self._successor_of.get(issuer.id)) is not None:
            if successor.id in self.waiting and not (issuer.revoked or issuer.distrusted):
                return issuer
            issuer = successor
        return issuer if issuer is not None and issuer.active else None

    def roots_der(self) -> tuple[bytes, ...]:
        """The self-signed roots above all issuers, once each."""
        return tuple(dict.fromkeys(issuer.root_der for issuer in self._issuers if issuer.root_der))

    def authorities_der(self, now: datetime) -> tuple[bytes, ...]:
        """Every CA certificate a client may need: issuing chains first, then cross-certificates and roots, once each.

        While the window of a root's rollover is open, that is New, OldWithOld, OldWithNew and NewWithOld (RFC 7030
        §4.1.3).
        """
        issuing = [issuer for issuer in self._offered(now) if issuer.role is IssuerRole.ISSUING]
        chains = [der for issuer in issuing for der in issuer.chain_der if der != issuer.root_der]
        crosses = [c.certificate_der for c in self.cross_certificates if self._is_offered(c, now)]
        roots = [issuer.root_der for issuer in self._offered(now) if issuer.root_der]
        return tuple(dict.fromkeys((*chains, *crosses, *roots)))

    def anchors_der(self, now: datetime) -> tuple[bytes, ...]:
        """What clients are to trust: the roots; for an imported CA whose root we were not given, its highest."""
        return tuple(dict.fromkeys(issuer.root_der or issuer.chain_der[-1] for issuer in self._offered(now)))

    def bridges_der(self, issuer: Issuer, now: datetime) -> tuple[bytes, ...]:
        """The NewWithOld certificates that lead from its root to the roots before it, while they are published.

        Behind its chain they let those verify it who trust an older root only (RFC 4210 §4.4.1).
        """
        return tuple(self._bridges(issuer.root_der, now))

    def crosses(self, now: datetime) -> tuple[CrossCertificate, ...]:
        """Certificates of other CAs for issuers here that clients may be given now."""
        return tuple(c for c in self.cross_certificates if c.kind is CrossKind.CROSS and self._is_offered(c, now))

    def _bridges(self, root_der: bytes | None, now: datetime) -> Iterator[bytes]:
        root = next((one for one in self._issuers if one.certificate_der == root_der), None)
        while root is not None:
            cross = self._new_with_old(root, now)
            if cross is None:
                return
            yield cross.certificate_der
            root = self._by_id.get(cross.signer_id or "")

    def _new_with_old(self, root: Issuer, now: datetime) -> CrossCertificate | None:
        for cross in self.cross_certificates:
            if (cross.subject_id, cross.kind) == (root.id, CrossKind.NEW_WITH_OLD) and self._is_offered(cross, now):
                return cross
        return None

    def _is_offered(self, cross: CrossCertificate, now: datetime) -> bool:
        concerned = (self._by_id.get(cross.subject_id), self._by_id.get(cross.signer_id or ""))
        if any(issuer is not None and issuer.revoked for issuer in concerned):
            return False
        return is_open(cross.published_until, now) and is_open(self._expiry[cross.certificate_der], now)

    def _offered(self, now: datetime) -> tuple[Issuer, ...]:
        """Issuers whose certificates clients get, those that sign before the retired; with those that they stand on."""
        offered = [issuer for issuer in self._issuers if issuer.is_offered(now)]
        needed = {issuer.root_der for issuer in offered}
        offered += [i for i in self._issuers if i not in offered and i.certificate_der in needed and not i.revoked]
        return tuple(sorted(offered, key=lambda issuer: not issuer.active))


def is_open(until: datetime | None, now: datetime) -> bool:
    """Whether a time has not come; None never comes."""
    return until is None or now < until


def _not_after(certificate_der: bytes) -> datetime:
    return x509.load_der_x509_certificate(certificate_der).not_valid_after_utc


SignerInToken = Callable[[str, PublicKey, Scheme], Signer]
"""The signer for a key reference, its public key and how it signs."""


MissingKey = Callable[[IssuerRecord, StartError], None]
"""Told of an issuer whose key cannot be had now, and why."""


def load_issuers(
    records: tuple[IssuerRecord, ...],
    keys: Path,
    passphrase: bytes | None,
    elsewhere: Elsewhere[bytes],
    signer_in_token: SignerInToken | None = None,
    *,
    cross_certificates: tuple[CrossCertificate, ...] = (),
    held: Issuers | None = None,
    missing: MissingKey | None = None,
) -> Issuers:
    """Issuers with their signers. Raises StartError when a key file is missing or does not belong to its certificate.

    Keys in a token are not looked for: it may be away. `held`: issuers loaded before, whose signers are taken from
    there while their keys stay where they are. `missing` is told of what would be a StartError; that issuer then
    refuses to sign.
    """
    by_id = {record.id: record for record in records}

    def signer(record: IssuerRecord, certificate: x509.Certificate) -> Signer:
        known = held.by_id(record.id) if held is not None else None
        if known is not None and not isinstance(known.signer, AbsentSigner) and _where(known.record) == _where(record):
            return known.signer
        if record.key_reference is None:
            return _absent_signer(record, certificate)
        try:
            if in_token(record.key_reference):
                return _signer_in_token(record, certificate, signer_in_token)
            key = read_issuer_key(record, keys, passphrase)
            return SoftwareSigner(key, elsewhere, scheme_of(key.public_key(), record.scheme))
        except StartError as error:
            if missing is None:
                raise
            missing(record, error)
            return _absent_signer(record, certificate, error)

    issuers = []
    for record in records:
        certificate = x509.load_der_x509_certificate(record.certificate_der)
        chain_der, root_der = chain_of(record, by_id)
        issuers.append(Issuer(record, certificate, signer(record, certificate), chain_der, root_der))
    return Issuers(tuple(issuers), cross_certificates)


def _where(record: IssuerRecord) -> tuple[str | None, str | None]:
    return record.key_reference, record.scheme


def read_issuer_key(record: IssuerRecord, keys: Path, passphrase: bytes | None) -> PrivateKey:
    """The issuer's private key from its file. Raises StartError."""
    if record.key_reference is None:
        raise StartError(f"the key of the CA {record.name!r} is not here: it was taken away")
    path = keys / record.key_reference
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise StartError(
            f"the key of the CA {record.name!r} is missing: {path}. Restore the state directory from a backup, or copy "
            "the file from the node that made the key."
        ) from None
    except OSError as error:
        raise StartError(f"the key of the CA {record.name!r} cannot be read: {path}: {error.strerror}.") from None
    key = load_private_key(data, passphrase, str(path))
    if key.public_key() != x509.load_der_x509_certificate(record.certificate_der).public_key():
        raise StartError(f"the key in {path} does not belong to the certificate of the CA {record.name!r}")
    return key


def _absent_signer(record: IssuerRecord, certificate: x509.Certificate, why: StartError | None = None) -> Signer:
    key = certificate.public_key()
    if not isinstance(key, PublicKey):
        raise StartError(f"the CA {record.name!r} has a kind of key that is not known here")
    return AbsentSigner(record.name, key, scheme_of(key, record.scheme), why)


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
