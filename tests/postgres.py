"""A PostgreSQL cluster to throw away: made in a temporary directory, on a Unix socket, by a user who is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest

ADMIN = "opencertd_test"


@dataclass
class Cluster:
    """A running server; `process` is None while it is stopped."""

    directory: Path
    programs: Path
    process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def dsn(self, name: str) -> str:
        return f"host={self.directory} user={ADMIN} dbname={name}"

    def url(self, name: str) -> str:
        return f"postgresql://{ADMIN}@/{name}?host={self.directory}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                self.programs / "postgres",
                *("-D", self.directory / "data", "-k", self.directory, "-c", "listen_addresses="),
                *("-c", "fsync=off", "-c", "log_min_messages=fatal"),
            ],
            **_as_nobody(self.directory),
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.dsn("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self, sent: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: connections are cut and the server ends."""
        if self.process is not None:
            self.process.send_signal(sent)
            self.process.wait(30)
            self.process = None


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A fresh cluster, gone afterwards. Fails the test when PostgreSQL's programs are not installed."""
    programs = _programs()
    directory = Path(tempfile.mkdtemp(prefix="ocd-pg-"))  # short: a socket's path has 107 bytes at most
    try:
        if os.geteuid() == 0:
            shutil.chown(directory, _other_user())
        subprocess.run(
            [programs / "initdb", "-D", directory / "data", "-U", ADMIN, "-A", "trust", "--no-sync", "-E", "UTF8"],
            check=True,
            stdout=subprocess.DEVNULL,
            **_as_nobody(directory),
        )
        cluster = Cluster(directory, programs)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _programs() -> Path:
    places = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name), reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    pytest.fail("PostgreSQL's programs are missing: install the Debian package postgresql (apt-get install postgresql)")


def _other_user() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.fail("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")


def _as_nobody(directory: Path) -> dict[str, object]:
    if os.geteuid() != 0:
        return {"cwd": directory}
    user = pwd.getpwnam(_other_user())
    return {"cwd": directory, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
