"""A certificate's revocation in SQL: what holds now by compare-and-swap, and every change there ever was.

`revocations` has one row for each certificate that was ever revoked or held; released rows stay, so that the feed can
tell of them, and mean the same as no row. `revocation_changes` is only ever added to.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, insert, select, update

from opencertd.asn1.certificate import is_ca
from opencertd.asn1.crl import encode_entry
from opencertd.clock import Clock
from opencertd.crl.store import APART
from opencertd.model.certificates import (
    CertificateRecord,
    Revocation,
    RevocationChange,
    RevocationReason,
    RevocationState,
)
from opencertd.model.crl_parts import CAS, USERS, bucket_of, shard_of
from opencertd.store.jobs import owe
from opencertd.store.schema import certificates
from opencertd.store.statements import Direct, execute, on_both
from opencertd.store.status_tables import crl_schemes, revocation_changes, revocations

CRL_JOB = "crl"
"""Kind of the job that publishes an issuer's CRL; its key is the issuer's id."""

IN_FORCE: ColumnElement[bool] = revocations.c.state != RevocationState.RELEASED
"""Rows that say something of their certificate."""

OF_CERTIFICATE: ColumnElement[bool] = and_(revocations.c.certificate_id == certificates.c.id, IN_FORCE)
"""Joins certificates with what is in force about them."""

_FIRST = on_both(
    lambda insert: (
        insert(revocations)
        .on_conflict_do_nothing(index_elements=[revocations.c.certificate_id])
        .returning(revocations.c.changes)
    )
)
_CHANGE = (
    update(revocations)
    .where(revocations.c.certificate_id == bindparam("of_id"), revocations.c.state == bindparam("was_state"))
    .values(changes=revocations.c.changes + 1)
    .returning(revocations.c.changes)
)
_CHANGE_EXACTLY = _CHANGE.where(
    revocations.c.revoked_at == bindparam("was_at"),
    revocations.c.reason == bindparam("was_reason"),
    revocations.c.invalidity_date.is_not_distinct_from(bindparam("was_invalid_since")),
)
_REMEMBER = insert(revocation_changes)
_SAID = ("state", "revoked_at", "reason", "invalidity_date")
_SCHEMES = Direct(
    select(crl_schemes.c.name, crl_schemes.c.wait).where(crl_schemes.c.issuer_id == bindparam("issuer_id"))
)
_HISTORY = (
    select(revocation_changes)
    .where(revocation_changes.c.certificate_id == bindparam("of_id"))
    .order_by(revocation_changes.c.number)
)


def swap(
    connection: Connection,
    record: CertificateRecord,
    was: Revocation | None,
    becomes: Revocation | None,
    *,
    by: str,
    clock: Clock,
) -> bool:
    """Put `becomes` in the place of `was` (None: good), with its history and the CRL owed; False when it is not so."""
    now = clock.now()
    said = becomes or was
    if said is None:
        raise ValueError("a certificate that is good becomes good by nothing")
    state = _state(becomes)
    values = {
        "state": state,
        "revoked_at": said.revoked_at,
        "reason": int(said.reason),
        "invalidity_date": said.invalidity_date,
        "recorded_at": now,
        **crl_columns(record.serial, said, record.certificate_der),
    }
    number = _take(connection, record, was, values)
    if number is None:
        return False
    change = {"certificate_id": record.id, "number": number, "changed_at": now, "requester": by}
    connection.execute(_REMEMBER, {**{name: values[name] for name in _SAID}, **change})
    owe_crls(connection, record.issuer_id, values, now)
    return True


def crl_columns(serial: int, said: Revocation, certificate_der: bytes | None) -> dict[str, Any]:
    """What CRLs are made from: the entry, and in which parts it stands."""
    return {
        "entry_der": encode_entry(serial, said),
        "bucket": bucket_of(serial),
        "ca": certificate_der is not None and is_ca(certificate_der),
    }


def owe_crls(connection: Connection, issuer_id: str, row: Mapping[str, Any], now: datetime) -> None:
    """Owe the issuer's CRLs that speak of the certificate in `row`: at once, but for that of all where others are."""
    wait = 0
    for scheme in _SCHEMES.all(connection, issuer_id=issuer_id):
        wait = max(wait, scheme.wait)
        owe(connection, CRL_JOB, f"{issuer_id}/{_word(scheme.name, row)}", now)
    owe(connection, CRL_JOB, issuer_id, now + timedelta(seconds=wait))


def _word(scheme: str, row: Mapping[str, Any]) -> str:
    if scheme == APART:
        return CAS.word if row["ca"] else USERS.word
    return shard_of(row["bucket"], int(scheme)).word if scheme.isdigit() else scheme  # a bucket is in its own shard


def _take(
    connection: Connection, record: CertificateRecord, was: Revocation | None, values: dict[str, Any]
) -> int | None:
    """The number of the change, counted from 1; None when somebody else was first."""
    if was is not None:
        exactly = {"was_at": was.revoked_at, "was_reason": int(was.reason), "was_invalid_since": was.invalidity_date}
        asked = {**values, **exactly, "of_id": record.id, "was_state": _state(was)}
        return connection.execute(_CHANGE_EXACTLY, asked).scalar()
    row = {
        **values,
        "certificate_id": record.id,
        "issuer_id": record.issuer_id,
        "serial": record.serial,
        "not_after": record.not_after,
        "changes": 1,
    }
    first: int | None = execute(connection, _FIRST, row).scalar()
    if first is not None:
        return first
    return connection.execute(_CHANGE, {**values, "of_id": record.id, "was_state": RevocationState.RELEASED}).scalar()


def _state(revocation: Revocation | None) -> RevocationState:
    if revocation is None:
        return RevocationState.RELEASED
    return RevocationState.HELD if revocation.held else RevocationState.REVOKED


def history(connection: Connection, record_id: int) -> tuple[RevocationChange, ...]:
    """Every change of one certificate, oldest first."""
    rows = connection.execute(_HISTORY, {"of_id": record_id})
    return tuple(RevocationChange(row.state, row.changed_at, _said(row), row.requester) for row in rows)


def _said(row: Row[Any]) -> Revocation:
    return Revocation(row.revoked_at, RevocationReason(row.reason), row.invalidity_date)


def in_force(row: Row[Any]) -> Revocation | None:
    """The revocation in a row joined by `OF_CERTIFICATE`."""
    return None if row.revoked_at is None else _said(row)
