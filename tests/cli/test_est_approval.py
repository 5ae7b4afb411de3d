"""`opencert est pending | approve | reject` beside a CA on disk."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.first_start import prepare, run_now
from opencertd.model.approval import ApprovalRequest, ApprovalState
from opencertd.store.approvals import SqlApprovalStore
from opencertd.store.database import Database
from tests.cli.shell import opencert
from tests.store.test_approval_store import wish


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state_dir = tmp_path_factory.mktemp("ca") / "state"
    prepare(Settings(dn="CN=Approvals", state_dir=state_dir, hostname=("localhost",)), SystemClock()).unlock()
    return state_dir


class Shelf:
    """The requests of a CA on disk."""

    def __init__(self, state_dir: Path) -> None:
        self.database = Database.open_inline(f"sqlite:///{state_dir}/opencertd.sqlite3")
        self.store = SqlApprovalStore(self.database, SystemClock())

    def ask(self, number: int, **changes: Any) -> None:
        now = datetime.now(UTC).replace(microsecond=0)
        values = {"asked_at": now, "until": now + timedelta(days=7), **changes}
        run_now(_awaited(self.store.ask(dataclasses.replace(wish(number), **values), 100)))

    def all(self) -> dict[str, ApprovalRequest]:
        found = run_now(_awaited(self.store.all(0, 100)))
        return {one.id: one for _, one in found}


async def _awaited(answer: Any) -> Any:
    return await answer


@pytest.fixture
def shelf(made: Path) -> Shelf:
    return Shelf(made)


def test_what_waits_is_shown_with_all_that_a_person_needs(made: Path, shelf: Shelf) -> None:
    shelf.ask(1, subject="CN=cam\x1b[31m,O=Cameras")
    first, what, key = opencert("est", "pending", "--state-dir", made).stdout.splitlines()
    asked = shelf.all()["r1"]
    since, until = (when.strftime("%Y-%m-%dT%H:%M:%SZ") for when in (asked.asked_at, asked.until))
    assert first == f"r1  waiting  {since}  until {until}  est/cameras  password:ann (Ann)"
    assert what == "- subject CN=cam?[31m,O=Cameras  names dns:cam.example  for 12:00:00"
    assert key == f"- key EC P-256  sha256 {'ab' * 32}"


def test_a_decision_is_kept_with_who_and_why(made: Path, shelf: Shelf) -> None:
    shelf.ask(2)
    shelf.ask(3)
    said = opencert("est", "approve", "R2", "--reason", "ticket 4711", "--state-dir", made)
    assert said.exit_code == 0 and said.stderr.startswith("approved: Ann (CN=cam é)"), said.stderr
    said = opencert("est", "reject", "r3", "--reason", "not ours", "--state-dir", made)
    assert said.exit_code == 0 and said.stderr.startswith("rejected: Ann"), said.stderr
    kept = shelf.all()
    assert (kept["r2"].state, kept["r2"].reason) == (ApprovalState.APPROVED, "ticket 4711")
    assert (kept["r3"].state, kept["r3"].reason) == (ApprovalState.REJECTED, "not ours")
    for one in (kept["r2"], kept["r3"]):
        assert (one.decided_by or "").startswith("operator:")
        assert timedelta(days=6) < one.until - datetime.now(UTC) <= timedelta(days=7)
    listed = opencert("est", "pending", "--state-dir", made).stdout
    assert "r2 " not in listed and "r3 " not in listed
    everything = opencert("est", "pending", "--all", "--state-dir", made).stdout
    assert "r2  approved" in everything and "r3  rejected" in everything and "not ours" in everything


def test_what_cannot_be_decided_is_said_in_one_line(made: Path, shelf: Shelf) -> None:
    shelf.ask(4)
    opencert("est", "approve", "r4", "--state-dir", made)
    for request_id, words in (("r4", "was approved by operator:"), ("r99", "there is no request 'r99'")):
        said = opencert("est", "reject", request_id, "--reason", "no", "--state-dir", made)
        assert said.exit_code == 1 and words in said.stderr
    gone = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    shelf.ask(5, asked_at=gone - timedelta(days=7), until=gone)
    said = opencert("est", "approve", "r5", "--state-dir", made)
    assert said.exit_code == 1 and "has expired" in said.stderr


def test_a_rejection_needs_a_reason_that_can_be_told(made: Path) -> None:
    assert opencert("est", "reject", "r1", "--state-dir", made).exit_code == 2
    for reason in ("x" * 501, "two\nlines"):
        assert opencert("est", "reject", "r1", "--reason", reason, "--state-dir", made).exit_code == 2


def test_no_ca_is_made_where_there_is_none(tmp_path: Path) -> None:
    said = opencert("est", "pending", "--state-dir", tmp_path / "nothing")
    assert said.exit_code == 1 and "there is no state directory" in said.stderr
