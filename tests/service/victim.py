"""A worker that is killed (SIGKILL, by itself) at one step of issuing: `victim.py STATE_DIR STEP TRANSACTION`.

The steps are those of `STEPS`, in order; `none` goes through. Says the serial on a line when it has answered.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.first_start import at_once, build_authority, take_over
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.issuers import load_issuers
from opencertd.model.audit import AuditEvent
from opencertd.model.request import Transaction
from opencertd.state import StateDirectory
from opencertd.store import certificates as store_module
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from tests.ca import request

STEPS = (
    "before the intent is written",
    "after the intent is written",
    "after signing",
    "before it is stored as issued",
    "stored as issued, before its audit entry",
    "with its audit entry, before the commit",
    "after the commit, before the answer",
)


def die(*_: Any, **_more: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(target: Any, name: str) -> None:
    """Die instead of calling it."""
    setattr(target, name, die)


def after(target: Any, name: str) -> None:
    """Die when it has returned, or when the Deferred that it returned has fired."""
    real: Callable[..., Any] = getattr(target, name)

    def then_die(*given: Any, **more: Any) -> Any:
        result = real(*given, **more)
        if isinstance(result, Deferred):
            return result.addCallback(die)
        return die()

    setattr(target, name, then_die)


def at_entry(*, dies_first: bool) -> None:
    """Die when an entry is appended to the audit chain, before it is or after."""
    real = store_module.append

    def append(connection: Connection, *events: AuditEvent) -> None:
        if events and dies_first:
            die()
        real(connection, *events)
        if events:
            die()

    store_module.append = append


def doom(step: str, authority: CertificateAuthority, store: SqlCertificateStore) -> None:
    """Set the trap."""
    signer = next(issuer.signer for issuer in authority.issuers.issuing() if issuer.name == "ecdsa")
    traps: dict[str, Callable[[], None]] = dict(
        zip(
            STEPS,
            (
                partial(before, store, "reserve"),
                partial(after, store, "reserve"),
                partial(after, signer, "sign"),
                partial(before, store, "complete"),
                partial(at_entry, dies_first=True),
                partial(at_entry, dies_first=False),
                partial(after, store, "complete"),
            ),
            strict=True,
        )
    )
    if step != "none":
        traps[step]()


async def main(reactor: Any, state_dir: str, step: str, transaction: str) -> None:
    settings = Settings(dn="CN=Victim", state_dir=Path(state_dir))
    state, clock = StateDirectory(settings.state_dir), SystemClock()
    kept = take_over(settings, state, 0, clock)
    database = Database.open(settings.database_url(), reactor)
    store = SqlCertificateStore(database, clock)
    issuers = load_issuers(kept.issuers, state.keys, None, at_once)
    authority = build_authority(settings, issuers, store, clock=clock, reactor=reactor, owner=kept.owner)
    doom(step, authority, store)
    issued = await authority.issue(request(transaction=Transaction(transaction)))
    print(issued.record.serial, flush=True)
    await database.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
