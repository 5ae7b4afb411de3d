"""kill -9 at every step of finalizing: an order and its certificate are there together, and an order has one.

An order is begun in the transaction of its certificate's intent, and settled in the one that stores the certificate.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from opencertd.acme.states import Order, OrderStatus
from opencertd.clock import SystemClock
from opencertd.model.certificates import CertificateState
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.database import Database
from tests.issuance.chains import findings
from tests.service.acme_victim import BEGUN, STEPS
from tests.service.killing import ask, audit, deeds, records, run, start, victims_settings

SETTLED = len(STEPS) - 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One CA for all: its keys take long to make."""
    state_dir = tmp_path_factory.mktemp("victim") / "state"
    start(victims_settings(state_dir))
    return state_dir


def order(state_dir: Path, order_id: str) -> Order:
    async def read(database: Database) -> Order | None:
        return await SqlAcmeStore(database, SystemClock()).order(order_id)

    found = ask(state_dir, read)
    assert found is not None
    return found


@pytest.mark.parametrize("step", STEPS)
def test_an_order_and_its_certificate_are_there_together(step: str, made: Path) -> None:
    number = STEPS.index(step)
    known = frozenset(records(made))
    code, said = run("acme_victim", made, step, step)
    assert (code, said) == (-signal.SIGKILL, ""), "nobody was answered"
    left = records(made, known)
    was = order(made, step)
    if number < BEGUN:
        assert (was.status, left) == (OrderStatus.PENDING, {})
    elif number < SETTLED:
        assert (was.status, [r.state for r in left.values()]) == (OrderStatus.PROCESSING, [CertificateState.INTENDED])
        assert was.csr_der is not None
    else:
        assert (was.status, [r.state for r in left.values()]) == (OrderStatus.VALID, [CertificateState.ISSUED])
        assert [was.certificate_id] == list(left)

    start(victims_settings(made))
    code, said = run("acme_victim", made, "none", step)  # the client asks again, or the job is claimed
    assert code == 0
    issued = {n: r.serial for n, r in records(made, known).items() if r.state is CertificateState.ISSUED}
    assert list(issued.values()) == [int(said)], "one certificate for the order"
    assert (order(made, step).status, [order(made, step).certificate_id]) == (OrderStatus.VALID, list(issued))
    assert (int(said) in {record.serial for record in left.values()}) == (number == SETTLED)
    assert deeds(audit(made), int(said)) == ["issue"]
    assert findings(audit(made)) == []
