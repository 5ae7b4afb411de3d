"""Orders, authorizations and challenges between rows and values.

What a request is about is read together with its account, by one statement: its rows join account, order,
authorization and challenge, and each part is looked at where it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, FromClause, Select, bindparam, insert, literal_column, select

from opencertd.acme.states import Account, Authorization, Challenge, Order, Problem
from opencertd.acme.store import About, Begun, Download, Noun
from opencertd.model.names import AltName
from opencertd.store.acme_accounts import ACCOUNT, account_of, find_by_id
from opencertd.store.acme_renewals import renewal_json, renewal_of
from opencertd.store.schema import acme_accounts, acme_authorizations, acme_challenges, acme_orders, certificates
from opencertd.store.statements import Direct, Part, is_absent

Rows = Sequence[tuple[Any, ...]]

_ACCOUNT_ID = acme_accounts.c.id == bindparam("account_id")
_BELOW_ORDER = acme_authorizations.c.order_id == acme_orders.c.id
_BELOW_AUTHORIZATION = acme_challenges.c.authorization_id == acme_authorizations.c.id
_IN_ORDER = (acme_authorizations.c.position, acme_challenges.c.position)
_OF_CHALLENGE = (
    select(acme_challenges.c.authorization_id).where(acme_challenges.c.id == bindparam("id")).scalar_subquery()
)


def _select(*tables: FromClause) -> Select[Any]:
    return select(*(column.label(f"{table.description}_{column.name}") for table in tables for column in table.c))


class _Tree:
    """How one kind of record is read with everything below it: by an account that asks for it, or by itself.

    `tables`: from the record's own downwards, each joined to the one before by its condition in `below`.
    """

    def __init__(self, wanted: Any, tables: Sequence[FromClause], below: Sequence[Any]) -> None:
        columns = _select(acme_accounts, *tables).order_by(*_IN_ORDER)
        asked: FromClause = acme_accounts.outerjoin(tables[0], wanted)
        alone: FromClause = tables[0].join(acme_accounts, acme_accounts.c.id == tables[0].c.account_id)
        for table, condition in zip(tables[1:], below, strict=True):
            asked, alone = asked.outerjoin(table, condition), alone.outerjoin(table, condition)
        self.by_account = Direct(columns.select_from(asked).where(_ACCOUNT_ID))
        self.alone = Direct(columns.select_from(alone).where(wanted))
        self.parts: list[Part] = []
        for table in tables:
            self.parts.append(Part(table, (self.parts[-1] if self.parts else ACCOUNT).end))


_BELOW = (acme_authorizations, acme_challenges)
_AUTHORIZATION_ROW, _CHALLENGE_ROW = (Part(table) for table in _BELOW)
_ORDER = _Tree(acme_orders.c.id == bindparam("id"), (acme_orders, *_BELOW), (_BELOW_ORDER, _BELOW_AUTHORIZATION))
_AUTHORIZATION = _Tree(acme_authorizations.c.id == bindparam("id"), _BELOW, (_BELOW_AUTHORIZATION,))
_CHALLENGE = _Tree(acme_authorizations.c.id == _OF_CHALLENGE, _BELOW, (_BELOW_AUTHORIZATION,))
_DOWNLOAD = Direct(
    select(
        *acme_accounts.c,
        acme_orders.c.account_id,
        acme_orders.c.renewal,
        certificates.c.issuer_id,
        certificates.c.certificate_der,
    )
    .select_from(
        acme_accounts.outerjoin(acme_orders, acme_orders.c.id == bindparam("order_id")).outerjoin(
            certificates, certificates.c.id == acme_orders.c.certificate_id
        )
    )
    .where(_ACCOUNT_ID)
)

_HELD = (
    select(acme_authorizations.c.name, acme_authorizations.c.wildcard)
    .where(
        acme_authorizations.c.account_id == bindparam("account_id"),
        acme_authorizations.c.status == literal_column("'valid'"),  # as the index has it: it covers no parameter
        acme_authorizations.c.name.in_(bindparam("names", expanding=True)),
        acme_authorizations.c.expires > bindparam("now"),
    )
    .distinct()
)

_INSERT_ORDER = Direct(insert(acme_orders))
_INSERT_AUTHORIZATION = Direct(insert(acme_authorizations))
_INSERT_CHALLENGE = Direct(insert(acme_challenges))


def read_about(connection: Connection, account_id: str, about: About | None) -> Begun:
    """The account and the record, whoever's that is."""
    if about is None:
        return Begun(find_by_id(connection, account_id))
    if about.noun is Noun.DOWNLOAD:
        return _download(connection, account_id, about.id)
    tree = {Noun.ORDER: _ORDER, Noun.AUTHORIZATION: _AUTHORIZATION, Noun.CHALLENGE: _CHALLENGE}[about.noun]
    rows = tree.by_account.raw(connection, account_id=account_id, id=about.id)
    if not rows:
        return Begun()
    account = account_of(ACCOUNT.raw(rows[0]))
    if is_absent(tree.parts[0].raw(rows[0])):
        return Begun(account)
    if tree is _ORDER:
        return Begun(account, order=_order(rows))
    return Begun(account, authorization=next(_authorizations(rows, tree)))


def _download(connection: Connection, account_id: str, order_id: str) -> Begun:
    rows = _DOWNLOAD.raw(connection, account_id=account_id, order_id=order_id)
    if not rows:
        return Begun()
    owner_id, renewal, issuer_id, certificate_der = rows[0][ACCOUNT.end :]
    account = account_of(ACCOUNT.raw(rows[0]))
    if owner_id is None:
        return Begun(account)
    return Begun(account, download=Download(owner_id, issuer_id, certificate_der, renewal is not None))


def order_by_id(connection: Connection, order_id: str) -> Order | None:
    """The order with everything below it."""
    rows = _ORDER.alone.raw(connection, id=order_id)
    return _order(rows) if rows else None


def authorization_by_id(connection: Connection, authorization_id: str) -> Authorization | None:
    """The authorization with its challenges."""
    rows = _AUTHORIZATION.alone.raw(connection, id=authorization_id)
    return next(_authorizations(rows, _AUTHORIZATION)) if rows else None


def authorization_of_challenge(connection: Connection, challenge_id: str) -> tuple[Authorization, Account] | None:
    """The authorization that has this challenge, with all its challenges, and its account."""
    rows = _CHALLENGE.alone.raw(connection, id=challenge_id)
    return (next(_authorizations(rows, _CHALLENGE)), account_of(ACCOUNT.raw(rows[0]))) if rows else None


def authorized(
    connection: Connection, account_id: str, names: tuple[AltName, ...], now: datetime
) -> frozenset[AltName]:
    """See `AcmeStore.authorized`."""
    bases = [(AltName(name.kind, name.value.removeprefix("*.")),) for name in names]
    rows = connection.execute(_HELD, {"account_id": account_id, "names": bases, "now": now})
    held = {AltName(row.name[0].kind, f"*.{row.name[0].value}") if row.wildcard else row.name[0] for row in rows}
    return frozenset(held.intersection(names))


def insert_order(connection: Connection, order: Order) -> None:
    """Keep the order, its authorizations and their challenges, all in the order in which they are given."""
    _INSERT_ORDER.count(connection, **_order_row(order))
    insert_authorizations(connection, order.id, order.authorizations)


def insert_authorizations(
    connection: Connection, order_id: str | None, authorizations: tuple[Authorization, ...]
) -> None:
    """Keep the authorizations of that order, or of none, and their challenges."""
    rows = [_authorization_row(order_id, position, one) for position, one in enumerate(authorizations)]
    challenges = [
        _challenge_row(position, one)
        for authorization in authorizations
        for position, one in enumerate(authorization.challenges)
    ]
    _INSERT_AUTHORIZATION.many(connection, rows)
    _INSERT_CHALLENGE.many(connection, challenges)


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


def _order(rows: Rows) -> Order:
    part = _ORDER.parts[0]
    row = part.read(part.raw(rows[0]))
    return Order(
        id=row.id,
        account_id=row.account_id,
        profile=row.profile,
        names=row.names,
        status=row.status,
        expires=row.expires,
        created_at=row.created_at,
        authorizations=tuple(_authorizations(rows, _ORDER)),
        csr_der=row.csr_der,
        certificate_id=row.certificate_id,
        error=_problem(row.error),
        eab_key=row.eab_key,
        replaces=row.replaces,
        not_before=row.not_before,
        not_after=row.not_after,
        renewal=renewal_of(row.renewal),
        renews_from=row.renews_from,
    )


def _authorizations(rows: Rows, tree: _Tree) -> Iterator[Authorization]:
    part, below = tree.parts[-2:]
    for raw, group in groupby(rows, key=part.raw):
        if not is_absent(raw):
            yield _authorization(raw, tuple(map(below.raw, group)))


@lru_cache(maxsize=1024)  # each is looked at several times within seconds, and as often as not is what it was
def _authorization(raw: tuple[Any, ...], challenges: Rows) -> Authorization:
    row = _AUTHORIZATION_ROW.read(raw)
    return Authorization(
        id=row.id,
        account_id=row.account_id,
        name=row.name[0],
        wildcard=row.wildcard,
        status=row.status,
        expires=row.expires,
        challenges=tuple(_challenge(_CHALLENGE_ROW.read(kept)) for kept in challenges if not is_absent(kept)),
        subdomains=row.subdomains,
        origin=row.origin,
    )


def _challenge(row: Any) -> Challenge:
    return Challenge(
        id=row.id,
        authorization_id=row.authorization_id,
        type=row.type,
        token=row.token,
        status=row.status,
        validated_at=row.validated_at,
        error=_problem(row.error),
        attested_spki=row.attested_spki,
    )


def _order_row(order: Order) -> dict[str, Any]:
    row = {**vars(order), "error": problem_json(order.error), "useful_until": order.expires}
    row["renewal"] = renewal_json(order.renewal)
    del row["authorizations"]
    return row


def _authorization_row(order_id: str | None, position: int, authorization: Authorization) -> dict[str, Any]:
    return {
        "id": authorization.id,
        "order_id": order_id,
        "position": position,
        "account_id": authorization.account_id,
        "name": (authorization.name,),
        "wildcard": authorization.wildcard,
        "status": authorization.status,
        "expires": authorization.expires,
        "subdomains": authorization.subdomains,
        "origin": authorization.origin,
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
        "attested_spki": challenge.attested_spki,
    }
