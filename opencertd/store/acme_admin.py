"""What an operator does to ACME accounts and external account keys: each deed with its audit entry, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.exc import IntegrityError
from twisted.internet.defer import Deferred

from opencertd.acme.external_account import EabKey
from opencertd.acme.pausing import Failures
from opencertd.acme.states import Account, AccountStatus
from opencertd.clock import Clock
from opencertd.errors import StartError
from opencertd.model.audit import AuditEvent, Deed
from opencertd.model.names import AltName
from opencertd.model.requester import Requester
from opencertd.store import acme_eab, acme_pauses
from opencertd.store.acme_accounts import find_by_id, of_row
from opencertd.store.audit import append
from opencertd.store.database import Database
from opencertd.store.schema import acme_accounts, acme_eab_keys, acme_orders

_ALL = select(acme_accounts).order_by(acme_accounts.c.created_at, acme_accounts.c.id).limit(bindparam("most"))
_AFTER = _ALL.where(
    (acme_accounts.c.created_at > bindparam("at", type_=acme_accounts.c.created_at.type))
    | ((acme_accounts.c.created_at == bindparam("at")) & (acme_accounts.c.id > bindparam("after")))
)
_MOVE = update(acme_accounts).where(
    acme_accounts.c.id == bindparam("of_id"), acme_accounts.c.status == bindparam("start")
)
_OF_KEY = select(acme_accounts.c.id).where(
    acme_accounts.c.eab_key == bindparam("key"), acme_accounts.c.status == AccountStatus.VALID
)
_ORDERS = select(func.count()).where(acme_orders.c.account_id == bindparam("account_id"))

_DEEDS = {
    "block": ((AccountStatus.VALID,), AccountStatus.REVOKED),
    "unblock": ((AccountStatus.REVOKED,), AccountStatus.VALID),
    "deactivate": ((AccountStatus.VALID, AccountStatus.REVOKED), AccountStatus.DEACTIVATED),
}


class SqlAcmeAdmin:
    """`by`: who works on the CA's machine."""

    def __init__(self, database: Database, clock: Clock, by: Requester) -> None:
        self._database = database
        self._clock = clock
        self._by = by

    def accounts(self, after: Account | None, limit: int) -> Deferred[tuple[Account, ...]]:
        """At most `limit` accounts, oldest first, those after that one."""

        def read(connection: Connection) -> tuple[Account, ...]:
            asked: dict[str, Any] = {"most": limit}
            if after is not None:
                asked |= {"after": after.id, "at": after.created_at}
            return tuple(map(of_row, connection.execute(_ALL if after is None else _AFTER, asked)))

        return self._database.read(read)

    def account(self, account_id: str) -> Deferred[tuple[Account, int]]:
        """The account, and how many orders of it there are. Raises StartError when there is no such account."""

        def read(connection: Connection) -> tuple[Account, int]:
            account = _present(connection, account_id)
            return account, connection.execute(_ORDERS, {"account_id": account_id}).scalar_one()

        return self._database.read(read)

    def change(self, account_id: str, deed: str) -> Deferred[bool]:
        """`block`, `unblock` or `deactivate` the account; False when that was done before. Raises StartError."""

        def change(connection: Connection) -> bool:
            starts, end = _DEEDS[deed]
            account = _present(connection, account_id)
            if account.status is end:
                return False
            if account.status not in starts:
                raise StartError(f"the account {account_id} is {account.status.value}: it cannot be changed to that")
            self._move(connection, account_id, account.status, end)
            append(connection, self._event(Deed.CHANGE_ACCOUNT, {"change": deed, "account": account_id}))
            return True

        return self._database.write(change)

    def paused(self, account_id: str | None, after: Failures | None, limit: int) -> Deferred[tuple[Failures, ...]]:
        """At most `limit` accounts and names that are paused, those after that one; of the account, if given."""
        return self._database.read(lambda connection: acme_pauses.page(connection, account_id, after, limit))

    def resume(
        self, account_id: str | None, names: Sequence[AltName] | None
    ) -> Deferred[tuple[tuple[str, AltName], ...]]:
        """Let the account (None: every one) have orders for the names (None: all) again; answers what was paused."""

        def resume(connection: Connection) -> tuple[tuple[str, AltName], ...]:
            resumed = acme_pauses.resume(connection, account_id, names)
            of_account: dict[str, list[str]] = {}
            for account, name in resumed:
                of_account.setdefault(account, []).append(str(name))
            events = ({"change": "resume", "account": one, "names": of} for one, of in of_account.items())
            append(connection, *(self._event(Deed.CHANGE_ACCOUNT, what) for what in events))
            return resumed

        return self._database.write(resume)

    def add_key(self, key: EabKey) -> Deferred[None]:
        """Keep a new external account key. Raises StartError when there is one of that id."""

        def add(connection: Connection) -> None:
            values = {**vars(key), "names": list(key.names)}
            try:
                with connection.begin_nested():
                    connection.execute(acme_eab_keys.insert(), values)
            except IntegrityError:
                raise StartError(f"there is a key {key.id} already, or was: give another id") from None
            what = {"change": "add", "eab_key": key.id, "profile": key.profile, "names": list(key.names)}
            append(connection, self._event(Deed.CHANGE_EAB_KEY, what))

        return self._database.write(add)

    def keys(self) -> Deferred[tuple[EabKey, ...]]:
        """All external account keys, oldest first."""
        query = select(acme_eab_keys).order_by(acme_eab_keys.c.created_at, acme_eab_keys.c.id)
        return self._database.read(lambda connection: tuple(map(acme_eab.key_of, connection.execute(query))))

    def revoke_key(self, key_id: str, *, accounts_too: bool) -> Deferred[tuple[str, ...]]:
        """The key binds no more accounts; answers the accounts that were blocked with it. Raises StartError."""

        def revoke(connection: Connection) -> tuple[str, ...]:
            key = acme_eab.find(connection, key_id)
            if key is None:
                raise StartError(f"there is no external account key {key_id}")
            blocked: tuple[str, ...] = ()
            if accounts_too:
                blocked = tuple(connection.execute(_OF_KEY, {"key": key_id}).scalars())
                for account_id in blocked:
                    self._move(connection, account_id, AccountStatus.VALID, AccountStatus.REVOKED)
            if key.revoked_at is None:
                query = acme_eab_keys.update().where(acme_eab_keys.c.id == key_id)
                connection.execute(query.values(revoked_at=self._now()))
            if key.revoked_at is None or blocked:
                what = {"change": "revoke", "eab_key": key_id, "blocked": list(blocked)}
                append(connection, self._event(Deed.CHANGE_EAB_KEY, what))
            return blocked

        return self._database.write(revoke)

    def _move(self, connection: Connection, account_id: str, start: AccountStatus, end: AccountStatus) -> None:
        moved = connection.execute(_MOVE.values(status=end), {"of_id": account_id, "start": start})
        if not moved.rowcount:
            raise StartError(f"the account {account_id} was changed at the same moment: look at it and try again")

    def _now(self) -> datetime:
        return self._clock.now()

    def _event(self, deed: Deed, what: dict[str, Any]) -> AuditEvent:
        by = self._by
        return AuditEvent(deed, by.proof.value, by.id, by.label, self._now(), what)


def _present(connection: Connection, account_id: str) -> Account:
    account = find_by_id(connection, account_id)
    if account is None:
        raise StartError(f"there is no ACME account {account_id[:80]}")
    return account
