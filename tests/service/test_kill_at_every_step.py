"""kill -9 at every step of issuing: the next start reconciles, nobody was given what is not stored, nothing is doubled.

Run over every step there is between the request and the answer; the daemon's own start (`prepare`, `take_over`) is what
reconciles.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import select
from twisted.internet.defer import Deferred

from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.first_start import prepare, run_now, take_over
from opencertd.model.audit import AuditEntry
from opencertd.model.certificates import CertificateRecord, CertificateState
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.schema import certificates
from tests.interop.daemon import ROOT
from tests.issuance.chains import findings
from tests.service.victim import STEPS

COMMITTED = STEPS[-1:]
T = TypeVar("T")


def settings(state_dir: Path) -> Settings:
    return Settings(dn="CN=Victim", state_dir=state_dir)


def start(state_dir: Path) -> None:
    """All that a start does before the daemon serves."""
    state = prepare(settings(state_dir), SystemClock())
    take_over(settings(state_dir), state, 0, SystemClock())
    state.unlock()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One CA for all: its keys take long to make."""
    state_dir = tmp_path_factory.mktemp("victim") / "state"
    start(state_dir)
    return state_dir


def issue(state_dir: Path, step: str, transaction: str) -> tuple[int, str]:
    """The exit code of the victim, and what it said."""
    command = [sys.executable, "-m", "tests.service.victim", str(state_dir), step, transaction]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.strip()


def ask(state_dir: Path, question: Callable[[Database], Coroutine[Deferred[Any], Any, T]]) -> T:
    """The answer of a database that is opened for this question alone: others open and close it meanwhile."""
    database = Database.open_inline(settings(state_dir).database_url())
    try:
        return run_now(question(database))
    finally:
        run_now(database.close())


def records(state_dir: Path, known: frozenset[int] = frozenset()) -> dict[int, CertificateRecord]:
    """Records by their ids, in whatever state, but for those `known`."""

    async def read(database: Database) -> dict[int, CertificateRecord]:
        store = SqlCertificateStore(database, SystemClock())
        ids = await database.read(lambda c: list(c.execute(select(certificates.c.id)).scalars()))
        found = {n: await store.by_id(n) for n in ids if n not in known}
        return {n: record for n, record in found.items() if record is not None}

    return ask(state_dir, read)


def audit(state_dir: Path) -> tuple[AuditEntry, ...]:
    async def read(database: Database) -> tuple[AuditEntry, ...]:
        return await SqlAuditStore(database, SystemClock()).page(None, 10_000)

    return ask(state_dir, read)


def deeds(entries: tuple[AuditEntry, ...], serial: int) -> list[str]:
    return [entry.deed for entry in entries if json.loads(entry.what).get("serial") == f"{serial:x}"]


@pytest.mark.parametrize("step", STEPS)
def test_the_next_start_reconciles(step: str, made: Path) -> None:
    known = frozenset(records(made))
    code, said = issue(made, step, step)
    assert (code, said) == (-signal.SIGKILL, ""), "nobody was answered"
    left = list(records(made, known).values())
    expected = CertificateState.ISSUED if step in COMMITTED else CertificateState.INTENDED
    assert [record.state for record in left] == ([] if step == STEPS[0] else [expected])

    start(made)
    reconciled = list(records(made, known).values())
    done = CertificateState.ISSUED if step in COMMITTED else CertificateState.ABANDONED
    assert reconciled == [dataclasses.replace(record, state=done) for record in left]
    for record in reconciled:
        # Of what was abandoned the key may have been used: that is on record too.
        assert deeds(audit(made), record.serial) == (["issue"] if step in COMMITTED else ["abandon"])
    assert findings(audit(made)) == []

    code, said = issue(made, "none", step)  # the client asks again
    assert code == 0
    issued = [r.serial for r in records(made, known).values() if r.state is CertificateState.ISSUED]
    assert issued == [int(said)], "one certificate for the transaction"
    assert (int(said) in {record.serial for record in left}) == (step in COMMITTED)
    assert deeds(audit(made), int(said)) == ["issue"]
    assert findings(audit(made)) == []
