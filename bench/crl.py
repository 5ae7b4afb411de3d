"""What a CRL of many entries costs the process that makes it: time, memory, and how long the reactor is held meanwhile.

`python -m bench.crl [--entries N] [--shards N]`: a CA with N revoked certificates on SQLite publishes its CRL of all,
then revokes one more and publishes its shard. Memory is what the process holds at most beyond what it held before.
Beside it what `openssl ca -gencrl` takes for as many.
"""

from __future__ import annotations

import argparse
import resource
import secrets
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from twisted.internet.task import LoopingCall, react
from twisted.internet.threads import deferToThreadPool

from opencertd.asn1.crl import encode_entry
from opencertd.clock import SystemClock
from opencertd.crl.server import CrlServer
from opencertd.crl.store import Line
from opencertd.crl.terms import CrlTerms
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.model.crl_parts import Partition, shard_of
from opencertd.model.requester import NameGrant, Proof, Requester
from opencertd.store.database import Database
from opencertd.stores import Stores
from tests.ca import make_issuers

_PART = 50_000
_CERTIFICATES = (
    "INSERT INTO certificates (id, issuer_id, serial, state, profile, requester, requester_label, subject, names,"
    " spki_sha256, not_before, not_after, owner, intended_at, issued_at, certificate_der)"
    " VALUES (?, ?, ?, 'issued', 'default', 'bench', '', '', '[]', '', 0, ?, 'bench/0', 0, 0, x'00')"
)
_REVOCATIONS = (
    "INSERT INTO revocations (certificate_id, issuer_id, serial, not_after, revoked_at, reason, recorded_at, state,"
    " changes, entry_der, bucket, ca) VALUES (?, ?, ?, ?, ?, 1, ?, 'revoked', 1, ?, ?, 0)"
)


def fill(path: Path, issuer_id: str, entries: int, *, good: int) -> None:
    """Put so many revoked certificates into the database, and one good one with the serial `good`."""
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    second, until = int(now.timestamp()), int(now.timestamp()) + 400 * 86400
    revocation = Revocation(now, RevocationReason.KEY_COMPROMISE)
    with closing(sqlite3.connect(path)) as connection:
        for first in range(0, entries, _PART):
            numbers = range(first, min(first + _PART, entries))
            serials = [1 << 150 | secrets.randbits(150) for _ in numbers]
            named = [(1000 + n, issuer_id, f"{serial:x}") for n, serial in zip(numbers, serials, strict=True)]
            connection.executemany(_CERTIFICATES, [(*name, until) for name in named])
            connection.executemany(
                _REVOCATIONS,
                [
                    (*name, until, second, second * 1000, encode_entry(serial, revocation), serial & 0xFFFF)
                    for name, serial in zip(named, serials, strict=True)
                ],
            )
        connection.execute(_CERTIFICATES, (999, issuer_id, f"{good:x}", until))
        connection.commit()


class Held:
    """The longest time that the reactor was late for what should run each millisecond."""

    def __init__(self, reactor: Any) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()
        loop = LoopingCall(self._look)
        loop.clock = reactor
        loop.start(0.001)

    def _look(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last - 0.001)
        self._last = now

    def take(self) -> float:
        """The longest since it was last asked, in milliseconds."""
        longest, self.longest = self.longest, 0.0
        return longest * 1000


async def measure(reactor: Any, entries: int, shards: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "ca.db")
        database = Database.open(f"sqlite:///{path}", reactor)
        clock = SystemClock()
        stores = Stores.over(database, clock)
        issuers = make_issuers()
        await stores.certificates.add_issuers(tuple(issuer.record for issuer in issuers.all()))
        issuer = issuers.issuing()[0]
        good = 1 << 150 | 5
        fill(path, issuer.id, entries, good=good)
        terms = CrlTerms(partition=Partition(shards), points=("http://ca.test/ca/{issuer}/crl/{part}",))

        def elsewhere(work: Any) -> Any:
            return deferToThreadPool(reactor, reactor.getThreadPool(), work)

        crls = CrlServer(
            issuers=issuers, store=stores.crls, jobs=stores.jobs, clock=clock, elsewhere=elsewhere, terms=terms
        )
        held = Held(reactor)
        await _pause(reactor)
        before = held.take()
        for round_ in ("first", "again"):
            _reset_peak()
            rss = _rss("VmRSS")
            started = time.perf_counter()
            crl = await crls.publish(issuer.id)
            took = time.perf_counter() - started
            print(
                f"all {entries} entries, {round_}: {took:.2f} s, {len(crl.crl_der) / 1e6:.1f} MB, memory at most"
                f" +{(_rss('VmHWM') - rss) / 1024:.0f} MB, reactor held for {held.take():.0f} ms (idle {before:.0f})"
            )
        line = Line(issuer.id, shard_of(good, shards))
        await crls.publish(issuer.id, line)
        held.take()
        started = time.perf_counter()
        by = Requester(Proof.DAEMON, "bench", "bench", NameGrant())
        now = clock.now().replace(microsecond=0)
        await stores.certificates.revoke(issuer.id, good, Revocation(now, RevocationReason.SUPERSEDED), by)
        crl = await crls.publish(issuer.id, line)
        took = (time.perf_counter() - started) * 1000
        print(
            f"one more revocation, shard of {entries // shards}: {took:.0f} ms, {len(crl.crl_der) / 1e3:.0f} kB,"
            f" reactor held for {held.take():.0f} ms"
        )
        await database.close()


def _pause(reactor: Any) -> Any:
    from twisted.internet.task import deferLater

    return deferLater(reactor, 0.5)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _rss(name: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def openssl(entries: int) -> None:
    """`openssl ca -gencrl` over an index of so many lines."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c -subj /CN=x -days 3650"
        subprocess.run(["openssl", *new.split()], cwd=home, check=True, capture_output=True)
        (home / "cnf").write_text(
            "[ca]\ndefault_ca=a\n[a]\ndatabase=i\ncertificate=c\nprivate_key=k\ndefault_md=sha256\ndefault_crl_days=7\n"
        )
        (home / "i").write_text(
            "".join(
                f"R\t350101000000Z\t250101000000Z,keyCompromise\t{1 << 150 | secrets.randbits(150):X}\tunknown\t/CN=a\n"
                for _ in range(entries)
            )
        )
        started = time.perf_counter()
        make = "openssl ca -config cnf -gencrl -out o"
        subprocess.run(make.split(), cwd=home, check=True, capture_output=True)
        took = time.perf_counter() - started
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"openssl ca -gencrl: {took:.2f} s, {most:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.crl", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=100)
    asked = parser.parse_args()
    openssl(asked.entries)
    from twisted.internet.defer import ensureDeferred

    react(lambda reactor: ensureDeferred(measure(reactor, asked.entries, asked.shards)))


if __name__ == "__main__":
    main()
