"""A worker that is killed (SIGKILL, by itself) while it issues what was approved.

`approved_victim.py STATE_DIR STEP NUMBER`: the steps are those of `STEPS`; `none` goes through. NUMBER tells requests
apart; each has a key that is the same whenever it is asked. Says on a line the serial, or the word `pending`.
"""

from __future__ import annotations

import secrets
import sys
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.task import react

from opencertd.asn1.dn import parse_dn
from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import at_once, build_authority, take_over
from opencertd.issuance.approvals import Approvals
from opencertd.issuance.enrolment import RETRY_WINDOW
from opencertd.issuance.issuers import load_issuers
from opencertd.model.request import IssuanceRequest, IssuingProtocol, Transaction
from opencertd.state import StateDirectory
from opencertd.store.approvals import SqlApprovalStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from tests.ca import dns, request
from tests.service import victim

SPENDING = ("before the approval is spent", "after the approval is spent")
STEPS = ("after the intent is written", "after signing", "after the commit, before the answer", *SPENDING)


def settings(state_dir: Path) -> Settings:
    return Settings.model_validate(
        {"dn": "CN=Victim", "state_dir": state_dir, "profiles": {"default": {"approval": "person"}}}
    )


def wish(number: int) -> IssuanceRequest:
    """The same as before, but for its transaction, as a CSR that is not byte for byte the same has it."""
    return request(
        key=ec.derive_private_key(1000 + number, ec.SECP256R1()),
        subject=parse_dn(f"CN=cam-{number}"),
        names=dns(f"cam-{number}.test"),
        protocol=IssuingProtocol.EST,
        transaction=Transaction(secrets.token_hex(8), RETRY_WINDOW),
    )


async def main(reactor: Any, state_dir: str, step: str, number: str) -> None:
    given = settings(Path(state_dir))
    state, clock = StateDirectory(given.state_dir), SystemClock()
    kept = take_over(given, state, 0, clock)
    database = Database.open(given.database_url(), reactor)
    store, desk = SqlCertificateStore(database, clock), SqlApprovalStore(database, clock)
    authority = build_authority(
        given,
        load_issuers(kept.issuers, state.keys, None, at_once),
        store,
        clock=clock,
        reactor=reactor,
        owner=kept.owner,
        approvals=Approvals(desk, clock=clock, reactor=reactor, random=secrets.token_bytes),
    )
    spending = dict(zip(SPENDING, (victim.before, victim.after), strict=True))
    trap = partial(spending[step], desk, "spend") if step in spending else partial(victim.doom, step, authority, store)
    trap()
    try:
        issued = await authority.issue(wish(int(number)))
    except Refusal as refusal:
        if refusal.kind is not RefusalKind.PENDING:
            raise
        print("pending", flush=True)
    else:
        print(issued.record.serial, flush=True)
    await database.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
