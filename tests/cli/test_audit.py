"""`opencert audit verify` finds what somebody does to the database with its own tools, and `export` shows all of it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from twisted.internet.task import Clock as ReactorClock

from opencertd.audit_checkpoints import FILE_NAME, CheckpointKeeper
from opencertd.cli import main
from opencertd.clock import FixedClock, SystemClock
from opencertd.config import Settings
from opencertd.first_start import at_once, build_authority, prepare, run_now
from opencertd.issuance.issuers import load_issuers
from opencertd.jobs.store import Job
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.own_certificates import OwnCertificates
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from tests.ca import request

JOB = Job("audit-checkpoint", "chain", SystemClock().now(), 1, 1)


class Ca:
    """A CA on disk whose daemon has just stopped; its chain has a checkpoint in its middle, and one at its end."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        settings = Settings(dn="CN=Audited", state_dir=state_dir, hostname=("localhost",))
        self.clock = FixedClock(SystemClock().now())
        state = prepare(settings, self.clock)
        database = Database.open_inline(settings.database_url())
        store = SqlCertificateStore(database, self.clock)

        async def fill() -> None:
            issuers = load_issuers(await store.issuers(), state.keys, None, at_once)
            authority = build_authority(
                settings, issuers, store, clock=self.clock, reactor=ReactorClock(), owner="node/0"
            )
            self.keeper = CheckpointKeeper(
                audit=SqlAuditStore(database, self.clock),
                own=OwnCertificates(authority, state.own, None, self.clock, at_once),
                file=state.path / FILE_NAME,
                node="node",
                clock=self.clock,
                elsewhere=at_once,
                rows=3,
                period=timedelta(minutes=5),
            )
            await self.keeper.job(JOB)
            for number in range(5):
                self.clock.advance(timedelta(seconds=1))
                await authority.issue(request(names=(), transaction=None))
                if number in {2, 4}:
                    self.clock.advance(timedelta(minutes=6))
                    await self.keeper.job(JOB)

        run_now(fill())
        run_now(database.close())
        state.unlock()

    @property
    def file(self) -> Path:
        return self.state_dir / FILE_NAME

    def sql(self, *statements: str) -> None:
        with sqlite3.connect(self.state_dir / "opencertd.sqlite3") as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("audited") / "state")


@pytest.fixture
def ca(untouched: Ca, tmp_path: Path) -> Ca:
    copy = Ca.__new__(Ca)
    copy.state_dir = tmp_path / "state"
    shutil.copytree(untouched.state_dir, copy.state_dir)
    return copy


def audit(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, words)])


def verify(ca: Ca, *more: str | Path) -> Result:
    return audit("verify", "--state-dir", ca.state_dir, *more)


def test_an_untouched_log_is_said_to_be_so(ca: Ca) -> None:
    result = verify(ca)
    assert result.exit_code == 0, result.output
    assert "20 entries, all as they were written; 3 checkpoints vouch for those up to 20" in result.stderr
    assert ca.file.stat().st_mode & 0o777 == 0o600


REST = "at, deed, proof, who, label, what, result, tbs_sha256, previous, hash"

TAMPERING: dict[str, tuple[list[str], str]] = {
    "edited": (["UPDATE audit SET who = 'mallory' WHERE sequence = 16"], "entry 16: edited"),
    "time of another type": (["UPDATE audit SET at = 'yesterday' WHERE sequence = 16"], "entry 16: edited"),
    "hash of another type": (["UPDATE audit SET hash = 5 WHERE sequence = 2"], "entry 2: edited"),
    "removed": (["DELETE FROM audit WHERE sequence = 17"], "entry 17: missing: removed"),
    "removed and renumbered": (
        [
            "DELETE FROM audit WHERE sequence = 17",
            "UPDATE audit SET sequence = sequence - 1 WHERE sequence = 18",
            "UPDATE audit SET sequence = sequence - 1 WHERE sequence = 19",
            "UPDATE audit SET sequence = sequence - 1 WHERE sequence = 20",
        ],
        "entry 17: removed: what is entry 17 now was written as 18",
    ),
    "inserted": (
        [
            "UPDATE audit SET sequence = 21 WHERE sequence = 20",
            f"INSERT INTO audit SELECT 20, {REST} FROM audit WHERE sequence = 19",
        ],
        "entry 19: inserted: what is entry 20 now was written as 19",  # the two are the same
    ),
    "inserted before the first": (
        [f"INSERT INTO audit SELECT -5, {REST} FROM audit LIMIT 1"],
        "entry -5: was inserted",
    ),
    "cut off": (["DELETE FROM audit WHERE sequence > 17"], "entries 18 to 20: missing: cut off"),
    "emptied": (["DELETE FROM audit"], "entries 1 to 20: missing: cut off"),
}


@pytest.mark.parametrize("case", TAMPERING)
def test_what_was_done_is_named(ca: Ca, case: str) -> None:
    statements, words = TAMPERING[case]
    ca.sql(*statements)
    result = verify(ca)
    assert result.exit_code == 1
    assert any(line.startswith(words) for line in result.stdout.splitlines()), result.output
    assert "Traceback" not in result.output
    assert "the audit log is not as it was written" in result.stderr


def test_a_cut_end_shows_by_checkpoints_that_were_kept_and_by_what_was_signed(ca: Ca, tmp_path: Path) -> None:
    kept = tmp_path / "kept.jsonl"
    shutil.copy(ca.file, kept)
    ca.sql("DELETE FROM audit WHERE sequence > 17")
    ca.file.unlink()
    assert "entries 18 to 20: missing: cut off" in verify(ca, "--checkpoints", kept).stdout
    alone = verify(ca)
    assert alone.exit_code == 1
    assert "cannot be known without checkpoints" in alone.stderr
    lines = alone.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("the entry of certificate ") and "missing: cut off" in line for line in lines)
    ca.sql("DELETE FROM certificates WHERE id > (SELECT MAX(id) - 3 FROM certificates)")  # who goes so far is not found
    assert verify(ca).exit_code == 0


def test_a_cut_off_revocation_shows_by_what_it_did(ca: Ca) -> None:
    database = Database.open_inline(f"sqlite:///{ca.state_dir}/opencertd.sqlite3")
    store = SqlCertificateStore(database, SystemClock())

    async def revoke() -> None:
        (*_, last) = await store.inventory(0, 100)
        revocation = Revocation(SystemClock().now().replace(microsecond=0), RevocationReason.SUPERSEDED)
        await store.revoke(last.issuer_id, last.serial, revocation, Requester(Proof.OPERATOR, "eve", "eve", ANY_NAME))

    run_now(revoke())
    run_now(database.close())
    ca.file.unlink()
    assert verify(ca).exit_code == 0
    ca.sql("DELETE FROM audit WHERE deed = 'revoke'")
    result = verify(ca)
    assert result.exit_code == 1
    assert result.stdout.startswith("the entry of the revocation of ")


SPOIL: dict[str, Callable[[str], str]] = {
    "forged": lambda line: line.replace('"sequence":1', '"sequence":9'),
    "damaged": lambda line: line[:40],
    "not JSON": lambda line: "x" + line,
}


@pytest.mark.parametrize("case", SPOIL)
def test_a_bad_checkpoint_is_named_by_its_line(ca: Ca, case: str) -> None:
    first, second, *rest = ca.file.read_text().splitlines()
    ca.file.write_text("\n".join([first, SPOIL[case](second), *rest]) + "\n")
    result = verify(ca)
    assert result.exit_code == 1
    assert f"{ca.file}:2: " in result.stdout


def test_what_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    for words in (["--state-dir", tmp_path], ["--database", f"sqlite:///{tmp_path}/none.db"]):
        result = audit("verify", *words)
        assert result.exit_code == 1
        assert "there is no database" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_enough_to_check_the_chain_by_oneself(ca: Ca) -> None:
    """In a dozen lines that know nothing of this program: as docs/operating.md describes it."""
    lines = audit("export", "--state-dir", ca.state_dir).stdout.splitlines()
    previous = bytes(32)
    for number, line in enumerate(lines, 1):
        entry = json.loads(line)
        at = round(datetime.fromisoformat(entry["at"].replace("Z", "+00:00")).timestamp() * 1000)
        what = json.dumps(entry["what"], separators=(",", ":"))
        members = ["opencertd-audit-1", entry["sequence"], at, entry["deed"], entry["proof"], entry["who"]]
        members += [entry["label"], what, entry["result"], entry["tbs_sha256"]]
        assert (entry["sequence"], entry["previous"]) == (number, previous.hex())
        previous = hashlib.sha256(previous + json.dumps(members, separators=(",", ":")).encode()).digest()
        assert entry["hash"] == previous.hex()
    assert len(lines) == 20


def test_csv_and_a_span_of_time(ca: Ca) -> None:
    rows = list(csv.DictReader(io.StringIO(audit("export", "--state-dir", ca.state_dir, "--format", "csv").stdout)))
    assert [int(row["sequence"]) for row in rows] == list(range(1, 21))
    assert json.loads(rows[-1]["what"])["subject"] == "CN=device.test"
    at = rows[-1]["at"]
    since = audit("export", "--state-dir", ca.state_dir, "--since", at.replace("Z", "")).stdout.splitlines()
    until = audit("export", "--state-dir", ca.state_dir, "--until", at.replace("Z", "+00:00")).stdout.splitlines()
    assert (len(since), len(until)) == (1, 19)
    assert audit("export", "--state-dir", ca.state_dir, "--since", "lately").exit_code == 2
