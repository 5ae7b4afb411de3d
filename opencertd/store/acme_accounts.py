"""ACME accounts in SQL: one account per key, whoever asks first."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.exc import IntegrityError

from opencertd.acme.states import Account, AccountStatus
from opencertd.acme.store import AccountById, AccountByKey
from opencertd.errors import Refusal, RefusalKind
from opencertd.store.schema import acme_accounts, acme_prior_keys
from opencertd.store.statements import Direct, Part, execute, on_both

ACCOUNT = Part(acme_accounts)
"""An account, at the beginning of a row."""

_BY_ID = Direct(select(acme_accounts).where(acme_accounts.c.id == bindparam("id")))
_BY_KEY = Direct(select(acme_accounts).where(acme_accounts.c.thumbprint == bindparam("thumbprint")))
_CREATE = on_both(
    lambda insert: (
        insert(acme_accounts)
        .on_conflict_do_nothing(index_elements=[acme_accounts.c.thumbprint])
        .returning(*acme_accounts.c)
    )
)
_KEEP_KEY = on_both(
    lambda insert: insert(acme_prior_keys).on_conflict_do_update(
        index_elements=[acme_prior_keys.c.account_id, acme_prior_keys.c.thumbprint],
        set_={"used_until": insert(acme_prior_keys).excluded.used_until},
    )
)
_CHANGE_VALID = (
    update(acme_accounts)
    .where(acme_accounts.c.id == bindparam("of_id"), acme_accounts.c.status == AccountStatus.VALID)
    .returning(*acme_accounts.c)
)
MOST_PRIOR_KEYS = 1000
"""Keys that an account had, and that are remembered: nobody who changes keys for a reason comes near."""

_OLDEST_KEPT = (
    select(acme_prior_keys.c.used_until)
    .where(acme_prior_keys.c.account_id == bindparam("of_account"))
    .order_by(acme_prior_keys.c.used_until.desc())
    .offset(MOST_PRIOR_KEYS - 1)
    .limit(1)
)
_FORGET_KEYS = delete(acme_prior_keys).where(
    acme_prior_keys.c.account_id == bindparam("of_account"),
    acme_prior_keys.c.used_until < _OLDEST_KEPT.scalar_subquery(),
)
_PRIOR_KEYS = (
    select(acme_prior_keys.c.thumbprint)
    .where(acme_prior_keys.c.account_id == bindparam("account_id"))
    .order_by(acme_prior_keys.c.used_until.desc())
)
_CHANGE_KEY = _CHANGE_VALID.where(acme_accounts.c.thumbprint == bindparam("old_thumbprint"))


def find(connection: Connection, named: AccountById | AccountByKey) -> Account | None:
    """The account of that id or key."""
    if isinstance(named, AccountById):
        return find_by_id(connection, named.id)
    rows = _BY_KEY.raw(connection, thumbprint=named.thumbprint)
    return account_of(ACCOUNT.raw(rows[0])) if rows else None


def find_by_id(connection: Connection, account_id: str) -> Account | None:
    """The account of that id."""
    rows = _BY_ID.raw(connection, id=account_id)
    return account_of(ACCOUNT.raw(rows[0])) if rows else None


@lru_cache(maxsize=1024)  # an account asks again and again, and stays as it is
def account_of(raw: tuple[Any, ...]) -> Account:
    """The account that is in the row, as `ACCOUNT` cuts it out."""
    return of_row(ACCOUNT.read(raw))


def create(connection: Connection, account: Account) -> tuple[Account, bool]:
    """See `AcmeStore.create_account`."""
    values = {**vars(account), "contact": list(account.contact)}
    created = execute(connection, _CREATE, values).one_or_none()
    if created is not None:
        return of_row(created), True
    holder = find(connection, AccountByKey(account.thumbprint))
    if holder is None:  # it changed its key between the two statements
        raise Refusal(RefusalKind.UNAVAILABLE, "another request changed this account's key", retry_after=1)
    return holder, False


def change(
    connection: Connection,
    account_id: str,
    *,
    contact: tuple[str, ...] | None,
    status: AccountStatus | None,
    terms_url: str | None = None,
) -> Account:
    """See `AcmeStore.update_account`."""
    changes: dict[str, Any] = {"id": account_id}
    if contact is not None:
        changes["contact"] = list(contact)
    if status is not None:
        changes["status"] = status
    if terms_url is not None:
        changes |= {"terms_agreed": True, "terms_url": terms_url}
    changed = connection.execute(_CHANGE_VALID, {"of_id": account_id, **changes}).one_or_none()
    if changed is None:
        _check_valid(connection, account_id)
        raise Refusal(RefusalKind.UNAVAILABLE, "another request changed this account", retry_after=1)
    return of_row(changed)


def change_key(
    connection: Connection, account_id: str, old_thumbprint: str, jwk: dict[str, Any], thumbprint: str
) -> Account:
    """See `AcmeStore.change_key`. UNAUTHORIZED when the account has another key by now, or is not VALID."""
    _check_free(connection, thumbprint)
    try:
        with connection.begin_nested():
            changed = connection.execute(
                _CHANGE_KEY,
                {"of_id": account_id, "old_thumbprint": old_thumbprint, "jwk": jwk, "thumbprint": thumbprint},
            ).one_or_none()
    except IntegrityError:  # somebody took the new key since we looked
        _check_free(connection, thumbprint)
        raise Refusal(RefusalKind.CONFLICT, "another account has this key") from None
    if changed is None:
        _check_valid(connection, account_id)
        raise Refusal(RefusalKind.UNAUTHORIZED, "the old key is not this account's key any more")
    return of_row(changed)


def note_prior_key(connection: Connection, account_id: str, thumbprint: str, now: datetime) -> None:
    """The account had this key until now. Of very many the oldest are forgotten: to change keys costs little."""
    execute(connection, _KEEP_KEY, {"account_id": account_id, "thumbprint": thumbprint, "used_until": now})
    connection.execute(_FORGET_KEYS, {"of_account": account_id})


def prior_keys(connection: Connection, account_id: str) -> tuple[str, ...]:
    """See `AcmeStore.prior_keys`."""
    return tuple(connection.execute(_PRIOR_KEYS, {"account_id": account_id}).scalars())


def _check_free(connection: Connection, thumbprint: str) -> None:
    holder = find(connection, AccountByKey(thumbprint))
    if holder is not None:
        raise Refusal(RefusalKind.CONFLICT, "another account has this key", location=holder.id)


def _check_valid(connection: Connection, account_id: str) -> None:
    account = find(connection, AccountById(account_id))
    if account is None:
        raise Refusal(RefusalKind.NOT_FOUND, "there is no such account")
    if account.status is not AccountStatus.VALID:
        raise Refusal(RefusalKind.UNAUTHORIZED, f"this account is {account.status.value}")


def of_row(row: Any) -> Account:
    """The account in a row of the table, read."""
    return Account(
        id=row.id,
        status=row.status,
        jwk=row.jwk,
        thumbprint=row.thumbprint,
        contact=tuple(row.contact),
        terms_agreed=row.terms_agreed,
        created_at=row.created_at,
        terms_url=row.terms_url,
        eab_key=row.eab_key,
        binding=row.binding,
    )
