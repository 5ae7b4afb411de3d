"""What the tests of kill -9 share: a CA, a victim that works on it in a process of its own, and what is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select
from twisted.internet.defer import Deferred

from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.first_start import prepare, run_now, take_over
from opencertd.model.audit import AuditEntry
from opencertd.model.certificates import CertificateRecord
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.schema import certificates
from tests.interop.daemon import ROOT

T = TypeVar("T")


def victims_settings(state_dir: Path) -> Settings:
    return Settings(dn="CN=Victim", state_dir=state_dir)


def start(settings: Settings) -> None:
    """All that a start does before the daemon serves."""
    state = prepare(settings, SystemClock())
    take_over(settings, state, 0, SystemClock())
    state.unlock()


def run(victim: str, state_dir: Path, step: str, name: str) -> tuple[int, str]:
    """The exit code of the victim, a module here that dies at `step`, and what it said."""
    command = [sys.executable, "-m", f"tests.service.{victim}", str(state_dir), step, name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.strip()


def ask(state_dir: Path, question: Callable[[Database], Coroutine[Deferred[Any], Any, T]]) -> T:
    """The answer of a database that is opened for this question alone: others open and close it meanwhile."""
    database = Database.open_inline(victims_settings(state_dir).database_url())
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
