"""Issuers, certificates and revocations in SQL.

The constraints do the deciding: a serial once per issuer, a transaction key once, a revocation once per certificate.
Whoever loses a race for one of them reads what the winner wrote and answers that.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select, update
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.along import Along
from opencertd.issuance.audit import abandoned, issued, issuer_added, key_moved, revoked
from opencertd.issuance.key_checks import compromised
from opencertd.model.audit import AuditEvent
from opencertd.model.certificates import (
    CertificateIntent,
    CertificateRecord,
    CertificateState,
    IssuerRecord,
    Revocation,
    RevocationChange,
    RevocationReason,
)
from opencertd.model.requester import Requester
from opencertd.store.audit import append
from opencertd.store.certificate_rows import intended, intent_row
from opencertd.store.database import Database
from opencertd.store.enrolment_passwords import charge, stale_uses
from opencertd.store.hierarchy import all_issuers, insert_issuers, note_revoked
from opencertd.store.revocations import OF_CERTIFICATE, history, in_force, swap
from opencertd.store.schema import certificates, issuers, secrets
from opencertd.store.statements import Direct, execute, on_both
from opencertd.store.status_tables import revocations

_RACES = 5  # how often a lost race is looked at again before the caller is asked to come back

_COLUMNS = (
    *(certificates.c[name] for name in ("id", "issuer_id", "serial", "state", "profile", "requester")),
    *(certificates.c[name] for name in ("requester_label", "subject", "names", "not_before", "not_after")),
    *(certificates.c[name] for name in ("owner", "intended_at", "certificate_der")),
)
_RECORD: Select[Any] = select(
    *_COLUMNS,
    certificates.c.issued_at,
    revocations.c.revoked_at,
    revocations.c.reason,
    revocations.c.invalidity_date,
).outerjoin_from(certificates, revocations, OF_CERTIFICATE)
_ISSUED = _RECORD.where(certificates.c.state == CertificateState.ISSUED)

_OF_TRANSACTION = _RECORD.where(certificates.c.transaction_key == bindparam("key"))
_OF_SERIAL = _ISSUED.where(certificates.c.serial == bindparam("serial")).order_by(certificates.c.id)

_BY_ID = Direct(_RECORD.where(certificates.c.id == bindparam("id")))
_BY_TRANSACTION = Direct(_OF_TRANSACTION)
_HOLDER = Direct(_OF_TRANSACTION.with_for_update(of=certificates))
_BY_SERIAL = Direct(_OF_SERIAL)
_OF_ISSUER = Direct(_OF_SERIAL.where(certificates.c.issuer_id == bindparam("issuer_id")))
_PAGE = Direct(
    _ISSUED.where(certificates.c.id > bindparam("after")).order_by(certificates.c.id).limit(bindparam("most"))
)
_COMPROMISED = Direct(
    select(revocations.c.certificate_id)
    .join_from(certificates, revocations, revocations.c.certificate_id == certificates.c.id)
    .where(
        certificates.c.spki_sha256 == bindparam("spki_sha256"),
        revocations.c.reason == int(RevocationReason.KEY_COMPROMISE),
    )
    .limit(1)
)
_USED = Direct(
    select(certificates.c.id).where(
        certificates.c.serial == bindparam("serial"), certificates.c.issuer_id == bindparam("issuer_id")
    )
)

_RESERVE = Direct(on_both(lambda insert: insert(certificates).on_conflict_do_nothing().returning(certificates.c.id)))
_COMPLETE = Direct(
    update(certificates)
    .where(certificates.c.id == bindparam("of_id"), certificates.c.state == CertificateState.INTENDED)
    .values(state=CertificateState.ISSUED, tbs_der=None)
    .returning(*_COLUMNS)
)
_NOTE = Direct(
    update(certificates)
    .where(
        certificates.c.issuer_id == bindparam("of_issuer"),
        certificates.c.serial == bindparam("of_serial"),
        certificates.c.state != CertificateState.ISSUED,
    )
    .values(state=CertificateState.ISSUED, tbs_der=None)
    .returning(*_COLUMNS)
)
_ABANDON = (
    update(certificates)
    .where(certificates.c.state == CertificateState.INTENDED)
    .values(state=CertificateState.ABANDONED, transaction_key=None)
    .returning(*_COLUMNS, certificates.c.tbs_der)
)
_ABANDON_ONE = Direct(_ABANDON.where(certificates.c.id == bindparam("of_id")))
_GIVE_KEY_UP = Direct(update(certificates).where(certificates.c.id == bindparam("of_id")).values(transaction_key=None))
_PROPOSE_SECRET = on_both(lambda insert: insert(secrets).on_conflict_do_nothing(index_elements=[secrets.c.name]))


class SqlCertificateStore:
    """The `CertificateStore` over a `Database`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def issuers(self) -> Deferred[tuple[IssuerRecord, ...]]:
        return self._database.read(all_issuers)

    def add_issuers(self, issuers: tuple[IssuerRecord, ...]) -> Deferred[None]:
        def add(connection: Connection) -> None:
            insert_issuers(connection, issuers)
            now = self._clock.now()
            append(connection, *(issuer_added(issuer, now) for issuer in issuers))

        return self._database.write(add)

    def move_key(self, issuer_id: str, before: str, after: str) -> Deferred[None]:
        def move(connection: Connection) -> None:
            held = (issuers.c.id == issuer_id, issuers.c.key_reference == before)
            if not connection.execute(update(issuers).where(*held).values(key_reference=after)).rowcount:
                raise Refusal(RefusalKind.CONFLICT, "the key of this issuer is not where it was")
            append(connection, key_moved(issuer_id, before, after, self._clock.now()))

        return self._database.write(move)

    def reserve(
        self,
        intent: CertificateIntent,
        window: timedelta | None,
        stale_before: datetime,
        *,
        unless_compromised: bool = False,
        along: Along | None = None,
    ) -> Deferred[CertificateRecord]:
        def reserve(connection: Connection) -> CertificateRecord:
            if along is not None and along.begin is not None and not along.begun:
                along.begin(connection)
            if unless_compromised and _COMPROMISED.first(connection, spki_sha256=intent.spki_sha256):
                raise compromised()
            given_up: list[AuditEvent] = []
            for dead in stale_uses(connection, intent, stale_before):
                given_up += _abandon(connection, dead, "its worker died", intent.intended_at)
            record = _reserve(connection, intent, window, stale_before, given_up)
            charge(connection, intent, record)
            append(connection, *given_up)
            return record

        return self._database.write(reserve)

    def complete(
        self, record_id: int, certificate_der: bytes, issued_at: datetime, along: Along | None = None
    ) -> Deferred[CertificateRecord]:
        def complete(connection: Connection) -> CertificateRecord:
            row = _COMPLETE.first(connection, of_id=record_id, certificate_der=certificate_der, issued_at=issued_at)
            if row is None:
                raise Refusal(RefusalKind.CONFLICT, "this certificate is not being issued any more")
            record = _record(row, None)  # nobody can have revoked it before
            if along is not None:
                along.end(connection, record_id)
            append(connection, issued(record, self._clock.now()))
            return record

        return self._database.write(complete)

    def note(self, intent: CertificateIntent, certificate_der: bytes) -> Deferred[None]:
        def note(connection: Connection) -> None:
            _RESERVE.first(connection, **intent_row(intent))
            of = {"of_issuer": intent.issuer_id, "of_serial": intent.serial}
            row = _NOTE.first(connection, **of, certificate_der=certificate_der, issued_at=intent.intended_at)
            if row is not None:
                append(connection, issued(_record(row, None), self._clock.now()))

        return self._database.write(note)

    def abandon(self, record_id: int, why: str = "given up") -> Deferred[None]:
        def abandon(connection: Connection) -> None:
            append(connection, *_abandon(connection, record_id, why, self._clock.now()))

        return self._database.write(abandon)

    def abandon_intents(self, *, owner: str | None, before: datetime | None) -> Deferred[int]:
        def abandon(connection: Connection) -> int:
            statement = _ABANDON
            if owner is not None:
                statement = statement.where(certificates.c.owner == owner)
            if before is not None:
                statement = statement.where(certificates.c.intended_at < before)
            now = self._clock.now()
            rows = connection.execute(statement).all()
            append(connection, *(_given_up(row, "its worker died", now) for row in rows))
            return len(rows)

        return self._database.write(abandon)

    def by_serial(self, serial: int, issuer_id: str | None = None) -> Deferred[tuple[CertificateRecord, ...]]:
        if issuer_id is None:
            return self._records(_BY_SERIAL, serial=serial)
        return self._records(_OF_ISSUER, serial=serial, issuer_id=issuer_id)

    def by_id(self, record_id: int) -> Deferred[CertificateRecord | None]:
        return self._database.glance(lambda connection: _one(connection, _BY_ID, id=record_id))

    def by_transaction(self, key: str) -> Deferred[CertificateRecord | None]:
        return self._database.read(lambda connection: _one(connection, _BY_TRANSACTION, key=key))

    def revoke(
        self,
        issuer_id: str,
        serial: int,
        revocation: Revocation,
        by: Requester,
        *,
        replaces: Revocation | None = None,
    ) -> Deferred[CertificateRecord]:
        return self._database.write(
            lambda connection: self._swap(connection, issuer_id, serial, was=replaces, becomes=revocation, by=by)
        )

    def release(self, issuer_id: str, serial: int, held: Revocation, by: Requester) -> Deferred[CertificateRecord]:
        return self._database.write(
            lambda connection: self._swap(connection, issuer_id, serial, was=held, becomes=None, by=by)
        )

    def revocation_history(self, record_id: int) -> Deferred[tuple[RevocationChange, ...]]:
        return self._database.read(lambda connection: history(connection, record_id))

    def _swap(
        self,
        connection: Connection,
        issuer_id: str,
        serial: int,
        *,
        was: Revocation | None,
        becomes: Revocation | None,
        by: Requester,
    ) -> CertificateRecord:
        record = _one(connection, _OF_ISSUER, serial=serial, issuer_id=issuer_id)
        if record is None:
            raise Refusal(RefusalKind.NOT_FOUND, "this CA has issued no such certificate")
        if not swap(connection, record, was, becomes, by=by.label, clock=self._clock):
            now = _one(connection, _BY_ID, id=record.id)
            if now is None or now.revocation is None:
                raise Refusal(RefusalKind.CONFLICT, "this certificate is not revoked any more")
            raise Refusal(RefusalKind.ALREADY_REVOKED, "this certificate is revoked already")
        said = _joined(_BY_ID.first(connection, id=record.id))
        append(connection, revoked(said, by, self._clock.now()))
        if said.revocation is not None and not said.revocation.held and said.certificate_der is not None:
            note_revoked(connection, said.certificate_der, by, self._clock.now())
        return said

    def record(self, event: AuditEvent) -> Deferred[None]:
        return self._database.write(lambda connection: append(connection, event))

    def is_compromised(self, spki_sha256: str) -> Deferred[bool]:
        return self._database.glance(
            lambda connection: _COMPROMISED.first(connection, spki_sha256=spki_sha256) is not None
        )

    def inventory(self, after_id: int, limit: int) -> Deferred[tuple[CertificateRecord, ...]]:
        return self._records(_PAGE, after=after_id, most=limit)

    def secret(self, name: str, proposal: bytes) -> Deferred[bytes]:
        def secret(connection: Connection) -> bytes:
            execute(connection, _PROPOSE_SECRET, {"name": name, "value": proposal})
            return bytes(connection.execute(select(secrets.c.value).where(secrets.c.name == name)).scalar_one())

        return self._database.write(secret)

    def _records(self, query: Direct, **asked: Any) -> Deferred[tuple[CertificateRecord, ...]]:
        return self._database.read(lambda connection: tuple(_joined(row) for row in query.all(connection, **asked)))


def _abandon(connection: Connection, record_id: int, why: str, now: datetime) -> list[AuditEvent]:
    """Give the intent up, if it is one; what the audit chain is to say of it."""
    return [_given_up(row, why, now) for row in _ABANDON_ONE.all(connection, of_id=record_id)]


def _given_up(row: Row[Any], why: str, now: datetime) -> AuditEvent:
    return abandoned(_record(row, None), row.tbs_der, why, now)


def _reserve(
    connection: Connection,
    intent: CertificateIntent,
    window: timedelta | None,
    stale_before: datetime,
    given_up: list[AuditEvent],
) -> CertificateRecord:
    """As the Protocol says; what is abandoned on the way comes into `given_up`."""
    for _ in range(_RACES):
        added = _RESERVE.first(connection, **intent_row(intent))
        if added is not None:
            return intended(added.id, intent)
        holder = _holder(connection, intent, window, stale_before, given_up)
        if holder is not None:
            return holder
        if _USED.first(connection, issuer_id=intent.issuer_id, serial=intent.serial):
            raise Refusal(RefusalKind.CONFLICT, "this issuer has used that serial number")
    raise Refusal(RefusalKind.UNAVAILABLE, "too many requests for one transaction at once", retry_after=1)


def _holder(
    connection: Connection,
    intent: CertificateIntent,
    window: timedelta | None,
    stale_before: datetime,
    given_up: list[AuditEvent],
) -> CertificateRecord | None:
    """The record that keeps the intent's transaction key; one that must give the key up does so here."""
    if intent.transaction is None:
        return None
    row = _HOLDER.first(connection, key=intent.transaction)
    if row is None:
        return None
    if row.state is CertificateState.INTENDED and row.intended_at < stale_before:
        given_up += _abandon(connection, row.id, "its worker died", intent.intended_at)
        return None
    if row.state is CertificateState.ISSUED and window is not None and row.issued_at + window < intent.intended_at:
        _GIVE_KEY_UP.count(connection, of_id=row.id)
        return None
    return _joined(row)


def _one(connection: Connection, query: Direct, **asked: Any) -> CertificateRecord | None:
    row = query.first(connection, **asked)
    return None if row is None else _joined(row)


def _joined(row: Row[Any]) -> CertificateRecord:
    return _record(row, in_force(row))


def _record(row: Row[Any], revocation: Revocation | None) -> CertificateRecord:
    return CertificateRecord(
        id=row.id,
        issuer_id=row.issuer_id,
        serial=row.serial,
        state=row.state,
        profile=row.profile,
        requester=row.requester,
        requester_label=row.requester_label,
        subject=row.subject,
        names=row.names,
        not_before=row.not_before,
        not_after=row.not_after,
        owner=row.owner,
        intended_at=row.intended_at,
        certificate_der=row.certificate_der,
        revocation=revocation,
    )
