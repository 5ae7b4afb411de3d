"""kill -9 at every step of issuing: the next start reconciles, nobody was given what is not stored, nothing is doubled.

Run over every step there is between the request and the answer; the daemon's own start (`prepare`, `take_over`) is what
reconciles.
"""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest

from opencertd.model.certificates import CertificateState
from tests.issuance.chains import findings
from tests.service.killing import audit, deeds, records, run, start, victims_settings
from tests.service.victim import STEPS

COMMITTED = STEPS[-1:]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One CA for all: its keys take long to make."""
    state_dir = tmp_path_factory.mktemp("victim") / "state"
    start(victims_settings(state_dir))
    return state_dir


@pytest.mark.parametrize("step", STEPS)
def test_the_next_start_reconciles(step: str, made: Path) -> None:
    known = frozenset(records(made))
    code, said = run("victim", made, step, step)
    assert (code, said) == (-signal.SIGKILL, ""), "nobody was answered"
    left = list(records(made, known).values())
    expected = CertificateState.ISSUED if step in COMMITTED else CertificateState.INTENDED
    assert [record.state for record in left] == ([] if step == STEPS[0] else [expected])

    start(victims_settings(made))
    reconciled = list(records(made, known).values())
    done = CertificateState.ISSUED if step in COMMITTED else CertificateState.ABANDONED
    assert reconciled == [dataclasses.replace(record, state=done) for record in left]
    for record in reconciled:
        # Of what was abandoned the key may have been used: that is on record too.
        assert deeds(audit(made), record.serial) == (["issue"] if step in COMMITTED else ["abandon"])
    assert findings(audit(made)) == []

    code, said = run("victim", made, "none", step)  # the client asks again
    assert code == 0
    issued = [r.serial for r in records(made, known).values() if r.state is CertificateState.ISSUED]
    assert issued == [int(said)], "one certificate for the transaction"
    assert (int(said) in {record.serial for record in left}) == (step in COMMITTED)
    assert deeds(audit(made), int(said)) == ["issue"]
    assert findings(audit(made)) == []
