"""What is measured, in which order, and how much of it."""

from __future__ import annotations

import asyncio
import base64
import multiprocessing
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7

from bench import acme, est, issuance, key_types, ocsp, pebble
from bench.generators import generate, shares, spare_processes
from bench.measure import Result, memory
from bench.report import Report
from tests.interop.acme_client import thumbprint_of
from tests.interop.daemon import Daemon, environment, opencert_command

USER, PASSWORD = "bench", "bench-password"
SUBJECT = "bench.test"
MOST_CLIENTS = 50
ACME = "ACME order to download, http-01, P-256"
PEBBLE = "ACME by Pebble, in memory"
OCSP_CONNECTIONS = 12
ENROL_CLIENTS = 8
SLACK = 60.0  # seconds a load may take beyond its time before it is given up


@dataclass(frozen=True)
class Amount:
    """How much of everything: seconds of each load, distinct serials, starts, clients of the ACME loads.

    `key_type_seconds`: for each number about a key type.
    """

    seconds: float = 10.0
    serials: int = 10_000
    issue_seconds: float = 120.0
    starts: int = 3
    acme_clients: tuple[int, ...] = (1, pebble.CLIENTS, MOST_CLIENTS)
    key_type_seconds: float = 0.5


QUICK = Amount(seconds=1.0, serials=60, issue_seconds=10.0, starts=1, acme_clients=(1, 4), key_type_seconds=0.01)


class Bench:
    """One daemon, and the loads put on it one after another."""

    def __init__(self, directory: Path, amount: Amount, say: Callable[[str], None], *, workers: int = 1) -> None:
        self._directory = directory
        self._amount = amount
        self._say = say
        users, password = directory / "est-users", directory / "password"
        password.write_text(PASSWORD + "\n")
        command = [*opencert_command(), "user", "add", USER, "--est-users", str(users)]
        done = subprocess.run(
            [*command, "--password-file", str(password)], env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        self._workers = workers
        self._ca = Daemon(directory / "state", dn="CN=Bench CA", workers=workers, extra=("--est-users", str(users)))
        self._accounts = [acme.new_account_key() for _ in range(MOST_CLIENTS)]
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self._by_password = est.EnrolTask(
            port=self._ca.port,
            trust_anchors=str(self._ca.trust_anchors),
            path=est.SIMPLEENROLL,
            headers={"Authorization": f"Basic {basic}", "Content-Type": "application/pkcs10"},
            subject=SUBJECT,
            identity=None,
            clients=0,
            seconds=amount.seconds,
        )

    def run(self, quick: bool) -> Report:
        """Everything, in order."""
        self._say("the core")
        core = issuance.in_a_process(self._directory, self._amount.seconds)
        self._say(str(core))
        self._say("starting")
        first, later = self._ca.start(), []
        for _ in range(self._amount.starts):
            self._ca.stop()
            later.append(self._ca.start())
        try:
            idle = memory(self._ca.pids())
            with self._responders():
                results = [self._show(result) for result in self._loads()]
            after = memory(self._ca.pids())
        finally:
            self._ca.stop()
        self._say("key types")
        costs = list(key_types.measure(self._amount.key_type_seconds))
        return Report(core, round(first, 3), [round(s, 3) for s in later], idle, after, results, costs, quick)

    def with_orders(self, clients: int, fill: Callable[[Path], None]) -> Result:
        """The ACME load alone, on a daemon whose database `fill` has filled."""
        self._ca.start()
        self._ca.stop()
        fill(self._ca.state / "opencertd.sqlite3")
        self._ca.start()
        try:
            with self._responders():
                return self._acme(clients)
        finally:
            self._ca.stop()

    def beside_pebble(self) -> tuple[Result, Result]:
        """The ACME load by as many clients: Pebble's on as many cores as there are workers, then the daemon's."""
        self._ca.start()
        try:
            with self._responders():
                return self._pebble(cores=self._workers), self._acme(pebble.CLIENTS)
        finally:
            self._ca.stop()

    def _show(self, result: Result) -> Result:
        self._say(f"{result.name}, {result.clients} clients: {result.rate:.0f}/s")
        return result

    def _loads(self) -> Iterator[Result]:
        if pebble.there_is_one():
            yield self._pebble()
        for clients in self._amount.acme_clients:
            yield self._acme(clients)
        yield self._enrol("EST simpleenroll by password", self._by_password)
        identity = self._identity()
        headers = {"Content-Type": "application/pkcs10"}
        by_certificate = replace(self._by_password, path=est.SIMPLEREENROLL, headers=headers, identity=identity)
        yield self._enrol("EST simplereenroll by client certificate", by_certificate)
        enough = replace(by_certificate, path=est.API, seconds=self._amount.issue_seconds)
        yield self._enrol("/ca/csr by client certificate", enough, count=self._amount.serials)
        yield from self._ocsp(by_certificate)

    @contextmanager
    def _responders(self) -> Iterator[None]:
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(2, timeout=30)
        thumbprints = tuple(thumbprint_of(acme.load_key(key)) for key in self._accounts)
        task = acme.RespondersTask(self._ca.http01_port, self._ca.dns_port, thumbprints)
        process = context.Process(target=acme.serve_validations, args=(task, ready), daemon=True)
        process.start()
        try:
            ready.wait()
            yield
        finally:
            process.terminate()
            process.join()

    def _pebble(self, cores: int | None = None) -> Result:
        """The same load on the peer, which validates at the same places."""
        peer = pebble.Pebble(self._directory, self._ca.http01_port, self._ca.dns_port, cores)
        peer.start()
        try:
            tasks = self._acme_tasks(pebble.CLIENTS, peer.port, peer.trust_anchors, pebble.DIRECTORY)
            limit = self._amount.seconds + SLACK
            return generate(PEBBLE, peer, acme.acme_load, tasks, clients=pebble.CLIENTS, limit=limit)
        finally:
            peer.stop()

    def _acme(self, clients: int) -> Result:
        tasks = self._acme_tasks(clients, self._ca.port, self._ca.trust_anchors)
        return generate(ACME, self._ca, acme.acme_load, tasks, clients=clients, limit=self._amount.seconds + SLACK)

    def _acme_tasks(
        self, clients: int, port: int, trust_anchors: Path, directory: str = "/directory"
    ) -> list[acme.AcmeTask]:
        numbered = list(enumerate(self._accounts[:clients]))
        tasks, start = [], 0
        for share in shares(clients):
            some = tuple(numbered[start : start + share])
            start += share
            label, seconds = f"x{clients}", self._amount.seconds
            tasks.append(acme.AcmeTask(port, str(trust_anchors), some, label, seconds, directory))
        return tasks

    def _enrol(self, name: str, task: est.EnrolTask, count: int | None = None) -> Result:
        split = shares(ENROL_CLIENTS)
        counts = [None if count is None else -(-count // len(split))] * len(split)
        tasks = [replace(task, clients=share, count=some) for share, some in zip(split, counts, strict=True)]
        limit = task.seconds + SLACK
        return generate(name, self._ca, est.enrol_load, tasks, clients=ENROL_CLIENTS, limit=limit)

    def _identity(self) -> tuple[str, str]:
        """Files of a client certificate for `SUBJECT`, enrolled by password, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        body = asyncio.run(est.enrol_once(self._by_password, key))
        (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
        files = self._directory / "client.pem", self._directory / "client.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(files[0]), str(files[1])

    def _ocsp(self, client: est.EnrolTask) -> Iterator[Result]:
        issuer, name = self._issuer(client)
        serials = asyncio.run(est.serials_of(client, name, self._amount.serials))
        yield self._ask("OCSP, the same certificate", issuer, serials[:1], once=False)
        number = f"{len(serials):,} certificates"
        yield self._ask(f"OCSP, {number}, each for the first time", issuer, serials, once=True)
        yield self._ask(f"OCSP, {number}, asked before", issuer, serials, once=False)

    def _issuer(self, client: est.EnrolTask) -> tuple[bytes, str]:
        """The issuing CA's certificate and its name in the inventory, by the client certificate it issued."""
        assert client.identity is not None
        leaf = x509.load_pem_x509_certificate(Path(client.identity[0]).read_bytes())
        cacerts = replace(client, path="/.well-known/est/cacerts")
        answer = asyncio.run(est.connection_of(cacerts).request("GET", cacerts.path))
        authorities = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body))
        (issuer,) = (c for c in authorities if c.subject == leaf.issuer)
        name = "ecdsa" if isinstance(issuer.public_key(), ec.EllipticCurvePublicKey) else "rsa"
        return issuer.public_bytes(Encoding.DER), name

    def _ask(self, name: str, issuer: bytes, serials: tuple[int, ...], *, once: bool) -> Result:
        processes = spare_processes(OCSP_CONNECTIONS)
        each = OCSP_CONNECTIONS // processes
        tasks = [
            ocsp.OcspTask(
                port=self._ca.http_port,
                issuer_der=issuer,
                serials=serials[number::processes] if once else serials,
                connections=each,
                seconds=self._amount.seconds + (SLACK if once else 0),
                once=once,
            )
            for number in range(processes)
        ]
        limit = self._amount.seconds + 2 * SLACK
        return generate(name, self._ca, ocsp.ask_load, tasks, clients=each * processes, limit=limit)
