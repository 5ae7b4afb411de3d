"""Jobs and their leases in SQL.

Times are kept in milliseconds: a job asked for "now" is due in the same breath. A claim is known by its owner and its
number (`attempts`), so that a worker which overslept its lease cannot settle the claim that came after, even its own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, case, delete, literal, or_, select, update
from twisted.internet.defer import Deferred

from opencertd.clock import Clock
from opencertd.jobs.store import Job
from opencertd.store.database import Database
from opencertd.store.schema import jobs
from opencertd.store.statements import insert_into

_JOB = (jobs.c.kind, jobs.c.key, jobs.c.run_at, jobs.c.generation, jobs.c.attempts, jobs.c.failures)
_NOBODY = {"lease_owner": None, "lease_until": None}

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


def owe(connection: Connection, kind: str, key: str, run_at: datetime) -> None:
    """Enqueue within somebody else's transaction: the job is owed if and only if the deed is done."""
    insert = insert_into(connection, jobs).values(
        kind=kind, key=key, run_at=run_at, generation=1, attempts=0, failures=0
    )
    asked = insert.excluded.run_at
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[jobs.c.kind, jobs.c.key],
            set_={
                "generation": jobs.c.generation + 1,
                "run_at": case((asked < jobs.c.run_at, asked), else_=jobs.c.run_at),
            },
        )
    )


def owe_leased(connection: Connection, kind: str, key: str, *, owner: str, now: datetime, lease: timedelta) -> None:
    """Owe a job that `owner` is doing already: others may claim it when `lease` has passed and it is owed still."""
    held = {"lease_owner": owner, "lease_until": now + lease}
    insert = insert_into(connection, jobs).values(
        kind=kind, key=key, run_at=now, generation=1, attempts=1, failures=0, **held
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[jobs.c.kind, jobs.c.key],
            set_={"generation": jobs.c.generation + 1, "attempts": jobs.c.attempts + 1, **held},
        )
    )


def forget(connection: Connection, kind: str, key: str) -> None:
    """The deed is done, whoever held its job."""
    connection.execute(delete(jobs).where(jobs.c.kind == kind, jobs.c.key == key))


class SqlJobStore:
    """The `JobStore` over a `Database`. Takes a clock as every `Sql…Store` does; its times come with the questions."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database

    def enqueue(self, kind: str, key: str, run_at: datetime) -> Deferred[None]:
        return self._database.write(lambda connection: owe(connection, kind, key, run_at))

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
            mine = _held(job, owner)
            connection.execute(delete(jobs).where(mine, jobs.c.generation == job.generation))
            connection.execute(update(jobs).where(mine).values(failures=0, **_NOBODY))

        return self._database.write(finish)

    def postpone(self, job: Job, owner: str, run_at: datetime, *, failed: bool = False) -> Deferred[None]:
        def postpone(connection: Connection) -> None:
            asked_again = jobs.c.generation != job.generation
            earlier = and_(asked_again, jobs.c.run_at < run_at)
            connection.execute(
                update(jobs)
                .where(_held(job, owner))
                .values(
                    run_at=case((earlier, jobs.c.run_at), else_=literal(run_at, jobs.c.run_at.type)),
                    failures=job.failures + 1 if failed else 0,
                    **_NOBODY,
                )
            )

        return self._database.write(postpone)

    def release(self, owner: str) -> Deferred[None]:
        def release(connection: Connection) -> None:
            connection.execute(update(jobs).where(jobs.c.lease_owner == owner).values(**_NOBODY))

        return self._database.write(release)


def _held(job: Job, owner: str) -> ColumnElement[bool]:
    return and_(
        jobs.c.kind == job.kind,
        jobs.c.key == job.key,
        jobs.c.lease_owner == owner,
        jobs.c.attempts == job.attempts,
    )


def _job(row: Row[Any]) -> Job:
    return Job(
        kind=row.kind,
        key=row.key,
        run_at=row.run_at,
        generation=row.generation,
        attempts=row.attempts,
        failures=row.failures,
    )
