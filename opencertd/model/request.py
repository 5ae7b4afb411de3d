"""What every protocol turns into: one frozen issuance request, one frozen revocation request."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from opencertd.model.certificates import CertificateRecord, RevocationReason
from opencertd.model.names import AltName
from opencertd.model.requester import Requester


class IssuingProtocol(enum.Enum):
    """How a request came in; the value is the word in settings."""

    ACME = "acme"
    EST = "est"
    CA_API = "ca_api"


@dataclass(frozen=True)
class Transaction:
    """The same deed asked twice gives one certificate: at most one per `key` within `window` (None: for ever)."""

    key: str
    window: timedelta | None = None


@dataclass(frozen=True)
class Window:
    """The first and the last second that a certificate is to be good, in aware UTC; None: as its profile has it.

    `rolling`: it is one of a series that an order may have by the settings, whether or not the profile lets a validity
    be asked; it is shortened to the issuer's own where that begins later or ends sooner.
    """

    not_before: datetime | None = None
    not_after: datetime | None = None
    rolling: bool = False


@dataclass(frozen=True)
class IssuanceRequest:
    """A wish for a certificate by somebody known, for a key whose possession was proven to the edge.

    `spki_der`: SubjectPublicKeyInfo. `subject` and `names` are what is asked; only what `requester.grant`, policy
    and profile allow gets in, and a request for more is refused, not trimmed. `profile`: its name. `protocol`: None
    for the daemon's own. `validity`: how long it is to be good, or from when until when; None for the profile's choice.
    `applicant_spki_der`: the key in the request, where the CA makes another for it.
    """

    spki_der: bytes
    subject: x509.Name
    names: tuple[AltName, ...]
    profile: str
    requester: Requester
    transaction: Transaction | None = None
    protocol: IssuingProtocol | None = None
    validity: timedelta | Window | None = None
    applicant_spki_der: bytes | None = None


@dataclass(frozen=True)
class IssuedCertificate:
    """A certificate that is durably stored, and its chain: leaf first, then issuing CAs, without the root."""

    record: CertificateRecord
    certificate_der: bytes
    chain_der: tuple[bytes, ...]


@dataclass(frozen=True)
class RevocationRequest:
    """A wish to revoke or to hold; the edge has proven `requester`'s right to it.

    `invalidity_date`: since when the certificate is not good, as far as the requester knows. `compromise_shown`: the
    requester has shown to hold the certificate's key, or is trusted to judge such evidence.
    """

    issuer_id: str
    serial: int
    reason: RevocationReason
    requester: Requester
    invalidity_date: datetime | None = None
    compromise_shown: bool = False


@dataclass(frozen=True)
class ReinstatementRequest:
    """A wish to end a hold; the edge has proven `requester`'s right to it."""

    issuer_id: str
    serial: int
    requester: Requester
