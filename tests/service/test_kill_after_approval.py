"""kill -9 on the way from approval to certificate: no person is asked twice, and one approval gives one certificate."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opencertd.clock import SystemClock
from opencertd.first_start import prepare, take_over
from opencertd.model.approval import ApprovalRequest, ApprovalState, Decision
from opencertd.model.certificates import CertificateState
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.approvals import SqlApprovalStore
from opencertd.store.database import Database
from tests.interop.daemon import ROOT
from tests.issuance.chains import findings
from tests.service.approved_victim import STEPS, settings
from tests.service.killing import ask, audit, records

OPERATOR = Requester(Proof.OPERATOR, "root", "root", ANY_NAME)


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


def come(state_dir: Path, step: str, number: int) -> tuple[int, str]:
    """The exit code of the victim, and what it said."""
    command = [sys.executable, "-m", "tests.service.approved_victim", str(state_dir), step, str(number)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.strip()


def approve(state_dir: Path) -> None:
    """The one that waits."""

    async def deed(database: Database) -> None:
        store = SqlApprovalStore(database, SystemClock())
        ((_, waiting),) = await store.waiting(0, 10)
        await store.decide(waiting.id, Decision(approved=True), OPERATOR, datetime.now(UTC) + timedelta(days=7))

    ask(state_dir, deed)


def requests(state_dir: Path, name: str) -> list[ApprovalRequest]:
    async def deed(database: Database) -> list[ApprovalRequest]:
        return [one for _, one in await SqlApprovalStore(database, SystemClock()).all(0, 100)]

    return [one for one in ask(state_dir, deed) if one.subject == f"CN={name}"]


@pytest.mark.parametrize(("number", "step"), list(enumerate(STEPS)), ids=STEPS)
def test_who_comes_again_gets_the_one_certificate(number: int, step: str, made: Path) -> None:
    name = f"cam-{number}"
    assert come(made, "none", number) == (0, "pending")
    approve(made)
    assert come(made, step, number) == (-signal.SIGKILL, ""), "nobody was answered"
    start(made)
    said = {come(made, "none", number) for _ in range(2)}
    ((code, serial),) = said
    assert code == 0
    found = [one for one in records(made).values() if one.subject == f"CN={name}"]
    issued = [one for one in found if one.state is CertificateState.ISSUED]
    assert [str(one.serial) for one in issued] == [serial]
    (request,) = requests(made, name)
    assert (request.state, request.certificate_id) == (ApprovalState.ISSUED, issued[0].id)
    assert findings(audit(made)) == []
