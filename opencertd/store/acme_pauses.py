"""Accounts that fail for a name again and again, in SQL: counted with each verdict, paused once, resumed by a deed.

A row is there from the first failure to the first success, or until nothing was tried for a while. It is read and
written in the transaction of the deed, so that all workers and nodes go by the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Executable, and_, bindparam, case, delete, or_, select, update

from opencertd.acme.pausing import STREAK_ENDS, Failures, Streak, Turn, refusal
from opencertd.model.audit import AuditEvent, Deed
from opencertd.model.names import AltName
from opencertd.model.requester import Proof
from opencertd.store.audit import append
from opencertd.store.schema import acme_failures
from opencertd.store.statements import Direct, InsertInto, on_both

_C = acme_failures.c
_SECONDS = _C.since.type
_HERE = (_C.account_id == bindparam("of_account"), _C.name == bindparam("of_name"))


def _count(insert: InsertInto) -> Executable:
    """One failure more, or the first of a new streak where the one before has ended."""
    goes_on = or_(_C.last_failed_at >= bindparam("alive", type_=_SECONDS), _C.paused_at.is_not(None))
    fresh = insert(acme_failures)
    counted = {
        "failed": case((goes_on, _C.failed + 1), else_=1),
        "since": case((goes_on, _C.since), else_=fresh.excluded.since),
        "last_failed_at": fresh.excluded.last_failed_at,
    }
    return fresh.on_conflict_do_update(index_elements=[_C.account_id, _C.name], set_=counted).returning(
        _C.failed, _C.since, _C.paused_at
    )


_COUNT = Direct(on_both(_count))
_PAUSE = Direct(update(acme_failures).where(*_HERE, _C.paused_at.is_(None)))
_FORGET = Direct(delete(acme_failures).where(*_HERE))
_PAUSED = (
    select(acme_failures)
    .where(
        _C.account_id == bindparam("of_account"),
        _C.name.in_(bindparam("names", expanding=True)),
        _C.paused_at.is_not(None),
    )
    .order_by(_C.name)
)
_PAGE = select(acme_failures).where(_C.paused_at.is_not(None)).order_by(_C.account_id, _C.name)
_AFTER = or_(
    _C.account_id > bindparam("after_account"),
    and_(_C.account_id == bindparam("after_account"), _C.name > bindparam("after_name", type_=_C.name.type)),
)
_RESUME = delete(acme_failures).where(_C.paused_at.is_not(None)).returning(_C.account_id, _C.name)


def take_turn(connection: Connection, streak: Streak, now: datetime) -> None:
    """What the turn says; the last thing that its transaction changes. Raises RATE_LIMITED for an order in a pause."""
    if streak.turn is Turn.ORDERED:
        found = paused_for(connection, streak.account_id, streak.names)
        if found:
            raise refusal(found, streak.terms.help_url)
        return
    for name in streak.names:
        if streak.turn is Turn.PROVEN:
            _FORGET.count(connection, of_account=streak.account_id, of_name=(name,))
        else:
            _fail(connection, streak, name, now)


def paused_for(connection: Connection, account_id: str, names: Sequence[AltName]) -> tuple[Failures, ...]:
    """Those of the names that the account is paused for."""
    asked = {"of_account": account_id, "names": [(name,) for name in names]}
    return tuple(_failures(row) for row in connection.execute(_PAUSED, asked))


def page(connection: Connection, account_id: str | None, after: Failures | None, limit: int) -> tuple[Failures, ...]:
    """At most `limit` that are paused, by account and name; of that account, if one is given."""
    query, asked = _PAGE.limit(limit), {}
    if account_id is not None:
        query = query.where(_C.account_id == account_id)
    if after is not None:
        query, asked = query.where(_AFTER), {"after_account": after.account_id, "after_name": (after.name,)}
    return tuple(_failures(row) for row in connection.execute(query, asked))


def resume(
    connection: Connection, account_id: str | None, names: Sequence[AltName] | None
) -> tuple[tuple[str, AltName], ...]:
    """Let the account have orders for the names (None: all) again; every account, if it is None. Answers which."""
    statement = _RESUME
    if account_id is not None:
        statement = statement.where(_C.account_id == account_id)
    if names is not None:
        statement = statement.where(_C.name.in_([(name,) for name in names]))
    rows = connection.execute(statement)
    return tuple(sorted(((row.account_id, row.name[0]) for row in rows), key=lambda each: (each[0], str(each[1]))))


def _fail(connection: Connection, streak: Streak, name: AltName, now: datetime) -> None:
    row = _COUNT.first(
        connection,
        account_id=streak.account_id,
        name=(name,),
        failed=1,
        since=now,
        last_failed_at=now,
        alive=now - STREAK_ENDS,
    )
    if row.paused_at is not None or row.failed < streak.terms.failures or now - row.since < streak.terms.after:
        return
    if _PAUSE.count(connection, of_account=streak.account_id, of_name=(name,), paused_at=now):
        what = {
            "change": "pause",
            "account": streak.account_id,
            "name": str(name),
            "failed": row.failed,
            "since": row.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        by = Proof.DAEMON.value
        append(connection, AuditEvent(Deed.CHANGE_ACCOUNT, by, by, by, now, what))


def _failures(row: Any) -> Failures:
    return Failures(row.account_id, row.name[0], row.failed, row.since, row.last_failed_at, row.paused_at)
