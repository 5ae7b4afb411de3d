"""Several processes on one database: each race has one winner, and a killed process has lost nothing it answered."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted

from opencertd.acme.store import FINALIZE
from opencertd.clock import FixedClock
from opencertd.jobs.store import Job
from opencertd.model.audit import AuditEntry
from opencertd.model.certificates import CertificateState
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.approvals import SqlApprovalStore
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.enrolment_passwords import SqlEnrolmentPasswordStore
from opencertd.store.jobs import SqlJobStore
from tests.issuance.chains import findings
from tests.store.test_approval_store import wish
from tests.store.test_enrolment_passwords import password
from tests.store.test_revocations import check_possible
from tests.store.values import ANN, ISSUER, NOW, ROOT, account, issue, order

ensure = pytest_twisted.ensureDeferred
HOUR = timedelta(hours=1)
ROOT_DIRECTORY = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def inline(url: str) -> Iterator[Database]:
    """The database as this process sees it, with an issuer in it."""
    opened = Database.open_inline(url)
    opened_store(opened).add_issuers((ROOT, ISSUER))
    return opened


def opened_store(database: Database) -> SqlCertificateStore:
    return SqlCertificateStore(database, FixedClock(NOW))


def racer(url: str, owner: str, deed: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.racer", url, owner, deed, str(count)],
        cwd=ROOT_DIRECTORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def race(url: str, deed: str, count: int) -> list[str]:
    """Everything that three processes say they won."""
    racers = [racer(url, f"owner{n}", deed, count) for n in range(3)]
    for process in racers:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won: list[str] = []
    for process in racers:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        won += out.split()
    return won


@pytest.mark.parametrize("deed", ["reserve", "redeem"])
def test_each_race_has_one_winner(url: str, inline: Database, deed: str) -> None:
    assert sorted(race(url, deed, 150), key=int) == [str(number) for number in range(150)]


def test_a_nonce_is_accepted_once_in_ten_thousand_raced_tries(url: str, inline: Database) -> None:
    assert sorted(map(int, race(url, "redeem", 10_000))) == list(range(10_000))


def test_each_order_is_finalized_once(url: str, inline: Database) -> None:
    """Whoever wins does the deed; the CSR that is kept is the winner's."""
    store = SqlAcmeStore(inline, FixedClock(NOW))
    store.create_account(account())
    for number in range(100):
        store.create_order(order(f"o{number}"))
    assert sorted(map(int, race(url, "finalize", 100))) == list(range(100))
    jobs: list[Job] = []
    claimed = SqlJobStore(inline, FixedClock(NOW)).claim((FINALIZE,), "late", NOW + timedelta(hours=2), HOUR, 1000)
    claimed.addCallback(jobs.extend)
    assert sorted(job.key for job in jobs) == sorted(f"o{number}" for number in range(100))
    assert {job.generation for job in jobs} == {1}


def test_each_job_is_claimed_once(url: str, inline: Database) -> None:
    jobs = SqlJobStore(inline, FixedClock(NOW))
    for number in range(200):
        jobs.enqueue("k", str(number), NOW)
    assert sorted(race(url, "claim", 100), key=int) == [str(number) for number in range(200)]


def test_each_request_is_decided_once(url: str, inline: Database) -> None:
    store = SqlApprovalStore(inline, FixedClock(NOW))
    for number in range(100):
        store.ask(wish(number), 100)
    assert sorted(map(int, race(url, "decide", 100))) == list(range(100))
    entries: list[AuditEntry] = []
    SqlAuditStore(inline, FixedClock(NOW)).page(None, 1000).addCallback(entries.extend)
    told = [json.loads(entry.what) for entry in entries if entry.deed == "approval"]
    decided = [what["request"] for what in told if what["change"] != "ask"]
    assert sorted(decided) == sorted(f"r{number}" for number in range(100))


def test_each_enrolment_password_is_used_once(url: str, inline: Database) -> None:
    passwords = SqlEnrolmentPasswordStore(inline, FixedClock(NOW))
    for number in range(100):
        passwords.add(password(f"otp-{number}"), ANN)
    assert sorted(map(int, race(url, "enrol", 100))) == list(range(100))


@ensure
async def test_holds_releases_and_revocations_are_one_chain(url: str, inline: Database) -> None:
    """Three processes do what they can at one certificate: what they say they did is what its history says."""
    issued = await issue(opened_store(inline), 1)
    said = Counter(race(url, "suspend", 150))
    history = await opened_store(inline).revocation_history(issued.id)
    assert Counter(change.state.value for change in history) == said
    assert said["revoked"] == 1
    (record,) = await opened_store(inline).by_serial(1)
    check_possible(history, record)
    await inline.close()


@pytest.mark.parametrize("answered", [1, 40, 400])
@ensure
async def test_kill_loses_nothing_that_was_answered(url: str, inline: Database, answered: int) -> None:
    process = racer(url, "victim", "issue", 100_000)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    said = [process.stdout.readline() for _ in range(answered)]
    process.kill()
    said += process.communicate(timeout=30)[0].splitlines(keepends=True)
    serials = [int(line) for line in said if line.endswith("\n")]  # the last line may be cut short
    assert len(serials) >= answered
    for serial in serials:
        (record,) = await opened_store(inline).by_serial(serial)
        assert record.state is CertificateState.ISSUED
    await opened_store(inline).abandon_intents(owner="victim", before=None)
    await inline.close()


def test_all_append_to_one_audit_chain(url: str, inline: Database) -> None:
    issued = race(url, "issue", 100)
    found: list[AuditEntry] = []
    SqlAuditStore(inline, FixedClock(NOW)).page(None, 10_000).addCallback(found.extend)
    assert findings(found) == []
    serials = [json.loads(entry.what)["serial"] for entry in found if entry.deed == "issue"]
    assert sorted(serials) == sorted(f"{int(serial):x}" for serial in issued)
    assert len(serials) == 300
