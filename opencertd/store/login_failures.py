"""Wrong passwords in a row, in SQL: the `FailureStore` that all workers and nodes share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Executable, bindparam, case, delete, select
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.store.access_tables import login_failures
from opencertd.store.database import Database
from opencertd.store.statements import Direct, InsertInto, on_both
from opencertd.web.throttle import FORGET_AFTER, Failures

ROWS = 1000
"""Rows in a batch of the clean-up."""

_C = login_failures.c
_TIME = _C.last_at.type


def _add(insert: InsertInto) -> Executable:
    fresh = insert(login_failures)
    anew = _C.last_at < bindparam("forget", type_=_TIME)
    return fresh.on_conflict_do_update(
        index_elements=[_C.key],
        set_={"failures": case((anew, 1), else_=_C.failures + 1), "last_at": fresh.excluded.last_at},
    )


_ADD = Direct(on_both(_add))
_THREE = Direct(select(login_failures).where(_C.key.in_([bindparam("a"), bindparam("b"), bindparam("c")])))
_FORGET = Direct(delete(login_failures).where(_C.key == bindparam("of_key")))
_OLD = select(_C.key).where(_C.last_at < bindparam("before", type_=_TIME)).order_by(_C.last_at).limit(ROWS)
_FORGET_OLD = delete(login_failures).where(_C.key.in_(_OLD))


class SqlLoginFailures:
    """The `FailureStore` over a `Database`. Takes a clock as every store does."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database

    def failures(self, keys: Sequence[str]) -> Deferred[Mapping[str, Failures]]:
        def find(connection: Connection) -> Mapping[str, Failures]:
            rows = _THREE.all(connection, **dict(zip("abc", keys, strict=True)))
            return {row.key: Failures(row.failures, row.last_at) for row in rows}

        return self._database.glance(find)

    def add_failure(self, keys: Sequence[str], now: datetime, forget: datetime) -> Deferred[None]:
        def add(connection: Connection) -> None:
            for key in sorted(keys):  # the same order for everybody: nobody waits in a circle
                _ADD.count(connection, key=key, failures=1, last_at=now, forget=forget)

        return self._database.write(add)

    def forget_failures(self, keys: Sequence[str]) -> Deferred[None]:
        def forget(connection: Connection) -> None:
            for key in sorted(keys):
                _FORGET.count(connection, of_key=key)

        return self._database.write(forget)

    def forget_old(self, now: datetime) -> Deferred[bool]:
        """Remove a batch of those that count no more; answers whether there may be more."""
        before = {"before": now - FORGET_AFTER}
        return self._database.write(lambda connection: connection.execute(_FORGET_OLD, before).rowcount == ROWS)
