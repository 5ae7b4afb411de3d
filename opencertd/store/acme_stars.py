"""Orders whose certificates renew themselves, in SQL; see `acme` for how changes of state are made."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import and_, bindparam, delete, exists, or_, select, update
from sqlalchemy.engine import Connection
from twisted.internet.defer import Deferred

from opencertd.acme.star_store import RENEW, Canceling, Published
from opencertd.acme.states import OrderStatus, Problem
from opencertd.acme.store import FINALIZE
from opencertd.clock import Clock
from opencertd.store.acme_renewals import renewal_of
from opencertd.store.acme_rows import problem_json
from opencertd.store.database import Database
from opencertd.store.jobs import forget, owe
from opencertd.store.schema import acme_accounts, acme_orders, acme_renewals, certificates, jobs
from opencertd.store.statements import Direct, on_both

_KEEP = Direct(on_both(lambda insert: insert(acme_renewals).on_conflict_do_nothing().returning(acme_renewals.c.number)))
_NEWER = exists().where(acme_renewals.c.order_id == bindparam("of_id"), acme_renewals.c.number > bindparam("place"))
_IN_STATE = and_(
    acme_orders.c.id == bindparam("of_id"),
    acme_orders.c.status == bindparam("start"),
    acme_orders.c.renewal.isnot(None),
)
_PUBLISH = Direct(update(acme_orders).where(_IN_STATE, ~_NEWER))
_LAST_END = (
    select(certificates.c.not_after)
    .where(certificates.c.id == acme_orders.c.certificate_id)
    .correlate(acme_orders)
    .scalar_subquery()
)
_LEAVE = Direct(update(acme_orders).where(_IN_STATE).values(expires=_LAST_END, useful_until=_LAST_END))
_OF_ORDER = and_(jobs.c.kind == RENEW, jobs.c.key == bindparam("of_id"))
_TAKE_JOB = Direct(
    delete(jobs).where(_OF_ORDER, or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= bindparam("now")))
)
_JOB = Direct(select(jobs.c.id).where(_OF_ORDER))
_PUBLISHED = Direct(
    select(
        acme_accounts.c.status.label("account_status"),
        acme_orders.c.status.label("order_status"),
        acme_orders.c.renewal,
        acme_orders.c.renews_from,
        acme_renewals.c.number,
        certificates.c.issuer_id,
        certificates.c.certificate_der,
        certificates.c.not_before,
        certificates.c.not_after,
    )
    .select_from(
        acme_orders.join(acme_accounts, acme_accounts.c.id == acme_orders.c.account_id)
        .outerjoin(certificates, certificates.c.id == acme_orders.c.certificate_id)
        .outerjoin(acme_renewals, acme_renewals.c.certificate_id == acme_orders.c.certificate_id)
    )
    .where(acme_orders.c.id == bindparam("of_id"))
)
_OF_SERIES = Direct(select(acme_renewals.c.number).where(acme_renewals.c.certificate_id == bindparam("of_certificate")))


class SqlStarStore:
    """The `StarStore` over a `Database`. Takes a clock as every store does."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database

    def publish(
        self, order_id: str, certificate_id: int, number: int, end: datetime, next_at: datetime | None
    ) -> Deferred[bool]:
        def publish(connection: Connection) -> bool:
            # Kept whatever became of the order: it says what the certificate is.
            _KEEP.first(connection, order_id=order_id, number=number, certificate_id=certificate_id)
            made = {"certificate_id": certificate_id, "status": OrderStatus.VALID, "expires": end, "useful_until": end}
            which = {"of_id": order_id, "place": number}
            if _PUBLISH.count(connection, **which, **made, start=OrderStatus.PROCESSING):
                forget(connection, FINALIZE, order_id)
                if next_at is not None:
                    owe(connection, RENEW, order_id, next_at)
                return True
            return _PUBLISH.count(connection, **which, **made, start=OrderStatus.VALID) > 0

        return self._database.write(publish)

    def give_up(self, order_id: str, problem: Problem) -> Deferred[None]:
        def give_up(connection: Connection) -> None:
            left = {"status": OrderStatus.INVALID, "error": problem_json(problem)}
            _LEAVE.count(connection, of_id=order_id, start=OrderStatus.VALID, **left)

        return self._database.write(give_up)

    def cancel(self, order_id: str, now: datetime) -> Deferred[Canceling]:
        def cancel(connection: Connection) -> Canceling:
            if not _TAKE_JOB.count(connection, of_id=order_id, now=now) and _JOB.first(connection, of_id=order_id):
                return Canceling.BUSY
            left = {"start": OrderStatus.VALID, "status": OrderStatus.CANCELED}
            done = _LEAVE.count(connection, of_id=order_id, **left)
            return Canceling.DONE if done else Canceling.NOT_VALID

        return self._database.write(cancel)

    def published(self, order_id: str) -> Deferred[Published | None]:
        def published(connection: Connection) -> Published | None:
            row = _PUBLISHED.first(connection, of_id=order_id)
            renewal = None if row is None else renewal_of(row.renewal)
            return None if renewal is None else Published(**{**row._asdict(), "renewal": renewal})

        return self._database.glance(published)

    def is_of_series(self, certificate_id: int) -> Deferred[bool]:
        return self._database.glance(
            lambda connection: _OF_SERIES.first(connection, of_certificate=certificate_id) is not None
        )
