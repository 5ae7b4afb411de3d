"""Jobs and their leases in SQL.

Times are kept in milliseconds: a job asked for "now" is due in the same breath. A claim is known by its owner and its
number (`attempts`), so that a worker which overslept its lease cannot settle the claim that came after, even its own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Executable, and_, bindparam, case, delete, or_, select, update
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.jobs.store import Job
from opencertd.store.database import Database
from opencertd.store.schema import jobs
from opencertd.store.statements import Direct, InsertInto, on_both

_JOB = (jobs.c.kind, jobs.c.key, jobs.c.run_at, jobs.c.generation, jobs.c.attempts, jobs.c.failures)
_PLACE = [jobs.c.kind, jobs.c.key]
_NOBODY = {"lease_owner": None, "lease_until": None}
_GENERATION = bindparam("of_generation", type_=jobs.c.generation.type)
_LATER = bindparam("later", type_=jobs.c.run_at.type)


def _owe(insert: InsertInto) -> Executable:
    fresh = insert(jobs).values(generation=1, attempts=0, failures=0)
    asked = fresh.excluded.run_at
    return fresh.on_conflict_do_update(
        index_elements=_PLACE,
        set_={
            "generation": jobs.c.generation + 1,
            "run_at": case((asked < jobs.c.run_at, asked), else_=jobs.c.run_at),
        },
    ).returning(*_JOB)


def _owe_leased(insert: InsertInto) -> Executable:
    fresh = insert(jobs).values(generation=1, attempts=1, failures=0)
    return fresh.on_conflict_do_update(
        index_elements=_PLACE,
        set_={
            "generation": jobs.c.generation + 1,
            "attempts": jobs.c.attempts + 1,
            "lease_owner": fresh.excluded.lease_owner,
            "lease_until": fresh.excluded.lease_until,
        },
    ).returning(*_JOB)


_OWE = Direct(on_both(_owe))
_OWE_LEASED = Direct(on_both(_owe_leased))
_FORGET = Direct(delete(jobs).where(jobs.c.kind == bindparam("of_kind"), jobs.c.key == bindparam("of_key")))
_DUE = (
    select(jobs.c.id)
    .where(
        jobs.c.kind.in_(bindparam("kinds", expanding=True)),
        jobs.c.run_at <= bindparam("now"),
        or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= bindparam("now")),
    )
    .order_by(jobs.c.run_at, jobs.c.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)  # PostgreSQL; in SQLite nobody else is writing
)
_CLAIM = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
    .values(lease_owner=bindparam("owner"), lease_until=bindparam("until"), attempts=jobs.c.attempts + 1)
    .returning(jobs.c.id, *_JOB)
)
_HELD = and_(
    jobs.c.kind == bindparam("of_kind"),
    jobs.c.key == bindparam("of_key"),
    jobs.c.lease_owner == bindparam("owner"),
    jobs.c.attempts == bindparam("attempt"),
)
_FINISH = delete(jobs).where(_HELD, jobs.c.generation == _GENERATION)
_GIVE_UP = update(jobs).where(_HELD).values(failures=0, **_NOBODY)
_POSTPONE = (
    update(jobs)
    .where(_HELD)
    .values(
        run_at=case((and_(jobs.c.generation != _GENERATION, jobs.c.run_at < _LATER), jobs.c.run_at), else_=_LATER),
        failures=bindparam("failed"),
        **_NOBODY,
    )
)
_RELEASE = update(jobs).where(jobs.c.lease_owner == bindparam("owner")).values(**_NOBODY)


def owe(connection: Connection, kind: str, key: str, run_at: datetime) -> Job:
    """Enqueue within somebody else's transaction: the job is owed if and only if the deed is done."""
    return _job(_OWE.first(connection, kind=kind, key=key, run_at=run_at))


def owe_leased(connection: Connection, kind: str, key: str, *, owner: str, now: datetime, lease: timedelta) -> Job:
    """Owe a job that `owner` is doing already: others may claim it when `lease` has passed and it is owed still."""
    held = {"lease_owner": owner, "lease_until": now + lease}
    return _job(_OWE_LEASED.first(connection, kind=kind, key=key, run_at=now, **held))


def forget(connection: Connection, kind: str, key: str) -> None:
    """The deed is done, whoever held its job."""
    _FORGET.count(connection, of_kind=kind, of_key=key)


class SqlJobStore:
    """The `JobStore` over a `Database`. Takes a clock as every `Sql…Store` does; its times come with the questions."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database

    def enqueue(self, kind: str, key: str, run_at: datetime) -> Deferred[None]:
        def enqueue(connection: Connection) -> None:
            owe(connection, kind, key, run_at)

        return self._database.write(enqueue)

    def claim(
        self, kinds: tuple[str, ...], owner: str, now: datetime, lease: timedelta, limit: int
    ) -> Deferred[tuple[Job, ...]]:
        def claim(connection: Connection) -> tuple[Job, ...]:
            due = {"kinds": list(kinds), "now": now, "most": limit}
            ids = list(connection.execute(_DUE, due).scalars())
            if not ids:
                return ()
            held = {"ids": ids, "owner": owner, "until": now + lease}
            rows = sorted(connection.execute(_CLAIM, held), key=lambda row: (row.run_at, row.id))
            return tuple(_job(row) for row in rows)

        return self._database.write(claim)

    def finish(self, job: Job, owner: str) -> Deferred[None]:
        def finish(connection: Connection) -> None:
            finished = connection.execute(_FINISH, {**_held(job, owner), "of_generation": job.generation})
            if not finished.rowcount:
                connection.execute(_GIVE_UP, _held(job, owner))

        return self._database.write(finish)

    def postpone(self, job: Job, owner: str, run_at: datetime, *, failed: bool = False) -> Deferred[None]:
        values = {
            **_held(job, owner),
            "of_generation": job.generation,
            "later": run_at,
            "failed": job.failures + 1 if failed else 0,
        }
        return self._database.write(lambda connection: connection.execute(_POSTPONE, values).close())

    def release(self, owner: str) -> Deferred[None]:
        return self._database.write(lambda connection: connection.execute(_RELEASE, {"owner": owner}).close())


def _held(job: Job, owner: str) -> dict[str, Any]:
    return {"of_kind": job.kind, "of_key": job.key, "owner": owner, "attempt": job.attempts}


def _job(row: Any) -> Job:
    return Job(
        kind=row.kind,
        key=row.key,
        run_at=row.run_at,
        generation=row.generation,
        attempts=row.attempts,
        failures=row.failures,
    )
