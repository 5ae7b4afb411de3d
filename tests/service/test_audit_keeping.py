"""A start writes down what it was started with, without values; checkpoints are written when they are due."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from opencertd.audit_checkpoints import CheckpointKeeper, append_line, last_checkpoint
from opencertd.audit_settings import note_settings, settings_event
from opencertd.config import Settings
from opencertd.first_start import at_once
from opencertd.issuance.checkpoints import Checkpoint, SignedCheckpoint, encode_line, fault_of, parse_line
from opencertd.jobs.store import Job
from opencertd.model.audit import AuditEntry, AuditEvent, AuditHead, Deed, next_entry
from opencertd.own_certificates import OwnCertificates
from opencertd.store.audit import SqlAuditStore
from tests.ca import NOW, TestCa, make_ca

ensure = pytest_twisted.ensureDeferred

SECRET = bytes(32)
JOB = Job("audit-checkpoint", "chain", NOW, 1, 1)


def started(before: AuditEntry | None = None, secret: bytes = SECRET, **given: Any) -> AuditEntry:
    settings = Settings.model_validate({"dn": "CN=x", "state_dir": "/s", **given})
    return next_entry(AuditHead(), settings_event(settings, "node", before, secret, datetime(2026, 6, 1, tzinfo=UTC)))


def changed(entry: AuditEntry) -> list[str]:
    return list(json.loads(entry.what)["changed"])


def test_a_start_names_the_settings_that_differ_from_the_last_one() -> None:
    first = started()
    assert changed(first) == []
    assert changed(started(first)) == []
    again = started(first, port=5002, est={"body": "single"}, access={"revokers": ["CN=op"]})
    assert changed(again) == ["access.revokers", "est.body", "port"]
    assert changed(started(again)) == ["access.revokers", "est.body", "port"]
    assert json.loads(started().what)["digest"] == json.loads(first.what)["digest"]
    assert json.loads(again.what)["digest"] != json.loads(first.what)["digest"]


def test_no_value_can_be_read_or_guessed_from_it() -> None:
    with_password = started(database="postgresql://ca:hunter2@db/ca")
    assert "hunter2" not in with_password.what
    assert "CN=x" not in with_password.what
    assert changed(started(with_password, database="postgresql://ca:other@db/ca")) == []
    assert changed(started(with_password, database="postgresql://ca:hunter2@db2/ca")) == ["database"]
    mine, yours = json.loads(started().what)["keys"], json.loads(started(secret=b"\1" * 32).what)["keys"]
    assert all(mine[key] != yours[key] for key in mine)


@pytest.fixture
def ca() -> TestCa:
    return make_ca()


@pytest.fixture
def keeper(ca: TestCa, tmp_path: Path) -> CheckpointKeeper:
    return CheckpointKeeper(
        audit=SqlAuditStore(ca.database, ca.clock),
        own=OwnCertificates(ca.authority, tmp_path, None, ca.clock, at_once),
        file=tmp_path / "checkpoints",
        node="node",
        clock=ca.clock,
        elsewhere=at_once,
        rows=10,
        period=timedelta(minutes=5),
    )


async def grow(ca: TestCa, count: int) -> None:
    for _ in range(count):
        await SqlAuditStore(ca.database, ca.clock).record(
            AuditEvent(Deed.ISSUE, "password", "ann", "Ann", ca.clock.now())
        )


def written(tmp_path: Path) -> list[SignedCheckpoint]:
    return [parse_line(line) for line in (tmp_path / "checkpoints").read_bytes().splitlines()]


@ensure
async def test_checkpoints_come_by_rows_and_by_time(ca: TestCa, keeper: CheckpointKeeper, tmp_path: Path) -> None:
    assert await keeper.job(JOB) == ca.clock.now() + timedelta(seconds=10)
    assert len(written(tmp_path)) == 1
    await keeper.job(JOB)
    await grow(ca, 8)  # the certificate for checkpoints is one more
    await keeper.job(JOB)
    assert len(written(tmp_path)) == 1, "neither enough entries nor enough time"
    await grow(ca, 1)
    await keeper.job(JOB)
    assert len(written(tmp_path)) == 2, "ten entries"
    ca.clock.advance(timedelta(minutes=10))
    await keeper.job(JOB)
    assert len(written(tmp_path)) == 2, "nothing has happened since"
    await grow(ca, 1)
    await keeper.job(JOB)
    head = await SqlAuditStore(ca.database, ca.clock).head()
    last = written(tmp_path)[-1]
    assert (last.checkpoint.sequence, last.checkpoint.hash) == (head.sequence, head.hash)
    assert last_checkpoint(tmp_path / "checkpoints") == last.checkpoint
    known = [issuer.certificate for issuer in ca.issuers.all()]
    assert [fault_of(one, known) for one in written(tmp_path)] == [None] * 3
    assert (tmp_path / "checkpoints").stat().st_mode & 0o777 == 0o600


def line(sequence: int) -> bytes:
    return encode_line(SignedCheckpoint(Checkpoint(sequence, bytes(32), NOW, "node"), b"certificate", b"signature"))


TAILS: dict[str, Callable[[], tuple[bytes, int]]] = {
    "whole": lambda: (line(1) + line(2), 2),
    "cut short": lambda: (line(1) + line(2)[:-20], 1),
    "long": lambda: (line(1) * 2000 + line(2), 2),
}


@pytest.mark.parametrize("case", TAILS)
def test_a_line_cut_short_by_a_crash_hurts_no_other(case: str, tmp_path: Path) -> None:
    content, expected = TAILS[case]()
    path = tmp_path / "file"
    path.write_bytes(content)
    last = last_checkpoint(path)
    assert last is not None
    assert last.sequence == expected
    append_line(path, line(3))
    assert path.read_bytes().startswith(content)
    last = last_checkpoint(path)
    assert last is not None
    assert last.sequence == 3


def test_no_file_and_an_empty_one_have_no_checkpoint(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "none") is None
    os.close(os.open(tmp_path / "empty", os.O_CREAT))
    assert last_checkpoint(tmp_path / "empty") is None


@ensure
async def test_a_reload_is_written_down_once_though_every_worker_asks(ca: TestCa) -> None:
    audit = SqlAuditStore(ca.database, ca.clock)
    settings = Settings(dn="CN=x", state_dir=Path("/s"))
    await note_settings(settings, "node", ca.store, audit, ca.clock)
    other = settings.model_copy(update={"port": 5002})
    for _ in range(3):
        await note_settings(other, "node", ca.store, audit, ca.clock, reloaded=True)
    found = [entry for entry in await audit.page(None, 1000) if entry.deed == "settings"]
    assert [(entry.label, changed(entry)) for entry in found] == [("start", []), ("reload", ["port"])]
