"""`twistd opencert` without `-n`: it goes into the background, and whoever waits for that is told how it went."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.interop.daemon import Daemon, environment


def daemonize(ca: Daemon, directory: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the daemon's command as twistd runs it by default."""
    directory.mkdir()
    command = [word for word in ca.command() if word not in {"-n", "--pidfile="}]
    return subprocess.run(command, cwd=directory, env=environment(), capture_output=True, timeout=60, check=False)


def test_it_serves_in_the_background(tmp_path: Path) -> None:
    ca = Daemon(tmp_path / "state", workers=2)
    directory = tmp_path / "run"
    done = daemonize(ca, directory)
    assert done.returncode == 0, done
    pid = int((directory / "twistd.pid").read_text())
    try:
        deadline = time.monotonic() + 30
        while not ca.answers():
            assert time.monotonic() < deadline, (directory / "twistd.log").read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while (directory / "twistd.pid").exists():
        assert time.monotonic() < deadline, (directory / "twistd.log").read_text()
        time.sleep(0.05)


def test_a_port_in_use_is_told_to_the_shell(tmp_path: Path) -> None:
    ca = Daemon(tmp_path / "state")
    with socket.create_server(("::", ca.port), family=socket.AF_INET6):
        done = daemonize(ca, tmp_path / "run")
    assert done.returncode == 1, done
    assert "cannot listen on" in (tmp_path / "run" / "twistd.log").read_text()
    pid_file = tmp_path / "run" / "twistd.pid"
    deadline = time.monotonic() + 10
    while pid_file.exists():  # the process that gave up tells the shell first and tidies up then
        assert time.monotonic() < deadline, "the pid file of a daemon that did not start stays"
        time.sleep(0.05)
