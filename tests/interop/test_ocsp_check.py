"""`opencert ocsp check` tells what our responder says of a certificate, and OpenSSL's, and believes no other's word."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.interop.clients import program, run
from tests.interop.daemon import Daemon, environment, free_port
from tests.interop.https import enrol
from tests.interop.site import site
from tests.interop.test_hold import Case
from tests.interop.test_status import issuer_file
from tests.ocsp.pki import Ca, pki, write_pem

SHOWS = 1.0  # seconds


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with site(tmp_path_factory.mktemp("check"), 2, settings='[access]\nrevokers = ["CN=operator.test"]\n') as running:
        yield running.ca


@pytest.fixture(params=["ec", "rsa"])
def case(ca: Daemon, tmp_path: Path, request: pytest.FixtureRequest) -> Case:
    device, operator = (enrol(ca, tmp_path, name, request.param) for name in ("device.test", "operator.test"))
    return Case(ca, tmp_path, issuer_file(ca, device.certificate, tmp_path), device, operator)


def check(certificate: Path, *options: str | Path, code: int = 0) -> str:
    """Both outputs."""
    done = run("opencert", "ocsp", "check", certificate, *options, ok=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == code, said
    assert "Traceback" not in said
    return said


def test_good_held_released_revoked(case: Case) -> None:
    device = case.device.certificate_file
    said = check(device)  # the issuer and the responder are where the certificate says
    assert "good" in said and "OCSP responder of" in said and f"{case.ca.http_url}/ca/ocsp" in said
    case.cert("hold")
    time.sleep(SHOWS)
    assert "certificateHold (on hold" in check(device, "--nonce", code=1)
    case.cert("reinstate")
    time.sleep(SHOWS)
    assert "echoed" in check(device, "--nonce", "--issuer", case.issuer)
    case.cert("revoke", "--reason", "keyCompromise")
    time.sleep(SHOWS)
    for nonce in ((), ("--nonce",)):
        done = run("opencert", "ocsp", "check", device, "--json", *nonce, ok=False)
        said = json.loads(done.stdout)
        assert done.returncode == 1 and said["fault"] is None
        assert (said["status"], said["reason"]) == ("revoked", "keyCompromise")
        moment = datetime.strptime(said["revoked_at"], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
        assert 0 <= (datetime.now(UTC) - moment).total_seconds() < 60


def test_a_chain_in_the_file_names_the_issuer(case: Case) -> None:
    chain = case.directory / "chain.pem"
    chain.write_bytes(case.device.certificate_file.read_bytes() + case.issuer.read_bytes())
    assert "good" in check(chain, "--url", f"{case.ca.http_url}/ca/ocsp")


def test_what_is_not_the_issuer_is_not_taken_for_it(case: Case) -> None:
    wrong = write_pem(case.directory / "wrong.pem", pki().ecdsa.certificate)
    assert "is that of the CA" in check(case.device.certificate_file, "--issuer", wrong, code=1)


def test_of_another_ca_ours_has_no_answer(ca: Daemon, tmp_path: Path) -> None:
    foreign = pki().ecdsa
    leaf = write_pem(tmp_path / "leaf.pem", foreign.issue(5))
    issuer = write_pem(tmp_path / "issuer.pem", foreign.certificate)
    said = check(leaf, "--issuer", issuer, "--url", f"{ca.http_url}/ca/ocsp", code=1)
    assert "unauthorized" in said
    assert "give that by --issuer" in check(leaf, "--url", f"{ca.http_url}/ca/ocsp", code=1)
    assert "give one by --url" in check(leaf, "--issuer", issuer, code=1)


# OpenSSL's responder, of a CA of its own.


@contextmanager
def openssl_responder(ca: Ca, place: Path, *rows: str) -> Iterator[str]:
    """Its URL. `rows`: of OpenSSL's index.txt."""
    (place / "index.txt").write_text("".join(f"{row}\n" for row in rows))
    certificate = write_pem(place / "ca.pem", ca.certificate)
    key = place / "ca.key"
    key.write_bytes(ca.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    port = free_port()
    signer = ["-rsigner", str(certificate), "-rkey", str(key), "-CA", str(certificate)]
    command = [*program("openssl"), "ocsp", "-index", str(place / "index.txt"), "-port", str(port), *signer]
    log = place / "responder.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 10
        while b"ACCEPT" not in log.read_bytes() and time.monotonic() < deadline:
            time.sleep(0.05)  # a connection to see whether it listens would keep it from the next
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


def row(certificate: x509.Certificate, revoked: str = "") -> str:
    state = "R" if revoked else "V"
    return f"{state}\t440101000000Z\t{revoked}\t{certificate.serial_number:02X}\tunknown\t/CN=leaf.example"


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_openssls_responder(kind: str, tmp_path: Path) -> None:
    ca: Ca = getattr(pki(), kind)
    good, bad, strange = (ca.issue(serial) for serial in (0x11, 0x12, 0x13))
    issuer = write_pem(tmp_path / "issuer.pem", ca.certificate)
    with openssl_responder(ca, tmp_path, row(good), row(bad, "250102030405Z,superseded")) as url:
        asked = ("--issuer", issuer, "--url", url, "--nonce")
        said = check(write_pem(tmp_path / "good.pem", good), *asked)
        assert f"the CA, CN=Test {kind}" in said and "no nextUpdate" in said
        said = check(write_pem(tmp_path / "bad.pem", bad), *asked, code=1)
        assert "revoked since 2025-01-02 03:04:05 UTC, superseded" in said
        assert "knows of no such" in check(write_pem(tmp_path / "strange.pem", strange), *asked, code=1)


def test_whoever_does_not_answer_is_not_waited_for(case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        began = time.monotonic()
        said = check(case.device.certificate_file, "--issuer", case.issuer, "--url", url, "--timeout", "1", code=1)
        assert "did not answer within 1 seconds" in said
        assert time.monotonic() - began < 10
