"""Requests linked to their TLS connection, by others' TLS, by our client, and by somebody in the middle."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.interop.clients import new_key, openssl, program, run
from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, PASSWORD, USER, answer_of, certs_only, connect
from tests.interop.middle import middle
from tests.interop.site import Site, site
from tests.interop.test_approval import begin, est, waiting
from tests.interop.wire import Answer

LABEL = f"{EST}/iot-device"
SETTINGS = """
[est.profiles.iot-device]
channel_binding = "required"
[est.profiles.cameras]
channel_binding = "required"
[profiles.cameras]
like = "iot-device"
approval = "person"
[approval]
retry_after = "2s"
"""
POSTING = {**BASIC, "Content-Type": "application/pkcs10", "User-Agent": "test"}
VERSIONS = pytest.mark.parametrize("tls", ["1.2", "1.3"])
REQUEST = """[req]
prompt = no
distinguished_name = subject
attributes = attributes
[subject]
CN = {name}
[attributes]
challengePassword = {password}
"""


@pytest.fixture(scope="module")
def binding_ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The profile iot-device wants requests linked; the others check those that are."""
    with site(tmp_path_factory.mktemp("binding"), workers=2, settings=SETTINGS) as running:
        yield running.ca


def linked_csr(directory: Path, password: str, name: str = "device-1") -> bytes:
    """DER, made by `openssl req`."""
    key = directory / "device.key"
    if not key.exists():
        new_key(key)
    (directory / "req.cnf").write_text(REQUEST.format(name=name, password=password))
    return openssl("req", "-new", "-config", directory / "req.cnf", "-key", key, "-outform", "DER").stdout


@contextlib.contextmanager
def by_tls_1_2(ca: Daemon) -> Iterator[tuple[http.client.HTTPSConnection, str]]:
    """An open connection, and what Python's ssl calls its tls-unique, in base64."""
    connection = connect(ca)
    connection._context.maximum_version = ssl.TLSVersion.TLSv1_2  # type: ignore[attr-defined]
    connection.connect()
    with contextlib.closing(connection):
        unique = connection.sock.get_channel_binding("tls-unique")
        yield connection, base64.b64encode(unique).decode()


def post(connection: http.client.HTTPSConnection, path: str, csr: bytes) -> Answer:
    connection.request("POST", path, csr, POSTING)
    return answer_of(connection)


def test_a_request_by_openssl_with_the_right_tls_unique(binding_ca: Daemon, tmp_path: Path) -> None:
    with by_tls_1_2(binding_ca) as (connection, unique):
        (issued,) = certs_only(post(connection, f"{LABEL}/simpleenroll", linked_csr(tmp_path, unique)))
        assert issued.subject.rfc4514_string() == "CN=device-1"
        # What was right stays right as long as the connection does, after other requests on it too.
        (again,) = certs_only(post(connection, f"{LABEL}/simpleenroll", linked_csr(tmp_path, unique, "device-2")))
        assert again.serial_number != issued.serial_number


@pytest.mark.parametrize("path", [f"{LABEL}/simpleenroll", f"{EST}/simpleenroll", f"{EST}/serverkeygen"])
def test_wrong_values_are_refused_in_words(binding_ca: Daemon, tmp_path: Path, path: str) -> None:
    with by_tls_1_2(binding_ca) as (_, other), by_tls_1_2(binding_ca) as (connection, own):
        mirrored = base64.b64encode(base64.b64decode(own)[::-1]).decode()
        for password, words in [
            (other, "made for another connection"),
            (mirrored, "made for another connection"),
            (base64.b64decode(own).hex(), "it must be tls-unique in base64"),
            (base64.b64encode(bytes(32)).decode(), "as TLS 1.2 has it"),
            ("sesame", "none that could link it"),
        ]:
            answer = post(connection, path, linked_csr(tmp_path, password))
            assert answer.status == 400, password
            assert b"popFailed" in answer.body and words in answer.body.decode()
            assert own not in answer.body.decode()


def test_a_request_that_is_not_linked_is_told_how(binding_ca: Daemon, tmp_path: Path) -> None:
    new_key(tmp_path / "k")
    csr = openssl("req", "-new", "-key", tmp_path / "k", "-subj", "/CN=device-1", "-outform", "DER").stdout
    for version, kind in ((ssl.TLSVersion.TLSv1_2, "tls-unique"), (ssl.TLSVersion.TLSv1_3, "tls-exporter")):
        connection = connect(binding_ca)
        connection._context.minimum_version = connection._context.maximum_version = version  # type: ignore[attr-defined]
        with contextlib.closing(connection):
            answer = post(connection, f"{LABEL}/simpleenroll", csr)
            assert answer.status == 400
            assert "required here" in answer.body.decode() and kind in answer.body.decode()
            assert post(connection, f"{EST}/simpleenroll", csr).status == 200


def test_a_request_by_openssl_with_the_right_tls_exporter(binding_ca: Daemon, tmp_path: Path) -> None:
    """`openssl s_client` says what it exports on TLS 1.3, and sends what is made of that on the same connection."""
    trust = ("-CAfile", str(binding_ca.trust_anchors), "-verify_return_error", "-servername", "localhost")
    export = ("-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32")
    where = ("-connect", f"localhost:{binding_ca.port}", "-tls1_3", "-ign_eof")
    command = [*program("openssl"), "s_client", *where, *trust, *export]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdin is not None and client.stdout is not None
        said = b""
        while not (found := re.search(rb"Keying material: ([0-9A-F]{64})", said)):
            line = client.stdout.readline()
            assert line, said
            said += line
        csr = linked_csr(tmp_path, base64.b64encode(bytes.fromhex(found[1].decode())).decode())
        fields = {**POSTING, "Host": "localhost", "Connection": "close", "Content-Length": str(len(csr))}
        head = f"POST {LABEL}/simpleenroll HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items())
        answer, _ = client.communicate(head.encode() + b"\r\n" + csr, timeout=30)
    assert b"HTTP/1.1 200" in answer, answer
    body = answer.partition(b"HTTP/1.1 200")[2].partition(b"\r\n\r\n")[2]
    base64_lines = re.match(rb"[A-Za-z0-9+/=\n]+", body)
    assert base64_lines is not None
    cms = openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=base64.b64decode(base64_lines[0])).stdout
    assert x509.load_pem_x509_certificate(cms).subject.rfc4514_string() == "CN=device-1"


def asking(ca: Daemon, directory: Path, url: str, *options: str | Path, anchors: Path | None = None) -> tuple[Any, ...]:
    password = directory / "password"
    password.write_text(PASSWORD + "\n")
    trust = ("--trust-anchors", anchors or ca.trust_anchors)
    return ("--server", url, *trust, "--user", USER, "--password-file", password, *options)


def wish(directory: Path, name: str) -> tuple[str | Path, ...]:
    return ("--subject", f"CN={name}", "--new-key", directory / f"{name}.key", "--out", directory / f"{name}.pem")


@VERSIONS
def test_our_client_links_what_the_ca_wants_linked(binding_ca: Daemon, tmp_path: Path, tls: str) -> None:
    """By password, by mutual TLS for the same and a new key, a key by the server; refused when it is told not to."""
    ca, label = binding_ca, f"{binding_ca.url}{LABEL}"
    by_password = asking(ca, tmp_path, label, "--tls", tls)
    run("opencert", "est-enroll", *by_password, *wish(tmp_path, "device-1"))
    openssl("verify", "-CAfile", ca.trust_anchors, "-untrusted", authorities(ca, tmp_path), tmp_path / "device-1.pem")
    mine = ("--cert", tmp_path / "device-1.pem", "--key", tmp_path / "device-1.key", "--tls", tls)
    renewing = ("est-reenroll", "--server", label, "--trust-anchors", ca.trust_anchors, *mine)
    run("opencert", *renewing, "--out", tmp_path / "renewed.pem")
    run("opencert", *renewing, "--out", tmp_path / "rekeyed.pem", "--rekey", tmp_path / "rekeyed.key")
    made = ("--subject", "CN=device-2", "--key-out", tmp_path / "made.key", "--out", tmp_path / "made.pem")
    run("opencert", "est-serverkeygen", *by_password, *made)

    refused = run("opencert", "est-enroll", *by_password, "--no-channel-binding", *wish(tmp_path, "device-3"), ok=False)
    assert b"linking identity and proof of possession is required here" in refused.stderr
    assert ("tls-unique" if tls == "1.2" else "tls-exporter") in refused.stderr.decode()
    assert not (tmp_path / "device-3.pem").exists()
    told = run("opencert", "est-csrattrs", *by_password).stdout
    assert b"challenge password: from the TLS session" in told


def authorities(ca: Daemon, directory: Path) -> Path:
    out = directory / "authorities.pem"
    trust = ("--trust-anchors", ca.trust_anchors)
    run("opencert", "est-server-certificates", "--server", ca.url, *trust, "--out", out)
    return out


@VERSIONS
def test_by_option_every_request_is_linked(binding_ca: Daemon, tmp_path: Path, tls: str) -> None:
    """To a label that does not ask for it, with keys of every kind."""
    by_password = asking(binding_ca, tmp_path, binding_ca.url, "--tls", tls, "--channel-binding")
    for kind in ("ec", "rsa", "ed25519"):
        run("opencert", "est-enroll", *by_password, *wish(tmp_path, kind), "--type", kind)


@VERSIONS
def test_one_in_the_middle_is_found_out(binding_ca: Daemon, tmp_path: Path, tls: str) -> None:
    """It has a certificate that the client trusts, and passes everything on. Without linking it goes unnoticed."""
    ca = binding_ca
    certificate, key = tmp_path / "middle.pem", tmp_path / "middle.key"
    name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", *name, "-keyout", key, "-out", certificate)
    with middle(ca.port, certificate, key) as between:
        between.limit(ssl.TLSVersion.TLSv1_2 if tls == "1.2" else ssl.TLSVersion.TLSv1_3)
        there = f"https://localhost:{between.port}"
        for label, options in ((LABEL, ()), (EST, ("--channel-binding",))):
            caught = asking(ca, tmp_path, there + label, *options, anchors=certificate)
            refused = run("opencert", "est-enroll", *caught, *wish(tmp_path, "device-1"), ok=False)
            assert b"popFailed" in refused.stderr and b"made for another connection" in refused.stderr
            assert not (tmp_path / "device-1.pem").exists()
        trusting = asking(ca, tmp_path, there + EST, anchors=certificate)
        run("opencert", "est-enroll", *trusting, *wish(tmp_path, "device-2"))
        assert b"POST /.well-known/est/iot-device/simpleenroll" in between.heard  # it has heard it all


def test_a_stranger_becomes_known_by_its_fingerprint(binding_ca: Daemon, tmp_path: Path) -> None:
    """What is written then verifies the daemon's own TLS."""
    roots = x509.load_pem_x509_certificates(binding_ca.trust_anchors.read_bytes())
    out = tmp_path / "known.pem"
    told = [word for root in roots for word in ("--fingerprint", root.fingerprint(hashes.SHA256()).hex(":"))]
    words = ("est-server-certificates", "--server", binding_ca.url, "--bootstrap", *told, "--out", out)
    run("opencert", *words)
    assert set(x509.load_pem_x509_certificates(out.read_bytes())) >= set(roots)
    run("opencert", "est-enroll", *asking(binding_ca, tmp_path, binding_ca.url, anchors=out), *wish(tmp_path, "d"))
    wrong = ("--fingerprint", "00" * 32)
    done = run("opencert", *words[:4], *wrong, "--out", tmp_path / "no", ok=False)
    assert b"somebody stands in between" in done.stderr and not (tmp_path / "no").exists()


@VERSIONS
def test_a_request_that_waits_for_a_person_is_linked_each_time_it_is_asked(
    binding_ca: Daemon, tmp_path: Path, tls: str
) -> None:
    """By one connection as long as it is kept, and by another one from another run: it stays one request."""
    ca, name = binding_ca, f"camera-{tls}"
    by_password = asking(ca, tmp_path, f"{ca.url}{EST}/cameras", "--tls", tls)
    wanted = ("--subject", f"CN={name}", "--out", tmp_path / "c.pem")
    kept = run(
        "opencert", "est-enroll", *by_password, *wanted, "--new-key", tmp_path / "c.key", "--wait", "0", ok=False
    )
    assert b"the new key is kept" in kept.stderr
    again = begin("opencert", "est-enroll", *by_password, *wanted, "--use-key", tmp_path / "c.key", "--wait", "60")
    request_id = waiting(ca, name)
    time.sleep(3)  # it asks again meanwhile
    assert again.poll() is None
    est(ca, "approve", request_id, "--reason", "known")
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said
    listed = est(ca, "pending", "--all").stdout.decode()
    assert listed.count(f"subject CN={name} ") == 1


def test_a_proxy_that_nobody_trusts_is_somebody_in_the_middle(one_worker_behind_nginx: Site, tmp_path: Path) -> None:
    """For one that is trusted see `test_proxy`."""
    ca = one_worker_behind_nginx.ca
    through = asking(ca, tmp_path, ca.url)
    refused = run("opencert", "est-enroll", *through, "--channel-binding", *wish(tmp_path, "device-1"), ok=False)
    assert b"popFailed" in refused.stderr and b"somebody between client and CA ends TLS" in refused.stderr
    run("opencert", "est-enroll", *through, *wish(tmp_path, "device-1"))
