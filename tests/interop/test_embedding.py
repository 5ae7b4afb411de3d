"""The daemon inside a Twisted application of somebody else's, whose code decides about requests."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.interop.clients import new_csr, new_key, run
from tests.interop.daemon import Daemon, environment
from tests.interop.https import BASIC, EST, PASSWORD, USER, request

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


def test_code_decides_at_once_and_what_it_does_not_know_waits(ca: Daemon, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    run("opencert", "user", "add", USER, "--est-users", tmp_path / "users", "--password-file", tmp_path / "password")
    values = {"STATE": str(ca.state), "PORT": ca.port, "USERS": str(tmp_path / "users")}
    head = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    (tmp_path / "app.tac").write_text(head + APPLICATION)
    twistd = Path(sys.executable).with_name("twistd")
    command = [str(twistd), "-n", "--pidfile=", "-y", str(tmp_path / "app.tac")]
    with (
        ca.log_file.open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, env=environment()) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while not ca.answers():
                assert process.poll() is None and time.monotonic() < deadline, ca.log
                time.sleep(0.1)
            answers = {name: enrol(ca, tmp_path, name) for name in ("ours", "theirs", "unknown", "broken")}
        finally:
            process.terminate()
    assert answers == {"ours": 200, "theirs": 403, "unknown": 202, "broken": 202}
    assert "the approval hook failed" in ca.log
    listed = run("opencert", "est", "pending", "--all", "--state-dir", ca.state).stdout.decode()
    assert listed.count("  waiting  ") == 2
    assert "by daemon:inventory  not in the inventory" in listed


def enrol(ca: Daemon, directory: Path, name: str) -> int:
    csr = new_csr(new_key(directory / f"{name}.key"), f"{name}.test", f"{name}.test").read_bytes()
    headers = {**BASIC, "Content-Type": "application/pkcs10"}
    return request(ca, "POST", f"{EST}/simpleenroll", csr, headers).status
