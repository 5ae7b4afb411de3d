"""kill -9 at every step of issuing by transparency logs: the key signed nothing that the store does not know.

Two signatures are made for one certificate. The daemon's own start is what reconciles, as without logs.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from cryptography import x509

from opencertd.model.certificates import CertificateState
from tests.issuance.chains import findings
from tests.service.killing import audit, deeds, records, run, start
from tests.service.transparent_victim import STEPS, settings

INTENDED, ISSUED = STEPS.index("after the precertificate's intent is written"), len(STEPS) - 1
KEPT = STEPS.index("after the precertificate is stored")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One CA for all: its keys take long to make."""
    state_dir = tmp_path_factory.mktemp("victim") / "state"
    start(settings(state_dir))
    return state_dir


def signed(state_dir: Path) -> list[str]:
    """The hashes of what the issuer's key was used for."""
    file = state_dir / "signed"
    return file.read_text().split() if file.exists() else []


@pytest.mark.parametrize("step", STEPS)
def test_the_next_start_reconciles(step: str, made: Path) -> None:
    number = STEPS.index(step)
    known, signed_before = frozenset(records(made)), len(signed(made))
    code, said = run("transparent_victim", made, step, step)
    assert (code, said) == (-signal.SIGKILL, ""), "nobody was answered"
    left = list(records(made, known).values())
    expected = CertificateState.ISSUED if number == ISSUED else CertificateState.INTENDED
    assert [record.state for record in left] == ([] if number < INTENDED else [expected])

    start(settings(made))
    entries = audit(made)
    for record in records(made, known).values():
        assert record.state is (CertificateState.ISSUED if number == ISSUED else CertificateState.ABANDONED)
        precertified = ["sign-precertificate"] if number >= KEPT else []
        assert deeds(entries, record.serial) == [*precertified, "issue" if number == ISSUED else "abandon"]
    on_record = {entry.tbs_sha256 for entry in entries}
    assert set(signed(made)[signed_before:]) <= on_record, "the key was used for what nobody knows of"
    assert findings(entries) == []

    code, said = run("transparent_victim", made, "none", step)  # the client asks again
    assert code == 0
    issued = [r for r in records(made, known).values() if r.state is CertificateState.ISSUED]
    assert [r.serial for r in issued] == [int(said)], "one certificate for the transaction"
    assert (int(said) in {record.serial for record in left}) == (number == ISSUED)
    certificate = x509.load_der_x509_certificate(issued[0].certificate_der or b"")
    assert certificate.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
    assert deeds(audit(made), int(said)) == ["sign-precertificate", "issue"]
    assert set(signed(made)[signed_before:]) <= {entry.tbs_sha256 for entry in audit(made)}
    assert findings(audit(made)) == []
