"""Suspend, reinstate and revoke by `opencert cert`, with three workers: openssl, TLS and the inventory all follow."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import CRLEntryExtensionOID

from tests.interop.clients import openssl, run
from tests.interop.daemon import Daemon
from tests.interop.https import Identity, enrol, request
from tests.interop.revoking import ask_revocation, signature
from tests.interop.site import site
from tests.interop.test_status import issuer_file

SHOWS = 1.0  # seconds
ASKED = 9  # often enough that each of the three workers is asked


@dataclass(frozen=True)
class Case:
    """A certificate, its issuer's file, and the revoker who may hold it."""

    ca: Daemon
    directory: Path
    issuer: Path
    device: Identity
    operator: Identity

    def cert(self, deed: str, *options: str | Path, who: Identity | None = None, ok: bool = True) -> str:
        """`opencert cert DEED` for the device; both outputs."""
        asker = who or self.operator
        server = ("--server", self.ca.url, "--trust-anchors", self.ca.trust_anchors)
        proof = ("--cert", asker.certificate_file, "--key", asker.key_file)
        done = run("opencert", "cert", deed, self.device.serial_hex, *server, *proof, *options, ok=ok)
        assert ok == (done.returncode == 0), done
        return (done.stdout + done.stderr).decode()

    def ocsp(self) -> set[str]:
        """All that the workers say by OCSP: `good`, or `revoked` with the reason."""
        responder = ("-url", f"{self.ca.http_url}/ca/ocsp", "-CAfile", self.ca.trust_anchors)
        asked = ("-issuer", self.issuer, "-cert", self.device.certificate_file, "-no_nonce")
        said = set()
        for _ in range(ASKED):
            lines = openssl("ocsp", *asked, *responder, "-verify_other", self.issuer).stdout.decode().splitlines()
            status = lines[0].partition(": ")[2]
            reasons = [line.split(": ")[1] for line in lines if "Reason: " in line]
            said.add(" ".join([status, *reasons]))
        return said

    def crls(self) -> Path:
        """Every CRL there is, fetched now."""
        path = self.directory / "crls"
        path.write_bytes(run("curl", "-sS", "--fail", f"{self.ca.http_url}/ca/crl?format=pem").stdout)
        return path

    def verifies(self) -> str:
        """What `openssl verify -crl_check` says with every CRL there is."""
        trust = ("-CAfile", self.ca.trust_anchors, "-untrusted", self.issuer, "-CRLfile", self.crls())
        done = openssl("verify", "-crl_check", *trust, self.device.certificate_file, ok=False)
        said = (done.stdout + done.stderr).decode()
        return "OK" if done.returncode == 0 else "revoked" if "certificate revoked" in said else said

    def entry(self) -> x509.RevokedCertificate | None:
        """The device's line on the CRL of its issuer."""
        pem = self.crls().read_bytes()
        for part in pem.split(b"-----END X509 CRL-----\n")[:-1]:
            crl = x509.load_pem_x509_crl(part + b"-----END X509 CRL-----\n")
            if crl.issuer == self.device.certificate.issuer:
                (self.directory / "crl").write_bytes(part + b"-----END X509 CRL-----\n")
                return crl.get_revoked_certificate_by_serial_number(self.device.certificate.serial_number)
        raise AssertionError("there is no CRL of the issuer")

    def logs_in(self) -> set[int]:
        """The statuses of requests by the device's client certificate."""
        return {request(self.ca, "GET", "/ca/inventory?limit=1", identity=self.device).status for _ in range(ASKED)}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with site(tmp_path_factory.mktemp("hold"), 3, settings='[access]\nrevokers = ["CN=operator.test"]\n') as running:
        yield running.ca


@pytest.fixture(params=["ec", "rsa"])
def case(ca: Daemon, tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    device, operator = (enrol(ca, tmp_path, name, request.param) for name in ("device.test", "operator.test"))
    return Case(ca, tmp_path, issuer_file(ca, device.certificate, tmp_path), device, operator)


def test_held_and_reinstated_everywhere(case: Case) -> None:
    assert (case.ocsp(), case.verifies(), case.logs_in()) == ({"good"}, "OK", {200})
    assert "is held since" in case.cert("hold")
    time.sleep(SHOWS)
    assert (case.ocsp(), case.verifies(), case.logs_in()) == ({"revoked certificateHold"}, "revoked", {401})
    entry = case.entry()
    assert entry is not None
    reason = entry.extensions.get_extension_for_oid(CRLEntryExtensionOID.CRL_REASON).value
    assert reason == x509.CRLReason(x509.ReasonFlags.certificate_hold)
    assert "Status: held since" in case.cert("show")
    assert case.cert("reinstate").endswith("is good\n")
    time.sleep(SHOWS)
    assert (case.ocsp(), case.verifies(), case.logs_in()) == ({"good"}, "OK", {200})
    assert case.entry() is None
    shown = case.cert("show")
    assert "Status: good" in shown
    assert [line.split()[2] for line in shown.splitlines() if line.startswith("History: ")] == ["held", "released"]
    assert "by CN=operator.test" in shown


def test_a_hold_of_ones_own_ends_in_a_revocation(case: Case) -> None:
    """The device doubts its key; the operator finds since when it was out, and that there is no way back."""
    since = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    case.cert("hold", who=case.device)
    refused = case.cert("reinstate", who=case.device, ok=False)
    assert refused.startswith("Error: ") and "on hold" in refused
    held = case.entry()
    time.sleep(SHOWS)
    moment = f"{since:%Y-%m-%dT%H:%M:%SZ}"
    said = case.cert("revoke", "--reason", "keyCompromise", "--invalidity-date", moment)
    assert "is revoked since" in said and moment in said
    time.sleep(SHOWS)
    assert (case.ocsp(), case.verifies()) == ({"revoked keyCompromise"}, "revoked")
    entry = case.entry()
    assert entry is not None
    assert held is None or entry.revocation_date_utc == held.revocation_date_utc
    dated = entry.extensions.get_extension_for_class(x509.InvalidityDate).value
    assert dated.invalidity_date_utc == since
    text = openssl("crl", "-text", "-noout", "-in", case.directory / "crl").stdout.decode()
    assert "Invalidity Date" in text
    assert "revoked for good" in case.cert("reinstate", ok=False)
    assert "revoked already" in case.cert("hold", ok=False)


def test_words_that_are_wrong_are_refused_in_one_line(case: Case) -> None:
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    for words, said in (
        (("hold", "--invalidity-date", tomorrow), "in the future"),
        (("hold", "--invalidity-date", "yesterday"), "not a time in UTC"),
        (("hold", "--issuer", "nobody"), "issuer"),
        (("reinstate",), "not on hold"),
    ):
        refused = case.cert(*words, ok=False)
        assert refused.startswith("Error: the server refused: ") and said in refused, refused
        assert refused.count("\n") == 1
    assert "needs the revoker right" in Case(case.ca, case.directory, case.issuer, case.operator, case.device).cert(
        "hold", ok=False
    )
    assert case.ocsp() == {"good"}


def test_three_workers_asked_at_once_leave_one_story(case: Case) -> None:
    """Holds, releases and a revocation race through all workers; the history is a possible one, and all agree on it."""
    sn = case.device.serial_hex
    outcomes: list[tuple[str, int]] = []

    def change(reason: str) -> None:
        words = reason or "reinstate"
        proof = signature(case.operator, sn, words)
        for _ in range(4):
            if reason:
                answer = ask_revocation(case.ca, case.operator, sn=sn, reason=reason, signature=proof)
            else:
                path = f"/ca/reinstate?sn={sn}&signature={proof.replace('+', '%2B')}"
                answer = request(case.ca, "POST", path, identity=case.operator)
            outcomes.append((words, answer.status))

    racers = [threading.Thread(target=change, args=(word,)) for word in ["certificateHold", ""] * 4]
    last = threading.Thread(target=change, args=("superseded",))
    for thread in racers:
        thread.start()
    time.sleep(0.1)
    last.start()
    for thread in (*racers, last):
        thread.join(60)
    assert {status for _, status in outcomes} <= {200, 409, 503}, outcomes
    assert outcomes.count(("superseded", 200)) == 1
    shown = case.cert("show").splitlines()
    history = [line.split()[2] for line in shown if line.startswith("History: ")]
    assert len(history) == sum(status == 200 for _, status in outcomes)
    assert history[-1] == "revoked"
    assert history[:-1] == list(itertools.islice(itertools.cycle(("held", "released")), len(history) - 1))
    time.sleep(SHOWS)
    assert (case.ocsp(), case.verifies()) == ({"revoked superseded"}, "revoked")


def test_a_held_certificate_renews_nothing(case: Case) -> None:
    def renew() -> str:
        server = ("--server", case.ca.url, "--trust-anchors", case.ca.trust_anchors)
        mine = ("--cert", case.device.certificate_file, "--key", case.device.key_file)
        out = case.directory / "renewed.pem"
        done = run("opencert", "est-reenroll", *server, *mine, "--out", out, "--force", ok=False)
        return (done.stdout + done.stderr).decode()

    case.cert("hold")
    assert "on hold" in renew()
    case.cert("reinstate")
    assert "written to" in renew()


def test_a_ca_that_holds_nothing(tmp_path: Path) -> None:
    settings = '[access]\nhold = false\nrevokers = ["CN=operator.test"]\n'
    with site(tmp_path, settings=settings) as running:
        device, operator = (enrol(running.ca, tmp_path, name) for name in ("device.test", "operator.test"))
        case = Case(running.ca, tmp_path, tmp_path, device, operator)
        assert "does not put such certificates on hold" in case.cert("hold", ok=False)
        case.cert("revoke", "--reason", "superseded")
