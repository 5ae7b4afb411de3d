"""A revocation on one worker shows in OCSP and on every CRL of all workers within a second, while all are busy."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tests.interop.clients import program, run
from tests.interop.daemon import Daemon
from tests.interop.https import PASSWORD, USER, Identity, enrol
from tests.interop.revoking import revoke
from tests.interop.test_crl_parts import points
from tests.interop.test_status import issuer_file
from tests.interop.wire import Connection
from tests.postgres import running_cluster

WORKERS = 3
ROUNDS = 8
SHOWS = 1.0  # seconds
GIVE_UP = 10.0
PAUSE = 0.01
HTTP = "/ca/ecdsa/crl"


@pytest.fixture(params=["sqlite", "postgresql"])
def ca(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "ca", workers=WORKERS, crl_path="/ca/{issuer}/crl/{part}")
    users, password, settings = tmp_path / "users", tmp_path / "password", tmp_path / "opencertd.toml"
    password.write_text(PASSWORD)
    run("opencert", "user", "add", USER, "--est-users", users, "--password-file", password)
    crls = f'[crls]\nshards = 4\ndelta = ["{daemon.http_url}{HTTP}/delta"]\n'
    daemon.extra = ("--config", str(settings), "--est-users", str(users))
    if request.param == "sqlite":
        settings.write_text(crls)
        with daemon.running():
            yield daemon
    else:
        with running_cluster() as cluster:
            settings.write_text(f'database = "{cluster.new_database()}"\n{crls}')
            with daemon.running():
                yield daemon
    assert daemon.faults() == []


@contextmanager
def load(*urls: str) -> Iterator[None]:
    """wrk at each of the URLs, as fast as they are answered."""
    command = (*program("wrk"), "-t1", "-c24", "-d600s")
    running = [subprocess.Popen([*command, url], stdout=subprocess.DEVNULL) for url in urls]
    try:
        yield
        assert all(process.poll() is None for process in running)
    finally:
        for process in running:
            process.kill()
            process.wait()


@dataclass
class Watcher:
    """A connection to one worker, which asks for one thing again and again."""

    worker: int
    kind: str
    connection: Connection
    seconds: list[float] = field(default_factory=list)

    async def watch(self, path: str, serial: int, begun: asyncio.Future[float]) -> None:
        """Ask until the revocation shows; how long that took from when it was answered."""
        until = time.monotonic() + GIVE_UP
        while time.monotonic() < until:
            answer = await self.connection.request("GET", path)
            assert answer.status == 200, (self, answer)
            if self._shows(answer.body, serial):
                self.seconds.append(max(0.0, time.monotonic() - await begun))
                return
            await asyncio.sleep(PAUSE)
        pytest.fail(f"{self.kind} of worker {self.worker} does not show it after {GIVE_UP} s")

    def _shows(self, body: bytes, serial: int) -> bool:
        if self.kind == "ocsp":
            return ocsp.load_der_ocsp_response(body).certificate_status is ocsp.OCSPCertStatus.REVOKED
        return x509.load_der_x509_crl(body).get_revoked_certificate_by_serial_number(serial) is not None


def worker_of(pids: Sequence[int], server_port: int, client_port: int) -> int | None:
    """Which process has the server's end of a connection."""
    tables = (Path("/proc/net") / name for name in ("tcp", "tcp6"))
    for line in (line for table in tables for line in table.read_text().splitlines()[1:]):
        _, local, remote, _, *rest = line.split()
        if int(local.split(":")[1], 16) == server_port and int(remote.split(":")[1], 16) == client_port:
            link = f"socket:[{rest[5]}]"
            return next((pid for pid in pids if link in links(pid)), None)
    return None


def links(pid: int) -> set[str]:
    """What a process has open."""
    return {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}


async def watchers(ca: Daemon, kinds: Sequence[str]) -> list[Watcher]:
    """One for each worker and kind: connections are made until each worker has enough of them."""
    pids, free = ca.pids(), {kind: set[int]() for kind in kinds}
    found: list[Watcher] = []
    for _ in range(400):
        connection = Connection("127.0.0.1", ca.http_port)
        await connection.request("GET", HTTP)
        assert connection.local_port is not None
        pid = worker_of(pids, ca.http_port, connection.local_port)
        kind = next((kind for kind, have in free.items() if pid not in have), None)
        if pid is None or kind is None:
            connection.close()
            continue
        free[kind].add(pid)
        found.append(Watcher(pid, kind, connection))
        if len(found) == WORKERS * len(kinds):
            return found
    pytest.fail(f"not every worker was reached: {[(one.worker, one.kind) for one in found]}")


def ocsp_path(leaf: x509.Certificate, issuer: x509.Certificate) -> str:
    der = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, hashes.SHA1()).build().public_bytes(Encoding.DER)
    return f"/ca/ocsp/{quote(base64.b64encode(der), safe='')}"


async def measure(ca: Daemon, leaves: Sequence[Identity], issuer: x509.Certificate) -> list[Watcher]:
    """Revoke one certificate after the other, and watch for each where it shows."""
    everybody = await watchers(ca, ("ocsp", "all", "shard", "delta"))
    for leaf in leaves:
        (named,) = points(leaf.certificate)
        paths = {
            "ocsp": ocsp_path(leaf.certificate, issuer),
            "all": HTTP,
            "shard": named.removeprefix(ca.http_url),
            "delta": f"{HTTP}/delta",
        }
        begun: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        serial = leaf.certificate.serial_number
        watching = [asyncio.ensure_future(one.watch(paths[one.kind], serial, begun)) for one in everybody]
        await asyncio.sleep(0.7)  # by then each worker has said "good" of it and remembers that
        await asyncio.to_thread(revoke, ca, leaf, "superseded")
        begun.set_result(time.monotonic())
        await asyncio.gather(*watching)
    for one in everybody:
        one.connection.close()
    return everybody


def test_within_a_second_under_full_load(ca: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaves = [enrol(ca, tmp_path, f"shows-{number}.test") for number in range(ROUNDS + 1)]
    issuer = x509.load_pem_x509_certificate(issuer_file(ca, leaves[0].certificate, tmp_path).read_bytes())
    good = ocsp_path(leaves.pop().certificate, issuer)
    with load(f"{ca.http_url}{good}", f"{ca.http_url}{HTTP}"):
        seen = asyncio.run(measure(ca, leaves, issuer))
    worst = {
        kind: max(max(one.seconds) for one in seen if one.kind == kind) for kind in ("ocsp", "all", "shard", "delta")
    }
    with capsys.disabled():
        print(f"\nuntil a revocation shows, worst of {ROUNDS} over {WORKERS} workers:", end=" ")
        print(", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in worst.items()))
    assert {len(one.seconds) for one in seen} == {ROUNDS}
    # One round may hit a moment in which the machine does something else: it has no more cores than all this needs.
    second = {
        kind: sorted(max(one.seconds[n] for one in seen if one.kind == kind) for n in range(ROUNDS))[-2]
        for kind in worst
    }
    assert max(second.values()) < SHOWS, second
    assert max(worst.values()) < 3 * SHOWS, worst
