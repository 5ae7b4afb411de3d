"""Who asks, how that was proven, and which names the proof covers."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from opencertd.model.names import AltName, AltNameKind, lower_ascii


class Proof(enum.Enum):
    """How a requester proved who it is."""

    ACME_ACCOUNT = "acme-account"
    TLS_CERTIFICATE = "tls-certificate"
    MANUFACTURER_CERTIFICATE = "manufacturer-certificate"  # by TLS too, but another CA's: for a first enrolment
    PASSWORD = "password"  # noqa: S105  (the name of a kind of proof)
    ENROLMENT_PASSWORD = "enrolment-password"  # noqa: S105  (good for so many certificates, mostly one)
    BEARER_TOKEN = "bearer-token"  # noqa: S105
    OPERATOR = "operator"  # who works on the CA's own machine, with its state directory in reach
    DAEMON = "daemon"  # the CA itself: its TLS and OCSP responder certificates


@dataclass(frozen=True)
class NameGrant:
    """Which names a requester may have in a certificate: exactly those listed, or those that match a pattern.

    `patterns`: `*` alone is every name; `*.example.com` is every DNS name below example.com; anything else is that
    one name. `names`: exact names (an ACME order's identifiers, the names of a proven certificate). `common_names`:
    subjects' common names by `lower_ascii` that may be had though they are no subjectAltName (devices have such).
    """

    names: frozenset[AltName] = frozenset()
    common_names: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether any name may be had."""
        return "*" in self.patterns

    def covers(self, name: AltName) -> bool:
        """Whether `name` may be had."""
        return name in self.names or any(_matches(pattern, name) for pattern in self.patterns)


def _matches(pattern: str, name: AltName) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return name.kind is AltNameKind.DNS and name.value.removeprefix("*.").endswith(pattern[1:].lower())
    return lower_ascii(pattern) == lower_ascii(name.value)


ANY_NAME = NameGrant(patterns=("*",))

REGISTRATION_AUTHORITY = "registration-authority"
"""The role of who may enrol for others by a certificate with id-kp-cmcRA, and the profile of such certificates."""


@dataclass(frozen=True)
class Requester:
    """Somebody who has proven who they are.

    `id` is unique within `proof`: the ACME account id, the SHA-256 fingerprint of the TLS certificate in hex (after the
    manufacturer's name in settings and a colon, when it is theirs), the user's name, the enrolment password's, the
    token's issuer and subject.
    `label` is how a person would call them, for inventory and logs.
    `certificate_der` is the certificate that TLS proved, when it did. `roles` come from settings or token claims.
    `profiles`: names of those it may use; None: all that are for it.
    """

    proof: Proof
    id: str
    label: str
    grant: NameGrant
    roles: frozenset[str] = frozenset()
    certificate_der: bytes | None = None
    profiles: frozenset[str] | None = None

    @property
    def enrols_for_others(self) -> bool:
        """Whether its certificate, of this CA, is one to ask for others' names by (RFC 7030 §3.7)."""
        return self.proof is Proof.TLS_CERTIFICATE and self.grant.everything
