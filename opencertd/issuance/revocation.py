"""How a certificate's revocation may change: good ⇄ on hold, either → revoked, and revoked for good stays so.

The one exception is that a final reason may become keyCompromise when somebody shows the compromise later: whoever
relies on old signatures must learn of it (Mozilla Root Store Policy §6.1.1; Boulder does the same). The rules are
pure; the store keeps them by compare-and-swap, and whoever loses a race looks again at what the winner made of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.store import CertificateStore
from opencertd.model.certificates import USABLE_REASONS, CertificateRecord, Revocation, RevocationReason
from opencertd.model.request import ReinstatementRequest, RevocationRequest

_RACES = 10
"""How often a lost race is looked at again. Each has a winner: only a storm of requests for one serial gets there."""
_LOST = frozenset({RefusalKind.ALREADY_REVOKED, RefusalKind.CONFLICT})
_COMPROMISES = frozenset(
    {RevocationReason.KEY_COMPROMISE, RevocationReason.CA_COMPROMISE, RevocationReason.AA_COMPROMISE}
)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def revised(current: Revocation | None, wish: RevocationRequest, now: datetime, *, hold: bool) -> Revocation:
    """The revocation that follows `current` when `wish` is granted at `now`. `hold`: whether holds are made at all.

    A hold that becomes final keeps its date (X.509, reasonCode extension: the revocation date shall be the date of
    the hold), and so does a reason that becomes keyCompromise (RFC 5280 §5.3.2: only the invalidity date goes back).
    Raises BAD_REVOCATION_REASON, MALFORMED (invalidity date in the future or before 1970), ALREADY_REVOKED.
    """
    reason = wish.reason
    if reason not in USABLE_REASONS:
        raise Refusal(
            RefusalKind.BAD_REVOCATION_REASON, f"the reason {reason.rfc_name} cannot be used for a revocation"
        )
    if reason is RevocationReason.CERTIFICATE_HOLD and not hold:
        raise Refusal(RefusalKind.BAD_REVOCATION_REASON, "this CA does not put such certificates on hold")
    if wish.invalidity_date is not None and not _EARLIEST <= wish.invalidity_date <= now:
        raise Refusal(RefusalKind.MALFORMED, "the invalidity date must not be in the future, nor before 1970")
    if current is None:
        return Revocation(now, reason, wish.invalidity_date)
    if current.held and reason is RevocationReason.CERTIFICATE_HOLD:
        raise Refusal(RefusalKind.ALREADY_REVOKED, "this certificate is on hold already")
    shown = reason is RevocationReason.KEY_COMPROMISE and wish.compromise_shown and current.reason not in _COMPROMISES
    if not current.held and not shown:
        raise Refusal(RefusalKind.ALREADY_REVOKED, "this certificate is revoked already")
    invalidity_date = wish.invalidity_date or current.invalidity_date
    return dataclasses.replace(current, reason=reason, invalidity_date=invalidity_date)


def hold_of(record: CertificateRecord, now: datetime) -> Revocation:
    """The hold that may be ended. Raises CONFLICT when there is none or it is too late, ALREADY_REVOKED."""
    if record.revocation is None:
        raise Refusal(RefusalKind.CONFLICT, "this certificate is not on hold")
    if not record.revocation.held:
        raise Refusal(RefusalKind.ALREADY_REVOKED, "this certificate is revoked for good")
    if record.not_after < now:  # what is on a CRL stays there until one CRL past its expiry (RFC 5280 §3.3)
        raise Refusal(RefusalKind.CONFLICT, "this certificate has expired, so that its hold cannot be ended")
    return record.revocation


async def revoke(
    store: CertificateStore, wish: RevocationRequest, now: datetime, *, holds: Callable[[str], bool]
) -> CertificateRecord:
    """The record after `wish` was granted. Raises what `revised` raises, NOT_FOUND, UNAVAILABLE.

    `holds`: whether certificates of a profile are put on hold.
    """
    hold = wish.reason is not RevocationReason.CERTIFICATE_HOLD or holds(
        (await _issued(store, wish.issuer_id, wish.serial)).profile
    )
    current: Revocation | None = None  # as nearly always; the store says when it is not so
    for _ in range(_RACES):
        revocation = revised(current, wish, now, hold=hold)
        try:
            return await store.revoke(wish.issuer_id, wish.serial, revocation, wish.requester, replaces=current)
        except Refusal as refusal:
            if refusal.kind not in _LOST:
                raise
        current = (await _issued(store, wish.issuer_id, wish.serial)).revocation
    raise _crowded()


async def reinstate(store: CertificateStore, wish: ReinstatementRequest, now: datetime) -> CertificateRecord:
    """The record after its hold was ended. Raises what `hold_of` raises, NOT_FOUND, UNAVAILABLE."""
    for _ in range(_RACES):
        held = hold_of(await _issued(store, wish.issuer_id, wish.serial), now)
        try:
            return await store.release(wish.issuer_id, wish.serial, held, wish.requester)
        except Refusal as refusal:
            if refusal.kind not in _LOST:
                raise
    raise _crowded()


async def _issued(store: CertificateStore, issuer_id: str, serial: int) -> CertificateRecord:
    for record in await store.by_serial(serial, issuer_id):
        return record
    raise Refusal(RefusalKind.NOT_FOUND, "this CA has issued no such certificate")


def _crowded() -> Refusal:
    return Refusal(RefusalKind.UNAVAILABLE, "others keep changing this certificate's revocation", retry_after=1)
