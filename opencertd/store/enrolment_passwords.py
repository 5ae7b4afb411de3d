"""Enrolment passwords in SQL: what was made of one is counted, not what was tried.

A use is a row beside the intent of its certificate, written in the same transaction, and counts until that intent is
abandoned: so a refusal uses up nothing, and nothing is given back that a killed worker might still have issued.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.audit import AuditEvent, Deed
from opencertd.model.certificates import CertificateIntent, CertificateRecord, CertificateState
from opencertd.model.enrolment_password import EnrolmentPassword
from opencertd.model.requester import Proof, Requester
from opencertd.store.access_tables import enrolment_passwords, enrolment_uses
from opencertd.store.audit import append
from opencertd.store.database import Database
from opencertd.store.schema import certificates
from opencertd.store.statements import Direct

ROWS = 100
"""Rows in a batch of the clean-up."""

_C = enrolment_passwords.c
_USES = enrolment_uses.c
_TIME = _C.until.type
_REQUESTER = f"{Proof.ENROLMENT_PASSWORD.value}:"

_OF_CERTIFICATE = _USES.certificate_id == certificates.c.id
_COUNTS = certificates.c.state.in_((CertificateState.INTENDED, CertificateState.ISSUED))
_OF_THIS = (_OF_CERTIFICATE, _USES.password_id == _C.id, certificates.c.state == CertificateState.ISSUED)
_ALL = select(
    enrolment_passwords,
    select(func.count()).select_from(enrolment_uses).where(*_OF_THIS).scalar_subquery().label("used"),
    select(func.max(certificates.c.intended_at)).where(*_OF_THIS).scalar_subquery().label("last_used_at"),
)
_BY_ID = _ALL.where(_C.id == bindparam("id"))
_PAGE = _ALL.where(_C.id > bindparam("after")).order_by(_C.id).limit(bindparam("most"))
_ANY_GOOD = Direct(select(_C.id).where(_C.revoked_at.is_(None), _C.until > bindparam("now", type_=_TIME)).limit(1))
_HELD = select(enrolment_passwords).where(_C.id == bindparam("id")).with_for_update()
_STATES = (
    select(certificates.c.id, certificates.c.state, certificates.c.intended_at)
    .join_from(enrolment_uses, certificates, _OF_CERTIFICATE)
    .where(_USES.password_id == bindparam("id"), _COUNTS)
)
_REVOKE = update(enrolment_passwords).where(_C.id == bindparam("of_id"), _C.revoked_at.is_(None))
_OLD = select(_C.id).where(_C.until < bindparam("before", type_=_TIME)).order_by(_C.until).limit(ROWS)


class SqlEnrolmentPasswordStore:
    """The `EnrolmentPasswordStore` over a `Database`, and what an operator does."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def find(self, name: str) -> Deferred[EnrolmentPassword | None]:
        def find(connection: Connection) -> EnrolmentPassword | None:
            row = connection.execute(_BY_ID, {"id": name}).one_or_none()
            return None if row is None else _of(row)

        return self._database.glance(find)

    def any_good(self) -> Deferred[bool]:
        now = self._clock.now()
        return self._database.glance(lambda connection: _ANY_GOOD.first(connection, now=now) is not None)

    def add(self, password: EnrolmentPassword, by: Requester) -> Deferred[None]:
        """Keep a new one, and say so in the audit chain."""

        def add(connection: Connection) -> None:
            values = {column.name: getattr(password, column.name) for column in enrolment_passwords.columns}
            connection.execute(insert(enrolment_passwords), values)
            what = {
                "change": "add",
                "password": password.id,
                "names": list(password.names),
                "profiles": None if password.profiles is None else list(password.profiles),
                "uses": password.uses,
                "until": password.until.isoformat(),
                "note": password.note,
            }
            append(connection, self._event(by, what))

        return self._database.write(add)

    def revoke(self, name: str, by: Requester) -> Deferred[None]:
        """Let it prove nothing any more. Refusal NOT_FOUND, CONFLICT when that was done before."""

        def revoke(connection: Connection) -> None:
            changed = connection.execute(_REVOKE.values(revoked_at=self._clock.now()), {"of_id": name}).rowcount
            if not changed:
                if connection.execute(_BY_ID, {"id": name}).one_or_none() is None:
                    raise Refusal(RefusalKind.NOT_FOUND, f"there is no enrolment password {name[:80]!r}")
                raise Refusal(RefusalKind.CONFLICT, f"the enrolment password {name} was revoked before")
            append(connection, self._event(by, {"change": "revoke", "password": name}))

        return self._database.write(revoke)

    def page(self, after: str, limit: int) -> Deferred[tuple[EnrolmentPassword, ...]]:
        """At most `limit` of them with names after that one."""
        asked = {"after": after, "most": limit}
        return self._database.read(lambda connection: tuple(_of(row) for row in connection.execute(_PAGE, asked)))

    def forget(self, before: datetime) -> Deferred[bool]:
        """Remove a batch of those that expired before then; answers whether there may be more."""

        def forget(connection: Connection) -> bool:
            batch = list(connection.execute(_OLD, {"before": before}).scalars())
            connection.execute(delete(enrolment_uses).where(_USES.password_id.in_(batch)))
            connection.execute(delete(enrolment_passwords).where(_C.id.in_(batch)))
            return len(batch) == ROWS

        return self._database.write(forget)

    def _event(self, by: Requester, what: dict[str, Any]) -> AuditEvent:
        who = (by.proof.value, by.id, by.label)
        return AuditEvent(Deed.CHANGE_ENROLMENT_PASSWORD, *who, self._clock.now(), what)


def stale_uses(connection: Connection, intent: CertificateIntent, stale_before: datetime) -> Sequence[int]:
    """Records that count as uses of the intent's password and are of workers that died: to be abandoned."""
    if not intent.requester.startswith(_REQUESTER):
        return ()
    return [row.id for row in _uses(connection, intent) if _is_intended(row) and row.intended_at < stale_before]


def charge(connection: Connection, intent: CertificateIntent, record: CertificateRecord) -> None:
    """Count `record`, which `reserve` answers in this transaction, as a use of the intent's password, if it has one.

    Refusal UNAUTHENTICATED when it may not be used (any more), CONFLICT while others have all its uses in hand; then
    the transaction must be undone.
    """
    if not intent.requester.startswith(_REQUESTER) or record.serial != intent.serial:
        return  # the answer to a repetition was counted before
    held = connection.execute(_HELD, {"id": intent.requester.removeprefix(_REQUESTER)}).one_or_none()
    if held is None or held.revoked_at is not None or held.until <= intent.intended_at:
        raise Refusal(RefusalKind.UNAUTHENTICATED, "the enrolment password is not good any more")
    others = _uses(connection, intent)
    if len(others) >= held.uses:
        if any(map(_is_intended, others)):
            why = "the enrolment password is in use by another request at this moment"
            raise Refusal(RefusalKind.CONFLICT, why, retry_after=2)
        raise Refusal(RefusalKind.UNAUTHENTICATED, "the enrolment password was used up")
    connection.execute(insert(enrolment_uses), {"password_id": held.id, "certificate_id": record.id})


def _uses(connection: Connection, intent: CertificateIntent) -> Sequence[Any]:
    return connection.execute(_STATES, {"id": intent.requester.removeprefix(_REQUESTER)}).all()


def _is_intended(row: Row[Any]) -> bool:
    return row.state is CertificateState.INTENDED


def _of(row: Row[Any]) -> EnrolmentPassword:
    values = dict(row._mapping)
    values["names"] = tuple(values["names"])
    values["profiles"] = None if values["profiles"] is None else tuple(values["profiles"])
    return EnrolmentPassword(**values)
