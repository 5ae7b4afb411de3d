"""The daemon inside a Twisted application of somebody else's, whose code decides about requests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.clients import new_csr, new_key, openssl, run
from tests.interop.daemon import Daemon, environment
from tests.interop.https import BASIC, EST, PASSWORD, USER, request
from tests.interop.https import enrol as certified
from tests.interop.test_status import issuer_file

APPLICATION = """
from twisted.application.service import Application
from opencertd.config import read_settings
from opencertd.model.approval import Decision
from opencertd.service import make_daemon

async def decide(waiting):
    names = [name.value for name in waiting.names]
    if names == ["ours.test"]:
        return Decision(approved=True, reason="in the inventory", by="inventory")
    if names == ["broken.test"]:
        raise RuntimeError("the inventory is away")
    if names == ["unknown.test"]:
        return None
    return Decision(approved=False, reason="not in the inventory", by="inventory")

given = {"dn": "CN=Embedded", "state_dir": STATE, "port": PORT, "est_users": USERS, "hostname": ["localhost"],
         "profiles": {"default": {"approval": "person"}}}
application = Application("ours")
make_daemon(read_settings(given, {}, None), decide=decide).setServiceParent(application)
"""


@pytest.fixture
def ca(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path / "state")


@contextmanager
def embedded(ca: Daemon, directory: Path, application: str) -> Iterator[None]:
    """The application, until the block ends; its CA answers by then."""
    (directory / "password").write_text(PASSWORD + "\n")
    run("opencert", "user", "add", USER, "--est-users", directory / "users", "--password-file", directory / "password")
    values = {"STATE": str(ca.state), "PORT": ca.port, "HTTP": ca.http_port, "USERS": str(directory / "users")}
    head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    (directory / "app.tac").write_text(head + application)
    twistd = Path(sys.executable).with_name("twistd")
    command = [str(twistd), "-n", "--pidfile=", "-y", str(directory / "app.tac")]
    with (
        ca.log_file.open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=directory, env=environment()) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while not ca.answers():
                assert process.poll() is None and time.monotonic() < deadline, ca.log
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def test_code_decides_at_once_and_what_it_does_not_know_waits(ca: Daemon, tmp_path: Path) -> None:
    with embedded(ca, tmp_path, APPLICATION):
        answers = {name: enrol(ca, tmp_path, name) for name in ("ours", "theirs", "unknown", "broken")}
    assert answers == {"ours": 200, "theirs": 403, "unknown": 202, "broken": 202}
    assert "the approval hook failed" in ca.log
    listed = run("opencert", "est", "pending", "--all", "--state-dir", ca.state).stdout.decode()
    assert listed.count("  waiting  ") == 2
    assert "by daemon:inventory  not in the inventory" in listed


CHECKING = """
from twisted.application.service import Application
from opencertd.config import read_settings
from opencertd.service import make_daemon

async def check_ocsp(inquiry):
    return inquiry.issuer == "ecdsa"

given = {"dn": "CN=Embedded", "state_dir": STATE, "port": PORT, "http_port": HTTP, "est_users": USERS,
         "hostname": ["localhost"]}
application = Application("ours")
make_daemon(read_settings(given, {}, None), check_ocsp=check_ocsp).setServiceParent(application)
"""


def test_code_says_which_ocsp_requests_are_answered(ca: Daemon, tmp_path: Path) -> None:
    with embedded(ca, tmp_path, CHECKING):
        said = {kind: status(ca, tmp_path, kind) for kind in ("ec", "rsa", "ec")}
    assert ": good" in said["ec"] and "unauthorized" in said["rsa"]


def status(ca: Daemon, directory: Path, kind: str) -> str:
    """What `openssl ocsp` says of a new certificate."""
    device = certified(ca, directory, f"{kind}.test", kind)
    issuer = issuer_file(ca, device.certificate, directory)
    asked = ("-issuer", issuer, "-cert", device.certificate_file, "-url", f"{ca.http_url}/ca/ocsp")
    return openssl("ocsp", *asked, "-CAfile", ca.trust_anchors, "-verify_other", issuer, ok=False).stdout.decode()


def enrol(ca: Daemon, directory: Path, name: str) -> int:
    csr = new_csr(new_key(directory / f"{name}.key"), f"{name}.test", f"{name}.test").read_bytes()
    headers = {**BASIC, "Content-Type": "application/pkcs10"}
    return request(ca, "POST", f"{EST}/simpleenroll", csr, headers).status
