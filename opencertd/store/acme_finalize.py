"""How an order is begun, with the intent to issue for it, and ended, with its certificate: parts of a transaction."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection, bindparam, exists, select, update

from opencertd.acme.states import OrderStatus
from opencertd.acme.store import FINALIZE, Beginning, NotBegun
from opencertd.errors import Refusal
from opencertd.issuance.along import Along
from opencertd.store.jobs import forget, owe_leased
from opencertd.store.rate_limits import weigh
from opencertd.store.schema import acme_accounts, acme_orders, certificates
from opencertd.store.statements import Direct

_NO_ACCOUNTS_KEY = ~exists().where(acme_accounts.c.thumbprint == bindparam("key"))
_BEGIN = Direct(
    update(acme_orders)
    .where(acme_orders.c.id == bindparam("of_id"), acme_orders.c.status == OrderStatus.PENDING, _NO_ACCOUNTS_KEY)
    .values(status=OrderStatus.PROCESSING)
)
_END_OF_CERTIFICATE = (
    select(certificates.c.not_after).where(certificates.c.id == bindparam("of_certificate")).scalar_subquery()
)
_COMPLETE = Direct(
    update(acme_orders)
    .where(acme_orders.c.id == bindparam("of_id"), acme_orders.c.status == OrderStatus.PROCESSING)
    .values(status=OrderStatus.VALID, certificate_id=bindparam("of_certificate"), useful_until=_END_OF_CERTIFICATE)
)


def begin(connection: Connection, asked: Beginning) -> bool:
    """See `AcmeStore.begin_finalize`."""
    kept = {"csr_der": asked.csr_der, "renews_from": asked.renews_from}
    if not _BEGIN.count(connection, of_id=asked.order_id, **kept, key=asked.thumbprint):
        return False
    weigh(connection, asked.charges, asked.now)
    owe_leased(connection, FINALIZE, asked.order_id, owner=asked.owner, now=asked.now, lease=asked.lease)
    return True


def complete(connection: Connection, order_id: str, certificate_id: int) -> None:
    """See `AcmeStore.complete_order`."""
    if _COMPLETE.count(connection, of_id=order_id, of_certificate=certificate_id):
        forget(connection, FINALIZE, order_id)


def along(order_id: str, beginning: Beginning | None) -> Along:
    """See `AcmeStore.along`."""

    def end(connection: Connection, certificate_id: int) -> None:
        complete(connection, order_id, certificate_id)

    return Along(None if beginning is None else partial(_begin_or_stop, beginning), end)


def _begin_or_stop(beginning: Beginning, connection: Connection) -> None:
    try:
        begun = begin(connection, beginning)
    except Refusal as refusal:
        raise NotBegun(refusal) from None
    if not begun:
        raise NotBegun(None)
