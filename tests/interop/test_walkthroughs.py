"""The README's walk-throughs work as printed, against what `make run` starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.daemon import ROOT, environment, free_port
from tests.interop.readme import Walkthrough, walkthroughs

START_SECONDS = 120.0


class Run:
    """`make run` with ports and a `var` of its own, and scripts run where a reader would run them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.ports = {"5001": str(free_port()), "5080": str(free_port()), "5002": str(free_port())}
        self.log = place / "make-run.log"

    def start(self) -> None:
        (self.place / "var").mkdir()
        given = {
            "VENV": sys.prefix,
            "STATE": self.place / "var" / "ca",
            "USERS": self.place / "var" / "est-users.json",
            "PORT": self.ports["5001"],
            "HTTP_PORT": self.ports["5080"],
            "HTTP01_PORT": self.ports["5002"],
            "ARGS": "--hostname localhost",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["make", "-C", ROOT, "run", *(f"{name}={value}" for name, value in given.items())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while "EST: " not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)

    def follow(self, walkthrough: Walkthrough) -> str:
        """What the script prints; it must succeed at every step."""
        words = {port: mine for port, mine in self.ports.items() if port in walkthrough.text}
        if ".venv/bin/" in walkthrough.text:
            words[".venv/bin/"] = f"{sys.prefix}/bin/"
        script = "set -eu\n" + walkthrough.replaced(words).script
        done = subprocess.run(
            ["sh", "-c", script],
            check=False,
            cwd=self.place,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, f"{done.stdout}\n--- the daemon's log:\n{self.log.read_text()[-4000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    started = Run(tmp_path_factory.mktemp("readme"))
    started.start()
    yield started
    started.stop()


PAGE = walkthroughs((ROOT / "README.md").read_text())


def test_make_run_says_the_three_things_a_person_needs(run: Run) -> None:
    said = run.log.read_text()
    assert f"{run.place}/var/ca/trust-anchors.pem" in said
    assert f"https://localhost:{run.ports['5001']}/directory" in said
    assert f"https://localhost:{run.ports['5001']}/.well-known/est" in said


def test_certbot(run: Run) -> None:
    said = run.follow(PAGE["certbot"])
    assert "cert.pem: OK" in said
    assert "cert.pem: good" in said
    assert "successfully revoked" in said


def test_est(run: Run) -> None:
    said = run.follow(PAGE["est"])
    assert "var/device.pem: OK" in said
    assert (run.place / "var" / "device-renewed.pem").exists()


def test_every_walkthrough_is_tested() -> None:
    assert set(PAGE) == {"certbot", "est"}
