"""A daemon with two logs, asked as clients do; OpenSSL's own validation of timestamps is the judge."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.client import pki
from tests.ct_log import FakeLog, verify
from tests.interop.clients import new_csr, new_key, run
from tests.interop.daemon import Daemon, free_port
from tests.interop.https import BASIC, EST, Identity, certs_only, enrol, request
from tests.interop.site import Site, site

STAMPS = x509.PrecertificateSignedCertificateTimestamps


class Transparent:
    """A CA whose profile `seen` wants both logs; one log is reached by TLS with an anchor of its own."""

    def __init__(self, running: Site, plain: FakeLog, secure: FakeLog) -> None:
        self.ca, self.logs = running.ca, (plain, secure)


@pytest.fixture(scope="module")
def transparent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Transparent]:
    directory = tmp_path_factory.mktemp("transparent")
    root = pki.authority("Log's TLS CA")
    server = pki.leaf(root, "localhost")
    for name, content in (("root", root.pem), ("tls", server.pem), ("key", server.key_pem)):
        (directory / f"{name}.pem").write_bytes(content)
    plain, secure = FakeLog(), FakeLog()
    secure.speak_tls(directory / "tls.pem", directory / "key.pem")
    listed = f"{plain.toml()}, {secure.toml(trust_anchors=str(directory / 'root.pem'))}"
    settings = f"[ct]\nseconds = 3\nlogs = [{listed}]\n[profiles.seen]\ncertificate_transparency = true\n"
    with plain, secure, site(directory, workers=2, settings=settings) as running:
        yield Transparent(running, plain, secure)


@pytest.fixture(autouse=True)
def _well_behaved(transparent: Transparent) -> None:
    for log in transparent.logs:
        log.manner = "good"


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_est_gives_certificates_that_openssl_finds_in_the_logs(
    kind: str, transparent: Transparent, tmp_path: Path
) -> None:
    ca = transparent.ca
    identity = enrol_seen(ca, tmp_path, kind)
    issuers = certs_only(request(ca, "GET", f"{EST}/cacerts"))
    certificate = identity.certificate
    (issuer,) = (one for one in issuers if one.subject == certificate.issuer)
    stamps = list(certificate.extensions.get_extension_for_class(STAMPS).value)
    assert len(stamps) == 2
    for stamp, log in zip(stamps, transparent.logs, strict=True):
        verify(stamp, log, certificate, issuer)
        assert log.faults == []
    said = seen_by_openssl(identity, ca.trust_anchors, issuers, transparent.logs, tmp_path)
    assert said.count("SCT validation status: valid") == 2, said
    assert "Verify return code: 0 (ok)" in said, said
    text = run("openssl", "x509", "-in", identity.certificate_file, "-noout", "-text").stdout.decode()
    assert text.count("Signed Certificate Timestamp:") == 2


def test_another_log_s_key_is_not_what_signed(transparent: Transparent, tmp_path: Path) -> None:
    """The judge judges: it does not find timestamps valid under other keys."""
    ca = transparent.ca
    identity = enrol_seen(ca, tmp_path, "ec")
    issuers = certs_only(request(ca, "GET", f"{EST}/cacerts"))
    with FakeLog() as stranger:
        said = seen_by_openssl(identity, ca.trust_anchors, issuers, (stranger,), tmp_path)
    assert "SCT validation status: valid" not in said


def test_too_few_logs_are_said_to_the_client_and_to_the_audit_chain(transparent: Transparent, tmp_path: Path) -> None:
    ca = transparent.ca
    for manner in ("silent", "wrongly_signed", "refusing"):
        transparent.logs[1].manner = manner
        csr = new_csr(new_key(tmp_path / f"{manner}.key"), f"{manner.replace('_', '-')}.test")
        answer = request(ca, "POST", "/ca/csr?profile=seen", csr.read_bytes(), BASIC)
        assert answer.status == 503, answer
        assert "timestamps of certificate transparency" in answer.body.decode()
        assert int(answer.headers["retry-after"]) > 0
        exported = run("opencert", "audit", "export", "--state-dir", ca.state).stdout.decode().splitlines()
        told = [json.loads(line) for line in exported if f"{manner.replace('_', '-')}.test" in line]
        assert [entry["deed"] for entry in told] == ["sign-precertificate", "abandon"]
        assert told[0]["tbs_sha256"] == told[1]["tbs_sha256"]
    run("opencert", "audit", "verify", "--state-dir", ca.state)
    enrol(ca, tmp_path, "unseen.test")  # a profile that asks no log does not mind
    transparent.logs[1].manner = "good"
    enrol_seen(ca, tmp_path, "ec")


def enrol_seen(ca: Daemon, directory: Path, kind: str) -> Identity:
    key = new_key(directory / f"seen-{kind}.key", kind)
    csr = new_csr(key, "localhost")
    answer = request(ca, "POST", "/ca/csr?profile=seen", csr.read_bytes(), BASIC)
    assert answer.status == 200, answer
    file = directory / f"seen-{kind}.pem"
    file.write_bytes(answer.body)
    return Identity(file, key)


def seen_by_openssl(
    identity: Identity,
    anchors: Path,
    issuers: list[x509.Certificate],
    logs: tuple[FakeLog, ...],
    directory: Path,
) -> str:
    """What `openssl s_client -ct` says of a TLS server with the certificate, knowing these logs."""
    known = directory / "logs.cnf"
    sections = [f"[l{n}]\ndescription = log {n}\nkey = {log.key_b64}\n" for n, log in enumerate(logs)]
    known.write_text(f"enabled_logs = {', '.join(f'l{n}' for n in range(len(logs)))}\n" + "".join(sections))
    port = free_port()
    server = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", "-naccept", "2"]
    server += ["-cert", str(identity.certificate_file), "-key", str(identity.key_file)]
    chain = directory / "chain.pem"
    chain.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in issuers))
    server += ["-cert_chain", str(chain)]
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(anchors), "-ct"]
    client += ["-ctlogfile", str(known)]
    with subprocess.Popen(
        server, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            wait_for(port)
            time.sleep(1.1)  # to OpenSSL a timestamp of the second that the handshake began in is one of the future
            done = subprocess.run(client, input=b"", capture_output=True, timeout=30, check=False)
        finally:
            process.kill()
    return (done.stdout + done.stderr).decode(errors="replace")


def wait_for(port: int) -> None:
    for _ in range(200):
        try:
            ssl.get_server_certificate(("127.0.0.1", port), timeout=5)
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("openssl s_server does not listen")
