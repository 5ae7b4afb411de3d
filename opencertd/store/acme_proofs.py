"""Proofs that serve further orders, in SQL; looked for in the transaction that keeps the order."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import ColumnElement, Connection, Integer, bindparam, literal_column, or_, select, update

from opencertd.acme.reuse import Reuse, candidates, with_proofs
from opencertd.acme.states import Authorization, AuthorizationStatus, Order
from opencertd.store.acme_rows import authorization_by_id
from opencertd.store.schema import acme_authorizations

_VALID: ColumnElement[str] = literal_column(
    f"'{AuthorizationStatus.VALID.value}'"
)  # written out, or the partial index would not serve
PROOFS = (
    select(acme_authorizations.c.id)
    .where(
        acme_authorizations.c.status == _VALID,
        acme_authorizations.c.account_id == bindparam("account_id"),
        acme_authorizations.c.name.in_(bindparam("names", expanding=True)),
        acme_authorizations.c.expires > bindparam("now"),
    )
    .order_by(acme_authorizations.c.expires.desc())
    .limit(bindparam("most", type_=Integer()))
)
"""Ids of an account's valid authorizations for some names, those that last longest first."""

_MOST = 200
"""Proofs that are looked at for one order."""

_DEACTIVATE = (
    update(acme_authorizations)
    .where(
        or_(acme_authorizations.c.id == bindparam("root"), acme_authorizations.c.origin == bindparam("root")),
        acme_authorizations.c.status.in_([AuthorizationStatus.PENDING, AuthorizationStatus.VALID]),
    )
    .values(status=AuthorizationStatus.DEACTIVATED)
)


def reused(connection: Connection, order: Order, reuse: Reuse) -> Order:
    """The order, with copies of proofs that the account has made where they serve."""
    names = dict.fromkeys(name for each in order.authorizations for name in candidates(each))
    asked = {
        "account_id": order.account_id,
        "names": [(name,) for name in names],
        "now": reuse.now,
        "most": _MOST,
    }
    found = [authorization_by_id(connection, proof) for proof in connection.execute(PROOFS, asked).scalars().all()]
    proofs: tuple[Authorization, ...] = tuple(proof for proof in found if proof is not None)
    return replace(order, authorizations=with_proofs(order.authorizations, proofs, reuse)) if proofs else order


def deactivate(connection: Connection, authorization: Authorization) -> None:
    """End the authorization, and with it the proof: its origin, and every copy of that."""
    connection.execute(_DEACTIVATE, {"root": authorization.origin or authorization.id})
