"""What has outlived its use goes, a small batch a transaction: nobody who writes meanwhile waits for more than one.

Every batch finds its rows by an index on the time that they are of use to, so that it costs the same however many rows
stay; what was made at one time lies together (`AcmeServer.new_id`), so that a batch touches few pages. Certificates,
accounts and the audit chain stay for ever: they are what a CA has to answer for.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, BindParameter, Connection, Select, bindparam, delete, func, or_, select, text, tuple_
from twisted.internet.defer import Deferred

from opencertd.acme.star_store import RENEW
from opencertd.acme.states import OrderStatus
from opencertd.acme.store import FINALIZE, VALIDATE
from opencertd.store.database import Database
from opencertd.store.schema import (
    acme_authorizations,
    acme_challenges,
    acme_failures,
    acme_nonces,
    acme_orders,
    acme_renewals,
    jobs,
    rate_limits,
)
from opencertd.store.status_tables import crls

ORDERS = 50
"""Orders in a batch; each goes with all that is below it, which is some thousand rows at most."""

ROWS = 1000
"""Rows in a batch of others."""

CRLS = 10
"""CRLs in a batch: one may have megabytes."""

_BY_INDEX = text("SET LOCAL enable_seqscan = off")
"""Before statistics are there, PostgreSQL's planner would read whole tables for each batch."""

# Who is processing owes a job by which it ends, and only then goes.
_USELESS = (
    select(acme_orders.c.id)
    .where(
        acme_orders.c.useful_until < bindparam("before", type_=acme_orders.c.useful_until.type),
        acme_orders.c.expires < bindparam("before", type_=acme_orders.c.expires.type),
        acme_orders.c.status != OrderStatus.PROCESSING,
    )
    .order_by(acme_orders.c.useful_until)
    .limit(ORDERS)
    .with_for_update(skip_locked=True)
)
_AHEAD = (
    select(acme_authorizations.c.id)
    .where(
        acme_authorizations.c.order_id.is_(None),
        acme_authorizations.c.expires < bindparam("before", type_=acme_authorizations.c.expires.type),
    )
    .order_by(acme_authorizations.c.expires)
    .limit(ROWS)
)
_BATCH: BindParameter[Any] = bindparam("batch", expanding=True)
_AUTHORIZATIONS = select(acme_authorizations.c.id).where(acme_authorizations.c.order_id.in_(_BATCH))
_REMOVE_CHALLENGES = (
    delete(acme_challenges).where(acme_challenges.c.authorization_id.in_(_BATCH)).returning(acme_challenges.c.id)
)
_REMOVE_AUTHORIZATIONS = delete(acme_authorizations).where(acme_authorizations.c.id.in_(_BATCH))
_REMOVE_ORDERS = delete(acme_orders).where(acme_orders.c.id.in_(_BATCH))
_REMOVE_RENEWALS = delete(acme_renewals).where(acme_renewals.c.order_id.in_(_BATCH))
_REMOVE_JOBS = delete(jobs).where(jobs.c.kind == bindparam("of_kind"), jobs.c.key.in_(_BATCH))

_OLD_NONCES: Select[tuple[str]] = (
    # Both times are kept rounded down; only a strict comparison cannot forget a nonce that is still accepted.
    select(acme_nonces.c.nonce)
    .where(acme_nonces.c.expires < bindparam("before", type_=acme_nonces.c.expires.type))
    .order_by(acme_nonces.c.expires)
    .limit(ROWS)
)
_FORGET_NONCES = delete(acme_nonces).where(acme_nonces.c.nonce.in_(_OLD_NONCES))

_UNUSED = (
    select(rate_limits.c.name, rate_limits.c.key)
    .where(rate_limits.c.used_until < bindparam("before", type_=BigInteger))
    .order_by(rate_limits.c.used_until)
    .limit(ROWS)
)
_FORGET_LIMITS = delete(rate_limits).where(tuple_(rate_limits.c.name, rate_limits.c.key).in_(_UNUSED))
_OVER = (
    select(acme_failures.c.account_id, acme_failures.c.name)
    .where(
        acme_failures.c.last_failed_at < bindparam("before", type_=acme_failures.c.last_failed_at.type),
        or_(
            acme_failures.c.paused_at.is_(None),
            acme_failures.c.last_failed_at < bindparam("long_before", type_=acme_failures.c.last_failed_at.type),
        ),
    )
    .order_by(acme_failures.c.last_failed_at)
    .limit(ROWS)
)
_FORGET_FAILURES = delete(acme_failures).where(tuple_(acme_failures.c.account_id, acme_failures.c.name).in_(_OVER))
_NEWER = crls.alias()
_PLACE = (crls.c.issuer_id, crls.c.part, crls.c.number)
_SUCCESSORS = select(func.max(_NEWER.c.number)).where(
    _NEWER.c.issuer_id == crls.c.issuer_id,
    _NEWER.c.part == crls.c.part,
    _NEWER.c.base.is_(None) == crls.c.base.is_(None),
)
_SUPERSEDED = (
    select(*_PLACE)
    .where(
        crls.c.next_update < bindparam("before", type_=crls.c.next_update.type),
        crls.c.number < _SUCCESSORS.scalar_subquery(),
    )
    .limit(CRLS)
)
_REMOVE_CRLS = delete(crls).where(tuple_(*_PLACE).in_(_SUPERSEDED))


class SqlCleanUp:
    """Each method takes one batch away, and answers whether there may be more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def orders(self, before: datetime) -> Deferred[bool]:
        """Orders that were of use to nobody since `before`: neither they nor their certificates were valid then.

        Their authorizations and challenges go with them, and what jobs were owed for these.
        """

        def remove(connection: Connection) -> bool:
            if connection.dialect.name == "postgresql":
                connection.execute(_BY_INDEX)
            batch = list(connection.execute(_USELESS, {"before": before}).scalars())
            if batch:
                _remove_orders(connection, batch)
            return len(batch) == ORDERS

        return self._database.write(remove)

    def authorizations(self, before: datetime) -> Deferred[bool]:
        """Authorizations that belong to no order and ended before `before`, with their challenges and jobs."""

        def remove(connection: Connection) -> bool:
            if connection.dialect.name == "postgresql":
                connection.execute(_BY_INDEX)
            batch = list(connection.execute(_AHEAD, {"before": before}).scalars())
            if batch:
                _remove_authorizations(connection, batch)
            return len(batch) == ROWS

        return self._database.write(remove)

    def nonces(self, now: datetime) -> Deferred[bool]:
        """Used nonces that nobody would accept any more."""
        return self._database.write(
            lambda connection: connection.execute(_FORGET_NONCES, {"before": now}).rowcount == ROWS
        )

    def limits(self, now: datetime) -> Deferred[bool]:
        """Rows of rate limits that say nothing any more: all is left of the allowance."""
        before = {"before": int(now.timestamp() * 1000)}
        return self._database.write(lambda connection: connection.execute(_FORGET_LIMITS, before).rowcount == ROWS)

    def failures(self, before: datetime, paused_before: datetime) -> Deferred[bool]:
        """Failed validations that were the last of their account and name, of those that are paused and of others."""
        asked = {"before": before, "long_before": paused_before}
        return self._database.write(lambda connection: connection.execute(_FORGET_FAILURES, asked).rowcount == ROWS)

    def crls(self, before: datetime) -> Deferred[bool]:
        """CRLs that have a successor, and that nobody should have gone by since `before`."""
        return self._database.write(
            lambda connection: connection.execute(_REMOVE_CRLS, {"before": before}).rowcount == CRLS
        )


def _remove_orders(connection: Connection, batch: list[str]) -> None:
    _remove_authorizations(connection, list(connection.execute(_AUTHORIZATIONS, {"batch": batch}).scalars()))
    for kind in (FINALIZE, RENEW):
        connection.execute(_REMOVE_JOBS, {"of_kind": kind, "batch": batch})
    connection.execute(_REMOVE_RENEWALS, {"batch": batch})
    connection.execute(_REMOVE_ORDERS, {"batch": batch})


def _remove_authorizations(connection: Connection, batch: list[str]) -> None:
    challenges = list(connection.execute(_REMOVE_CHALLENGES, {"batch": batch}).scalars())
    connection.execute(_REMOVE_JOBS, {"of_kind": VALIDATE, "batch": challenges})
    connection.execute(_REMOVE_AUTHORIZATIONS, {"batch": batch})
