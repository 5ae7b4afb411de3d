"""Orders, authorizations and challenges between rows and values."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, insert, select

from opencertd.acme.states import Authorization, Challenge, Order, Problem
from opencertd.store.schema import acme_authorizations, acme_challenges, acme_orders

_ORDER = select(acme_orders).where(acme_orders.c.id == bindparam("id"))
_AUTHORIZATIONS = (
    select(
        acme_authorizations,
        acme_challenges.c.id.label("challenge_id"),
        acme_challenges.c.type,
        acme_challenges.c.token,
        acme_challenges.c.status.label("challenge_status"),
        acme_challenges.c.validated_at,
        acme_challenges.c.error,
    )
    .outerjoin_from(
        acme_authorizations, acme_challenges, acme_challenges.c.authorization_id == acme_authorizations.c.id
    )
    .order_by(acme_authorizations.c.position, acme_challenges.c.position)
)
_INSERT_ORDER = insert(acme_orders)
_INSERT_AUTHORIZATION = insert(acme_authorizations)
_INSERT_CHALLENGE = insert(acme_challenges)
_OF_ORDER = _AUTHORIZATIONS.where(acme_authorizations.c.order_id == bindparam("id"))
_OF_CHALLENGE = _AUTHORIZATIONS.where(
    acme_authorizations.c.id
    == select(acme_challenges.c.authorization_id)
    .where(acme_challenges.c.id == bindparam("id"))
    .correlate(None)
    .scalar_subquery()
)
_BY_ID = _AUTHORIZATIONS.where(acme_authorizations.c.id == bindparam("id"))


def order_by_id(connection: Connection, order_id: str) -> Order | None:
    """The order with everything below it."""
    row = connection.execute(_ORDER, {"id": order_id}).one_or_none()
    if row is None:
        return None
    return Order(
        id=row.id,
        account_id=row.account_id,
        profile=row.profile,
        names=row.names,
        status=row.status,
        expires=row.expires,
        created_at=row.created_at,
        authorizations=_authorizations(connection, _OF_ORDER, order_id),
        csr_der=row.csr_der,
        certificate_id=row.certificate_id,
        error=_problem(row.error),
    )


def authorization_by_id(connection: Connection, authorization_id: str) -> Authorization | None:
    """The authorization with its challenges."""
    found = _authorizations(connection, _BY_ID, authorization_id)
    return found[0] if found else None


def authorization_of_challenge(connection: Connection, challenge_id: str) -> Authorization | None:
    """The authorization that has this challenge, with all its challenges."""
    found = _authorizations(connection, _OF_CHALLENGE, challenge_id)
    return found[0] if found else None


def insert_order(connection: Connection, order: Order) -> None:
    """Keep the order, its authorizations and their challenges, all in the order in which they are given."""
    connection.execute(_INSERT_ORDER, _order_row(order))
    authorizations = [_authorization_row(order.id, position, one) for position, one in enumerate(order.authorizations)]
    challenges = [
        _challenge_row(position, one)
        for authorization in order.authorizations
        for position, one in enumerate(authorization.challenges)
    ]
    if authorizations:
        connection.execute(_INSERT_AUTHORIZATION, authorizations)
    if challenges:
        connection.execute(_INSERT_CHALLENGE, challenges)


def problem_json(problem: Problem | None) -> dict[str, str] | None:
    """A problem as it is kept."""
    if problem is None:
        return None
    kept = {"type": problem.type, "detail": problem.detail}
    return kept if problem.since is None else {**kept, "since": problem.since.isoformat()}


def _problem(kept: dict[str, str] | None) -> Problem | None:
    if kept is None:
        return None
    since = kept.get("since")
    return Problem(kept["type"], kept["detail"], datetime.fromisoformat(since) if since else None)


def _authorizations(connection: Connection, query: Select[Any], key: str) -> tuple[Authorization, ...]:
    rows = connection.execute(query, {"id": key}).all()
    return tuple(_authorization(list(group)) for _, group in groupby(rows, key=lambda row: row.id))


def _authorization(rows: list[Row[Any]]) -> Authorization:
    first = rows[0]
    return Authorization(
        id=first.id,
        account_id=first.account_id,
        name=first.name[0],
        wildcard=first.wildcard,
        status=first.status,
        expires=first.expires,
        challenges=tuple(_challenge(row) for row in rows if row.challenge_id is not None),
    )


def _challenge(row: Row[Any]) -> Challenge:
    return Challenge(
        id=row.challenge_id,
        authorization_id=row.id,
        type=row.type,
        token=row.token,
        status=row.challenge_status,
        validated_at=row.validated_at,
        error=_problem(row.error),
    )


def _order_row(order: Order) -> dict[str, Any]:
    row = {**vars(order), "error": problem_json(order.error)}
    del row["authorizations"]
    return row


def _authorization_row(order_id: str, position: int, authorization: Authorization) -> dict[str, Any]:
    return {
        "id": authorization.id,
        "order_id": order_id,
        "position": position,
        "account_id": authorization.account_id,
        "name": (authorization.name,),
        "wildcard": authorization.wildcard,
        "status": authorization.status,
        "expires": authorization.expires,
    }


def _challenge_row(position: int, challenge: Challenge) -> dict[str, Any]:
    return {
        "id": challenge.id,
        "authorization_id": challenge.authorization_id,
        "position": position,
        "type": challenge.type,
        "token": challenge.token,
        "status": challenge.status,
        "validated_at": challenge.validated_at,
        "error": problem_json(challenge.error),
    }
