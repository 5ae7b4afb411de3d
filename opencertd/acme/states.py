"""ACME's nouns and their states (RFC 8555 §7.1), as values; what may follow what, in one table.

An order's `pending` and `ready` are derived from its authorizations and never stored; so is the expiry of anything.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opencertd.acme.auto_renewal import AutoRenewal
from opencertd.model.names import DEVICE_KINDS, AltName, AltNameKind
from opencertd.validation.attestation import DEVICE_ATTEST_01


class AccountStatus(enum.Enum):
    """RFC 8555 §7.1.2."""

    VALID = "valid"
    DEACTIVATED = "deactivated"
    REVOKED = "revoked"


class OrderStatus(enum.Enum):
    """RFC 8555 §7.1.3, RFC 8739 §3.1.1. Stored orders are PENDING (until finalized), or what follows READY."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"
    CANCELED = "canceled"


class AuthorizationStatus(enum.Enum):
    """RFC 8555 §7.1.4."""

    PENDING = "pending"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"
    REVOKED = "revoked"


class ChallengeStatus(enum.Enum):
    """RFC 8555 §8."""

    PENDING = "pending"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


@dataclass(frozen=True)
class Problem:
    """A problem document kept with a challenge or an order: the ACME error type without its prefix, and a text.

    `since`: of a challenge that is tried again, when its first attempt failed; clients are not shown it.
    """

    type: str  # "dns", "connection", "unauthorized", "incorrectResponse", "badCSR" …
    detail: str
    since: datetime | None = None


@dataclass(frozen=True)
class Account:
    """An ACME account. `jwk` is the public key as a JSON object, `thumbprint` its RFC 7638 thumbprint, base64url.

    `terms_url`: the terms of service that it has agreed to. `eab_key`: the id of the external account key it is bound
    by; `binding`: the JWS that bound it. REVOKED accounts are those that the operator has blocked.
    """

    id: str
    status: AccountStatus
    jwk: dict[str, Any]
    thumbprint: str
    contact: tuple[str, ...]
    terms_agreed: bool
    created_at: datetime
    terms_url: str | None = None
    eab_key: str | None = None
    binding: dict[str, Any] | None = None


@dataclass(frozen=True)
class Challenge:
    """One way to prove control. `type`: `http-01`, `dns-01` …

    `attested_spki`: the key that a device's hardware was shown to hold, of a VALID device-attest-01.
    """

    id: str
    authorization_id: str
    type: str
    token: str
    status: ChallengeStatus
    validated_at: datetime | None = None
    error: Problem | None = None
    attested_spki: bytes | None = None


@dataclass(frozen=True)
class Authorization:
    """The right of an account to a name. For a wildcard, `name` is the base name and `wildcard` is True.

    `subdomains`: also to all names below it (RFC 9444). `origin`: the id of the authorization whose proof this copies.
    """

    id: str
    account_id: str
    name: AltName
    wildcard: bool
    status: AuthorizationStatus
    expires: datetime
    challenges: tuple[Challenge, ...]
    subdomains: bool = False
    origin: str | None = None


@dataclass(frozen=True)
class Order:
    """An order as stored, with its authorizations. `names` as ordered, wildcards with their `*.`.

    `eab_key`: that of the account. `csr_der` is kept from finalize on; `certificate_id` is the id of the certificate
    record once VALID. `replaces`: the certificate that this order's is for instead of, as RFC 9773 §4.1 names it.
    `not_before`, `not_after`: first and last second of its certificate, where they were asked for.

    `renewal`: its certificates renew themselves until they end (RFC 8739), by steps that begin at `renews_from`, which
    is set at finalize; `certificate_id` then is the newest. CANCELED is for these only.
    """

    id: str
    account_id: str
    profile: str
    names: tuple[AltName, ...]
    status: OrderStatus
    expires: datetime
    created_at: datetime
    authorizations: tuple[Authorization, ...]
    csr_der: bytes | None = None
    certificate_id: int | None = None
    error: Problem | None = None
    eab_key: str | None = None
    replaces: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    renewal: AutoRenewal | None = None
    renews_from: datetime | None = None


def authorization_status(authorization: Authorization, now: datetime) -> AuthorizationStatus:
    """The status at `now`: what was not proven in time is invalid, what was proven expires (RFC 8555 §7.1.6)."""
    if now < authorization.expires:
        return authorization.status
    if authorization.status is AuthorizationStatus.PENDING:
        return AuthorizationStatus.INVALID
    if authorization.status is AuthorizationStatus.VALID:
        return AuthorizationStatus.EXPIRED
    return authorization.status


def order_status(order: Order, now: datetime) -> OrderStatus:
    """The status at `now`: until it is finalized, an order is what its authorizations make of it (RFC 8555 §7.1.6)."""
    if order.status is not OrderStatus.PENDING:
        return order.status
    if now >= order.expires:
        return OrderStatus.INVALID
    statuses = {authorization_status(authorization, now) for authorization in order.authorizations}
    if statuses == {AuthorizationStatus.VALID}:
        return OrderStatus.READY
    if statuses <= {AuthorizationStatus.PENDING, AuthorizationStatus.VALID}:
        return OrderStatus.PENDING
    return OrderStatus.INVALID


def shown_challenges(authorization: Authorization) -> tuple[Challenge, ...]:
    """The challenges a client is shown: all while it can choose, then those that were tried (RFC 8555 §7.1.4)."""
    if authorization.status is AuthorizationStatus.PENDING:
        return authorization.challenges
    tried = tuple(c for c in authorization.challenges if c.status is not ChallengeStatus.PENDING)
    return tried or authorization.challenges


def failures(order: Order) -> tuple[tuple[Authorization, Problem], ...]:
    """Which authorizations of the order failed, each with the problem of the challenge that failed."""
    return tuple(
        (authorization, challenge.error)
        for authorization in order.authorizations
        if authorization.status is AuthorizationStatus.INVALID
        for challenge in authorization.challenges
        if challenge.status is ChallengeStatus.INVALID and challenge.error is not None
    )


def challenge_types(offered: tuple[str, ...], name: AltName) -> tuple[str, ...]:
    """Which of the offered challenges can prove a name, given with its `*.`.

    Only DNS speaks for all names below one (RFC 8555 §8.4), and never for an address (RFC 8738 §7). Devices speak for
    themselves only (draft-ietf-acme-device-attest §5).
    """
    if name.kind in DEVICE_KINDS:
        return tuple(kind for kind in offered if kind == DEVICE_ATTEST_01)
    offered = tuple(kind for kind in offered if kind != DEVICE_ATTEST_01)
    if name.kind is AltNameKind.IP:
        return tuple(kind for kind in offered if not kind.startswith("dns-"))
    return tuple(kind for kind in offered if kind.startswith("dns-") or not name.value.startswith("*."))


def covers(proof: Authorization, wanted: Authorization) -> bool:
    """Whether what proves one is enough for the other: a wildcard is proven by itself alone.

    A device attests for each order: what it attested before is for the key it had then.
    """
    if wanted.name.kind in DEVICE_KINDS:
        return False
    if proof.wildcard != wanted.wildcard or (wanted.subdomains and not proof.subdomains):
        return False
    return proof.name == wanted.name or (proof.subdomains and not wanted.wildcard and is_below(wanted.name, proof.name))


def is_below(name: AltName, ancestor: AltName) -> bool:
    """Whether a domain name is in the domain `ancestor`, and not that itself."""
    return name.kind is ancestor.kind is AltNameKind.DNS and name.value.endswith(f".{ancestor.value}")


def authorization_for(order: Order, name: AltName) -> Authorization | None:
    """What entitles an order's account to one of its names: for the name itself, else for a domain above it."""
    own = (name.value.removeprefix("*."), name.value.startswith("*."))
    for each in order.authorizations:
        if each.name.kind is name.kind and (each.name.value, each.wildcard) == own:
            return each
    return next((each for each in order.authorizations if each.subdomains and is_below(name, each.name)), None)
