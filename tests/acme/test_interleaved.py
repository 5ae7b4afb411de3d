"""Whatever requests are interleaved, repeated and raced over several workers, no invariant breaks.

Several workers share one database whose transactions are done one by one in an order that hypothesis chooses, as slow
threads and processes would do them; a worker can die between any two of its own.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import hypothesis.strategies as st
from cryptography import x509
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule
from sqlalchemy import Connection, select
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from opencertd.acme.nonces import Nonces
from opencertd.acme.states import AuthorizationStatus, ChallengeStatus, Order, OrderStatus
from opencertd.clock import FixedClock
from opencertd.model.audit import AuditEntry
from opencertd.model.certificates import CertificateState
from opencertd.store.acme import SqlAcmeStore
from opencertd.store.audit import SqlAuditStore
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.schema import acme_orders, certificates
from opencertd.validation.verdict import FailedProof, FailureKind
from tests.acme.rig import BASE, START, Client, PlayedValidator, Reply, Rig, ask, issuers
from tests.acme.signing import b64, csr_for, ec_key
from tests.issuance.chains import findings

T = TypeVar("T")
WORKERS = 3
BAD = "bad.example"
"""Nobody proves control of this."""

FINAL_ORDERS = {OrderStatus.VALID, OrderStatus.INVALID}
FINAL_CHALLENGES = {ChallengeStatus.VALID, ChallengeStatus.INVALID}
AFTER_VALID = {AuthorizationStatus.VALID, AuthorizationStatus.DEACTIVATED}
KEYS = [ec_key(), ec_key()]


class SteppedDatabase:
    """One worker's way to the database: what it asks is done when `step` says so, and not at all once it is dead."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner
        self.waiting: list[Callable[[], None]] = []

    def read(self, fn: Callable[[Connection], T], *, long: bool = False) -> Deferred[T]:
        return self._later(lambda: self._inner.read(fn))

    def glance(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        return self._later(lambda: self._inner.glance(fn))

    def write(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        return self._later(lambda: self._inner.write(fn))

    def _later(self, transaction: Callable[[], Deferred[T]]) -> Deferred[T]:
        answer: Deferred[T] = Deferred()

        def run() -> None:
            transaction().addBoth(lambda result: answer.callback(result) if not answer.called else None)

        self.waiting.append(run)
        return answer

    def step(self, which: int) -> None:
        """Do one of the transactions that wait."""
        self.waiting.pop(which % len(self.waiting))()


class Interleaving(RuleBasedStateMachine):
    """The clients, the workers, and what was seen of each record."""

    orders = Bundle("orders")
    bodies = Bundle("bodies")

    def __init__(self) -> None:
        super().__init__()
        self.inner = Database.in_memory()
        self.clock = FixedClock(START)
        records = tuple(issuer.record for issuer in issuers().all())
        SqlCertificateStore(self.inner, self.clock).add_issuers(records)
        self.store = SqlAcmeStore(self.inner, self.clock)
        self.nonces = Nonces(key=bytes(32), clock=self.clock, random=secrets.token_bytes)
        self.validator = PlayedValidator()
        self.validator.verdicts[BAD] = FailedProof(FailureKind.UNAUTHORIZED, "no")
        self.started = 0
        self.workers = [self.worker() for _ in range(WORKERS)]
        self.under_way: list[Deferred[Any]] = []
        self.seen: dict[str, Any] = {}
        self.taken: Counter[bytes] = Counter()

    def worker(self) -> Rig:
        self.started += 1
        database: Any = SteppedDatabase(self.inner)
        return Rig(database=database, clock=self.clock, validator=self.validator, owner=f"w{self.started}")

    @initialize()
    def register(self) -> None:
        self.clients = [Client(self.workers[0]) for _ in range(2)]
        for client in self.clients:
            self.begin(client.register())
            self.drain()
            assert client.kid is not None

    # What clients do

    @rule(target=orders, who=st.integers(0, 1), at=st.integers(0, WORKERS - 1), bad=st.booleans())
    def new_order(self, who: int, at: int, bad: bool) -> Any:
        self.numbered = getattr(self, "numbered", 0) + 1
        names = [f"o{self.numbered}.example", *([BAD] if bad else [f"p{self.numbered}.example"])]
        found: list[tuple[int, str]] = []

        def keep(reply: Reply) -> None:
            assert reply.status == 201
            found.append((who, reply.location.rpartition("/")[2]))

        identifiers = [{"type": "dns", "value": name} for name in names]
        self.begin(self.post(who, at, "/new-order", {"identifiers": identifiers}, keep))
        self.drain(at)
        return multiple(*found)

    @rule(order=orders, at=st.integers(0, WORKERS - 1), which=st.integers(0, 5))
    def answer_challenge(self, order: tuple[int, str], at: int, which: int) -> None:
        who, order_id = order
        challenges = [c for authorization in self.order(order_id).authorizations for c in authorization.challenges]
        if challenges:
            self.begin(self.post(who, at, f"/challenge/{challenges[which % len(challenges)].id}", {}))

    @rule(order=orders, at=st.integers(0, WORKERS - 1), all_at=st.integers(0, WORKERS - 1))
    def prove_all(self, order: tuple[int, str], at: int, all_at: int) -> None:
        """What most clients do, so that many orders get ready."""
        who, order_id = order
        for authorization in self.order(order_id).authorizations:
            self.begin(self.post(who, at, f"/challenge/{authorization.challenges[0].id}", {}))
        self.drain()
        self.begin(self.workers[all_at].work_off(f"jobs{all_at}"))
        self.drain()

    @rule(order=orders, at=st.integers(0, WORKERS - 1), key=st.integers(0, 1))
    def finalize(self, order: tuple[int, str], at: int, key: int) -> None:
        who, order_id = order
        names = [name.value for name in self.order(order_id).names]
        csr = csr_for(KEYS[key], *names)
        self.begin(self.post(who, at, f"/order/{order_id}/finalize", {"csr": b64(csr)}))

    @rule(
        order=orders,
        racers=st.lists(st.tuples(st.integers(0, WORKERS - 1), st.integers(0, 1)), min_size=2, max_size=4),
        turns=st.lists(st.integers(0, WORKERS - 1), max_size=40),
    )
    def race_to_finalize(self, order: tuple[int, str], racers: list[tuple[int, int]], turns: list[int]) -> None:
        """All racers are let in while the order is ready; then the workers take turns."""
        self.prove_all(order, 0, 1)
        for at, key in racers:
            self.finalize(order, at, key)
        for at in range(WORKERS):
            for _ in range(self.waiting(at)):
                self.database(at).step(0)
                self.flush()
        for at in turns:
            if self.waiting(at):
                self.database(at).step(0)
                self.flush()

    @rule(order=orders, at=st.integers(0, WORKERS - 1), which=st.integers(0, 1))
    def deactivate(self, order: tuple[int, str], at: int, which: int) -> None:
        who, order_id = order
        authorization = self.order(order_id).authorizations[which]
        self.begin(self.post(who, at, f"/authorization/{authorization.id}", {"status": "deactivated"}))

    @rule(order=orders, at=st.integers(0, WORKERS - 1))
    def read(self, order: tuple[int, str], at: int) -> None:
        who, order_id = order
        self.begin(self.post(who, at, f"/order/{order_id}", None))

    @precondition(lambda self: self.taken)
    @rule(which=st.integers(0, 1000), at=st.integers(0, WORKERS - 1))
    def repeat(self, which: int, at: int) -> None:
        """A request that was sent before, byte for byte."""
        bodies = list(self.taken)
        url, body = json.loads(bodies[which % len(bodies)])
        self.begin(self.send(at, url, body.encode()))

    # What workers do

    @rule(at=st.integers(0, WORKERS - 1))
    def do_jobs(self, at: int) -> None:
        self.begin(self.workers[at].work_off(f"jobs{at}"))

    @rule(at=st.integers(0, WORKERS - 1), which=st.integers(0, 20), times=st.integers(1, 5))
    def step(self, at: int, which: int, times: int) -> None:
        for _ in range(times):
            if self.waiting(at):
                self.database(at).step(which)
            self.flush()

    @rule(at=st.integers(0, WORKERS - 1))
    def die(self, at: int) -> None:
        self.workers[at] = self.worker()

    @rule(seconds=st.sampled_from([1, 61, 3_601, 9 * 3_600, 8 * 86_400]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))
        for rig in self.workers:
            rig.reactor.advance(seconds)
        self.flush()

    # What must hold

    @invariant()
    def certificates_are_those_of_orders(self) -> None:
        issued = self.issued()
        owners = Counter(min(names) for names in issued.values())
        assert not owners or max(owners.values()) == 1, "two certificates for one order"
        for order in self.all_orders():
            for authorization in order.authorizations:
                if any(set(names) & {authorization.name.value} - {BAD} for names in issued.values()):
                    proofs = [each.status for each in authorization.challenges]
                    assert ChallengeStatus.VALID in proofs, "a certificate for a name that was not proven"
            if order.status is OrderStatus.VALID:
                assert order.certificate_id is not None
                assert issued[order.certificate_id] == sorted(name.value for name in order.names)

    @invariant()
    def what_has_ended_stays_as_it_is(self) -> None:
        for order in self.all_orders():
            before = self.seen.get(order.id)
            if before in FINAL_ORDERS:
                assert order.status is before
            self.seen[order.id] = order.status
            for authorization in order.authorizations:
                before = self.seen.get(authorization.id)
                if before is AuthorizationStatus.VALID:
                    assert authorization.status in AFTER_VALID
                elif before not in {None, AuthorizationStatus.PENDING}:
                    assert authorization.status is before
                self.seen[authorization.id] = authorization.status
                valid = [each for each in authorization.challenges if each.status is ChallengeStatus.VALID]
                assert authorization.status is not AuthorizationStatus.VALID or valid
                for challenge in authorization.challenges:
                    before = self.seen.get(challenge.id)
                    assert before not in FINAL_CHALLENGES or challenge.status is before
                    self.seen[challenge.id] = challenge.status

    def teardown(self) -> None:
        """When all have their turn, nothing is left half done."""
        for _ in range(4):
            self.wait(8 * 86_400)
            self.drain()
            for at, rig in enumerate(self.workers):
                self.begin(rig.work_off(f"jobs{at}"))
                self.drain()
        for order in self.all_orders():
            assert order.status is not OrderStatus.PROCESSING
            for authorization in order.authorizations:
                assert ChallengeStatus.PROCESSING not in {each.status for each in authorization.challenges}
        self.certificates_are_those_of_orders()
        self.what_has_ended_stays_as_it_is()
        entries: list[AuditEntry] = []
        SqlAuditStore(self.inner, self.clock).page(None, 10_000).addCallback(entries.extend)
        assert findings(entries) == []

    # How

    async def post(
        self, who: int, at: int, path: str, payload: Any, keep: Callable[[Reply], None] = lambda reply: None
    ) -> None:
        client = self.clients[who]
        client.rig = self.workers[at]
        client.nonce = self.nonces.fresh()
        body = await client.signed(BASE + path, payload)
        reply = await self.send(at, BASE + path, body)
        if reply.problem != "badNonce":
            keep(reply)

    async def send(self, at: int, url: str, body: bytes) -> Reply:
        name = json.dumps([url, body.decode()]).encode()
        self.taken.setdefault(name, 0)
        reply = await ask(self.workers[at], "POST", url, body, {"Content-Type": "application/jose+json"})
        assert reply.status < 500, reply.body
        if reply.problem != "badNonce":
            self.taken[name] += 1
            assert self.taken[name] == 1, "a nonce was accepted twice"
        return reply

    def begin(self, deed: Coroutine[Any, Any, Any]) -> None:
        done = Deferred.fromCoroutine(deed)
        self.under_way.append(done)
        self.flush()

    def flush(self) -> None:
        for rig in self.workers:
            rig.treq.flush()
        still = []
        for done in self.under_way:
            failures: list[Failure] = []
            if done.called:
                done.addErrback(failures.append)
            else:
                still.append(done)
            for failure in failures:
                failure.raiseException()
        self.under_way = still

    def drain(self, only: int | None = None) -> None:
        """Everything that waits is done, in the order in which it was asked."""
        places = range(WORKERS) if only is None else (only,)
        while any(self.waiting(at) for at in places):
            for at in places:
                if self.waiting(at):
                    self.database(at).step(0)
            self.flush()

    def database(self, at: int) -> SteppedDatabase:
        found: Any = self.workers[at].database
        return found

    def waiting(self, at: int) -> int:
        return len(self.database(at).waiting)

    def order(self, order_id: str) -> Order:
        found: list[Order | None] = []
        self.store.order(order_id).addCallback(found.append)
        assert found[0] is not None
        return found[0]

    def all_orders(self) -> Iterator[Order]:
        ids: list[str] = []
        self.inner.read(lambda connection: ids.extend(connection.execute(select(acme_orders.c.id)).scalars()))
        return map(self.order, ids)

    def issued(self) -> dict[int, list[str]]:
        """The names of each certificate that was issued, as they stand in it."""
        rows: list[Any] = []
        query = select(certificates.c.id, certificates.c.certificate_der).where(
            certificates.c.state == CertificateState.ISSUED
        )
        self.inner.read(lambda connection: rows.extend(connection.execute(query)))
        return {row.id: _names(row.certificate_der) for row in rows}


def _names(certificate_der: bytes) -> list[str]:
    certificate = x509.load_der_x509_certificate(certificate_der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(names.get_values_for_type(x509.DNSName))


Interleaving.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestInterleaving = Interleaving.TestCase
