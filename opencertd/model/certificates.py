"""Records of issuers, certificates and revocations, as every room and the store speak of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from opencertd.model.names import AltName


class RevocationReason(enum.IntEnum):
    """CRLReason (RFC 5280 §5.3.1). The member's lower-camel `rfc_name` is what APIs speak."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    CA_COMPROMISE = 2
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    CERTIFICATE_HOLD = 6
    REMOVE_FROM_CRL = 8
    PRIVILEGE_WITHDRAWN = 9
    AA_COMPROMISE = 10

    @property
    def rfc_name(self) -> str:
        """`keyCompromise`, `cACompromise`, …: the spelling of RFC 5280."""
        return _RFC_NAMES[self]


_RFC_NAMES = {
    RevocationReason.UNSPECIFIED: "unspecified",
    RevocationReason.KEY_COMPROMISE: "keyCompromise",
    RevocationReason.CA_COMPROMISE: "cACompromise",
    RevocationReason.AFFILIATION_CHANGED: "affiliationChanged",
    RevocationReason.SUPERSEDED: "superseded",
    RevocationReason.CESSATION_OF_OPERATION: "cessationOfOperation",
    RevocationReason.CERTIFICATE_HOLD: "certificateHold",
    RevocationReason.REMOVE_FROM_CRL: "removeFromCRL",
    RevocationReason.PRIVILEGE_WITHDRAWN: "privilegeWithdrawn",
    RevocationReason.AA_COMPROMISE: "aACompromise",
}

REASONS_BY_NAME = {name.lower(): reason for reason, name in _RFC_NAMES.items()}
"""Reasons by their RFC name in lower case, as people type them."""

USABLE_REASONS = frozenset(RevocationReason) - {RevocationReason.REMOVE_FROM_CRL}
"""What a revocation may give as its reason; removeFromCRL only means something in delta CRLs (RFC 5280 §5.3.1)."""

FINAL_REASONS = USABLE_REASONS - {RevocationReason.CERTIFICATE_HOLD}
"""Reasons from which there is no way back."""


@dataclass(frozen=True)
class Revocation:
    """That a certificate is revoked or on hold: when (aware UTC, whole seconds) and why.

    `invalidity_date`: since when it is known or suspected not to be good, which may be earlier (RFC 5280 §5.3.2).
    """

    revoked_at: datetime
    reason: RevocationReason
    invalidity_date: datetime | None = None

    @property
    def held(self) -> bool:
        """Whether there is a way back."""
        return self.reason is RevocationReason.CERTIFICATE_HOLD


class RevocationState(enum.Enum):
    """The life of a revocation: held ⇄ released, either → revoked, which is the end."""

    HELD = "held"
    REVOKED = "revoked"
    RELEASED = "released"


@dataclass(frozen=True)
class RevocationChange:
    """One step in the history of a certificate's revocation.

    `revocation`: what holds since; of a release, the hold that ended. `by`: who asked, as a person would call them.
    """

    state: RevocationState
    changed_at: datetime
    revocation: Revocation
    by: str


class IssuerRole(enum.Enum):
    """Whether an issuer signs CAs or end entities."""

    ROOT = "root"
    ISSUING = "issuing"


class IssuerState(enum.Enum):
    """The life of an issuer: active → retired, either → revoked, which is the end."""

    ACTIVE = "active"  # signs certificates
    RETIRED = "retired"  # signs no more certificates, but the status of those it signed until the last has expired
    REVOKED = "revoked"  # its own certificate is revoked: nothing under it is to be trusted


@dataclass(frozen=True)
class IssuerRecord:
    """An issuer as the store keeps it.

    `id`: first 32 hex digits of the SHA-256 of the certificate. `name`: `rsa`, `ecdsa`, `rsa-root` …, unique.
    `key_reference`: name of the key file in the state directory's `keys`, or `pkcs11:object=…;id=…` in a token; None
    when the key was taken away. `parent_id`: None for a root, or for an imported issuer whose parents are not ours;
    those stand in `parents_der`, nearest first, the root last if known. `scheme`: how it signs (`rsa-pss`), None for
    its key's usual way. `predecessor_id`: the issuer whose place it took at a rollover. `published_until`: a retired
    issuer's certificate is handed out to clients as one to trust until then; None: until it expires. `distrusted_at`:
    since when what is under it is to be replaced though nothing is revoked; those below it have the same time.
    """

    id: str
    name: str
    role: IssuerRole
    certificate_der: bytes
    key_reference: str | None
    parent_id: str | None
    parents_der: tuple[bytes, ...] = ()
    scheme: str | None = None
    state: IssuerState = IssuerState.ACTIVE
    predecessor_id: str | None = None
    published_until: datetime | None = None
    distrusted_at: datetime | None = None


class CrossKind(enum.Enum):
    """Why an issuer's key has another certificate than its own (the names of RFC 4210 §4.4)."""

    CROSS = "cross"  # another CA, here or elsewhere, vouches for it
    NEW_WITH_OLD = "new-with-old"
    OLD_WITH_NEW = "old-with-new"


@dataclass(frozen=True)
class CrossCertificate:
    """Another certificate for the key and name of the issuer `subject_id`.

    `signer_id`: the issuer here that signed it; None when it came from elsewhere. `published_until`: as an issuer's.
    """

    subject_id: str
    kind: CrossKind
    certificate_der: bytes
    signer_id: str | None = None
    published_until: datetime | None = None


@dataclass(frozen=True)
class Hierarchy:
    """Every issuer, in the order in which they came, and the cross-certificates between and over them."""

    issuers: tuple[IssuerRecord, ...]
    cross_certificates: tuple[CrossCertificate, ...] = ()


@dataclass(frozen=True)
class HierarchyChange:
    """A deed on the hierarchy, done as a whole or not at all.

    `added` and `crossed` are new; each pair of `changed` is an issuer as it is and as it is to be (its state, key
    reference or publishing; its id, name, certificate and parents never change). `closed`: cross-certificates whose
    publishing ends, as they are to be.
    """

    deed: str
    added: tuple[IssuerRecord, ...] = ()
    changed: tuple[tuple[IssuerRecord, IssuerRecord], ...] = ()
    crossed: tuple[CrossCertificate, ...] = ()
    closed: tuple[CrossCertificate, ...] = ()


class CertificateState(enum.Enum):
    """The life of a row before revocation counts: intended → issued, or intended → abandoned."""

    INTENDED = "intended"
    ISSUED = "issued"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class CertificateIntent:
    """What is written down before the issuer's key is used (the second step of issuing).

    `transaction`: at most one certificate not abandoned exists per transaction key. `owner`: the worker that holds
    the intent. `requester`: `proof:id`.
    """

    issuer_id: str
    serial: int
    profile: str
    requester: str
    requester_label: str
    subject: str  # RFC 4514
    names: tuple[AltName, ...]
    spki_sha256: str
    not_before: datetime
    not_after: datetime
    tbs_der: bytes
    owner: str
    intended_at: datetime
    transaction: str | None = None


@dataclass(frozen=True)
class CertificateRecord:
    """A certificate as the store knows it. `id` orders the inventory; `certificate_der` is None until issued.

    `revocation`: that it is revoked or on hold now; None again once a hold was ended.
    """

    id: int
    issuer_id: str
    serial: int
    state: CertificateState
    profile: str
    requester: str
    requester_label: str
    subject: str
    names: tuple[AltName, ...]
    not_before: datetime
    not_after: datetime
    owner: str
    intended_at: datetime
    certificate_der: bytes | None
    revocation: Revocation | None
