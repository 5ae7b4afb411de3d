"""Keys for external account binding in SQL. Using one up is one UPDATE, so that raced accounts never exceed it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, or_, select, update

from opencertd.acme.external_account import EabKey
from opencertd.acme.states import Account
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.audit import AuditEvent, Deed
from opencertd.model.requester import Proof
from opencertd.store.audit import append
from opencertd.store.schema import acme_eab_keys

_COLUMNS = acme_eab_keys.c
_BY_ID = select(acme_eab_keys).where(_COLUMNS.id == bindparam("id"))
_USE = (
    update(acme_eab_keys)
    .where(
        _COLUMNS.id == bindparam("of_id"),
        _COLUMNS.revoked_at.is_(None),
        or_(_COLUMNS.expires.is_(None), _COLUMNS.expires > bindparam("now")),
        or_(_COLUMNS.most_accounts.is_(None), _COLUMNS.accounts < _COLUMNS.most_accounts),
    )
    .values(accounts=_COLUMNS.accounts + 1)
)


def find(connection: Connection, key_id: str) -> EabKey | None:
    """The key of that id."""
    row = connection.execute(_BY_ID, {"id": key_id}).one_or_none()
    return None if row is None else key_of(row)


def key_of(row: Any) -> EabKey:
    """The key in a row of the table."""
    return EabKey(**{**row._mapping, "names": tuple(row.names)})


def use(connection: Connection, key_id: str, account: Account) -> None:
    """Count the account that is made in this transaction, which ends with it. Refusal UNAUTHORIZED when it may not."""
    if not connection.execute(_USE, {"of_id": key_id, "now": account.created_at}).rowcount:
        raise Refusal(RefusalKind.UNAUTHORIZED, "the external account key binds no account any more")
    what = {"change": "bind", "account": account.id, "eab_key": key_id}
    label = f"ACME account {account.id}"
    append(
        connection,
        AuditEvent(Deed.CHANGE_ACCOUNT, Proof.ACME_ACCOUNT.value, account.id, label, account.created_at, what),
    )
