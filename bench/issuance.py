"""The core alone: certificates a second through the one door, durable on SQLite, with no protocol in front.

A P-256 key is certified by a P-256 issuer, with every check, lint and audit entry a client's request has; 64 requests
are outstanding at any time, so that commits are shared as they are under load. Beside it the rate at which the same
key signs the same bytes and does nothing else: the share of it is what the core leaves of the machine.

`python -m bench.issuance [--seconds S] [--profile FILE]` runs this alone; FILE is for `python -m pstats`. It is a
process of its own in `python -m bench` too, since a process has one reactor.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import json
import math
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react

from opencertd.asn1.dn import parse_dn
from opencertd.clock import SystemClock
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.ceremony import make_authorities, record_ca_certificates
from opencertd.issuance.shipped import shipped_profiles
from opencertd.model.request import IssuanceRequest
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from tests.ca import PUBLICATION, dns, make_issuers, request
from tests.interop.daemon import ROOT, environment

OUTSTANDING = 64
_SECONDS = 5.0
_WARM_UP = 200
_FASTEST = 5000
"""Wishes made beforehand for each second."""


@dataclass(frozen=True)
class Found:
    """Certificates a second, CPU microseconds of one, how busy the process was, and bare signatures a second."""

    rate: float
    cpu_us: float
    load: float
    raw_rate: float

    @property
    def share(self) -> float:
        """Of the rate of bare signatures."""
        return self.rate / self.raw_rate

    def __str__(self) -> str:
        return (
            f"issuance by the core, {OUTSTANDING} outstanding: {self.rate:.0f}/s, {self.cpu_us:.0f} µs CPU each "
            f"({self.load:.2f} cores); {self.share:.1%} of {self.raw_rate:.0f}/s bare P-256 signatures"
        )


def raw_rate(seconds: float = 1.0) -> float:
    """P-256 signatures a second over bytes as long as a certificate's, by one thread."""
    key, data = ec.generate_private_key(ec.SECP256R1()), os.urandom(500)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(100):
            key.sign(data, ec.ECDSA(hashes.SHA256()))
        count += 100
    return count / seconds


async def measure(directory: Path, seconds: float, profile: Path | None = None) -> Found:
    """Issue for `seconds` into a new database in `directory`."""
    clock = SystemClock()
    issuers = make_issuers(make_authorities(parse_dn("CN=Bench CA"), datetime.now(UTC)))
    database = Database.open(f"sqlite:///{directory}/bench.sqlite3", reactor)
    store = SqlCertificateStore(database, clock)
    await store.add_issuers(tuple(issuer.record for issuer in issuers.all()))
    await record_ca_certificates(issuers, store, "bench/0", clock.now())
    names = tuple(issuer.name for issuer in issuers.issuing())
    authority = CertificateAuthority(
        issuers=issuers,
        profiles=shipped_profiles(names, tuple(issuer.name for issuer in issuers.all())),
        publication=PUBLICATION,
        store=store,
        clock=clock,
        reactor=reactor,
        random=secrets.token_bytes,
        owner="bench/0",
    )
    await _issue(authority, [_wish(number) for number in range(_WARM_UP)])
    wishes = [_wish(number) for number in range(int(seconds * _FASTEST))]
    with _profiled(profile):
        began, cpu = time.perf_counter(), time.process_time()
        issued = await _issue(authority, wishes, until=began + seconds)
        took, spent = time.perf_counter() - began, time.process_time() - cpu
    await database.close()
    return Found(issued / took, spent / issued * 1e6, spent / took, raw_rate(min(seconds, 1.0)))


def _wish(number: int) -> IssuanceRequest:
    """A host's wish for a certificate of a new key, which is what hosts do."""
    host = f"host{number}.test"
    return request(key=ec.generate_private_key(ec.SECP256R1()), names=dns(host), subject=parse_dn(f"CN={host}"))


async def _issue(authority: CertificateAuthority, wishes: list[IssuanceRequest], until: float = math.inf) -> int:
    """Grant the wishes, or as many as go until that time."""
    waiting = iter(wishes)
    issued = 0

    async def lane() -> None:
        nonlocal issued
        for wish in waiting:
            await authority.issue(wish)
            issued += 1
            if time.perf_counter() >= until:
                return

    await DeferredList([Deferred.fromCoroutine(lane()) for _ in range(OUTSTANDING)], fireOnOneErrback=True)
    return issued


@contextlib.contextmanager
def _profiled(file: Path | None) -> Iterator[None]:
    if file is None:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    profile.dump_stats(file)


def in_a_process(directory: Path, seconds: float) -> Found:
    """What a process of its own finds, with its database in `directory`."""
    command = [
        sys.executable,
        "-m",
        "bench.issuance",
        "--json",
        "--seconds",
        str(seconds),
        "--directory",
        str(directory),
    ]
    done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the core could not be measured: {done.stderr}")
    return Found(**json.loads(done.stdout))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.issuance", description="Measure the core's own rate.")
    parser.add_argument("--seconds", type=float, default=_SECONDS)
    parser.add_argument("--profile", type=Path, help="write what cProfile finds in the reactor's thread to this file")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("--directory", type=Path, help="where the database is made (default: the temporary directory)")
    options = parser.parse_args()

    async def run(_reactor: Any) -> None:
        with tempfile.TemporaryDirectory(prefix="opencertd-bench-", dir=options.directory) as directory:
            found = await measure(Path(directory), options.seconds, options.profile)
        print(json.dumps(asdict(found)) if options.json else found)

    react(run)


if __name__ == "__main__":
    main()
