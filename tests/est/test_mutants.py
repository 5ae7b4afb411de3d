"""10,000 bent bodies for each operation, under each label and by whoever asks: answered or refused, and forgotten."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock as Reactor
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.iweb import IRequest

from opencertd.asn1 import der
from opencertd.est import resource
from opencertd.est.binding import BindingRule, BindingRules
from opencertd.keys.channel_binding import ChannelBinding
from opencertd.keys.kinds import PrivateKey
from opencertd.model.requester import ANY_NAME, NameGrant, Proof, Requester
from opencertd.web.site import EdgeSite, build_site
from tests.est.mutants import KEY_NAME, Mutants, plain, signed
from tests.est.rig import USER, Rig, holder, some_key, some_rsa_key
from tests.web.wire import Wire, parse

EST = "/.well-known/est"
LABELS = ("", "/default", "/rsa", "/ecdsa", "/tls-server", "/nowhere")
OPERATIONS = {
    "cacerts": "GET",
    "csrattrs": "GET",
    "simpleenroll": "POST",
    "simplereenroll": "POST",
    "serverkeygen": "POST",
    "fullcmc": "POST",
}
BODIES = 10_000
KEPT = 200
"""Certificates after which the store is emptied."""

MOST_SECONDS = 2.0
MOST_BYTES = 8_000_000
"""What the process may grow by from the first quarter of the bodies to the last: 1 kB a body."""


@contextlib.contextmanager
def nothing_in_the_log() -> Iterator[None]:
    """No failure is logged, and nothing critical."""
    seen: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event or event.get("isError") or event["log_level"].name == "critical":
            seen.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not seen, seen[0]


def resident() -> int:
    """This process's memory, in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def at_once(make: Any) -> Deferred[PrivateKey]:
    """RSA keys cost more than all the rest together; one has to do."""
    return succeed(some_rsa_key() if hasattr(make, "func") else make())


class Target(Rig):
    """A CA with all that EST offers, and one after another of those who may ask it. `asked` is an answer's status."""

    def __init__(self) -> None:
        bindings = BindingRules(BindingRule.WHEN_PRESENT, {"ecdsa": BindingRule.REQUIRED, "rsa": BindingRule.OFF})
        known = {"password:estuser": {KEY_NAME: bytes(32)}}
        super().__init__(est={"bindings": bindings, "decrypt_keys": known, "elsewhere": at_once})
        self.site: EdgeSite = build_site(self.root.edges, reactor=Reactor())
        self.line = self.connected()
        self.people: tuple[Requester | None, ...] = ()

    def connected(self) -> Wire:
        return Wire(self.site, Reactor())

    def asked(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> int:
        """The status of one request's answer, which is whole and at once."""
        said = [f"{name}: {value}".encode("latin-1") for name, value in headers]
        lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: ca.test", *said, b"Content-Length: %d" % len(body)]
        status, _, _ = parse(self.line.send(b"\r\n".join(lines) + b"\r\n\r\n" + body))
        if self.line.closed:
            self.line = self.connected()
        if len(self.store.records) > KEPT:
            self.store.records.clear()
            self.store.keys.clear()
        self.store.audit.clear()
        return status


async def everybody(target: Target) -> tuple[Requester | None, ...]:
    """One for each proof that there is, and nobody."""
    key = some_key()
    target.door.who = USER
    request = signed(key, plain(key))
    response, body = await target.ask("POST", f"{EST}/simpleenroll", request, Content_Type="application/pkcs10")
    assert response.code == 200, body
    (record,) = target.store.records.values()
    assert record.certificate_der is not None
    mine = holder(x509.load_der_x509_certificate(record.certificate_der))
    certificate_der = mine.certificate_der
    return (
        None,
        USER,
        dataclasses.replace(USER, id="limited", grant=NameGrant(patterns=("*.test",))),
        Requester(Proof.ENROLMENT_PASSWORD, "once", "once", ANY_NAME),
        Requester(Proof.BEARER_TOKEN, "https://idp.test/ann", "ann", ANY_NAME),
        mine,
        dataclasses.replace(mine, grant=ANY_NAME),
        Requester(Proof.MANUFACTURER_CERTIFICATE, "acme:00", "device", ANY_NAME, certificate_der=certificate_der),
    )


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Target:
    binding = ChannelBinding("tls-exporter", bytes(32))

    def of(_: IRequest) -> ChannelBinding:
        return binding

    monkeypatch.setattr(resource, "request_binding", of)
    return Target()


@functools.cache
def bodies() -> list[bytes]:
    """The same ones for each operation: to make them costs as much as to answer them."""
    mutants = Mutants("bodies", some_key(), some_rsa_key())
    return [mutants.body() for _ in range(BODIES)]


def bombard(target: Target, operation: str, people: tuple[Requester | None, ...]) -> Counter[int]:
    """The statuses of all answers. Fails on the first that is no answer or refusal, and when memory or time grows."""
    mutants = Mutants(operation, some_key())
    statuses: Counter[int] = Counter()
    before = 0
    for number in range(BODIES):
        if number == BODIES // 4:
            before = resident()
        target.door.who = people[number % len(people)]
        label = LABELS[number // len(people) % len(LABELS)]
        body, began = bodies()[number], time.process_time()
        status = target.asked(OPERATIONS[operation], f"{EST}{label}/{operation}", mutants.headers(), body)
        assert 200 <= status < 300 or 400 <= status < 500 or status in ALLOWED[operation], (number, body.hex())
        assert time.process_time() - began < MOST_SECONDS, (number, body.hex())
        statuses[status] += 1
    assert resident() - before < MOST_BYTES
    return statuses


ALLOWED = {operation: {501} if operation == "fullcmc" else set() for operation in OPERATIONS}
"""Full CMC is not there, and says so (RFC 9110 §15.6.2)."""

REACHED = {
    "cacerts": {200, 404, 406},
    "csrattrs": {200, 401, 404},
    "simpleenroll": {200, 400, 401, 403, 404, 406, 415},
    "simplereenroll": {200, 400, 401, 403, 404, 406, 415},
    "serverkeygen": {200, 400, 401, 403, 404, 406, 415},
    "fullcmc": {404, 501},
}
"""Without these the bodies would not have come far."""


@pytest.mark.parametrize("operation", OPERATIONS)
def test_bent_bodies_are_answered_or_refused(target: Target, operation: str) -> None:
    people: list[tuple[Requester | None, ...]] = []
    Deferred.fromCoroutine(everybody(target)).addCallback(people.append)
    target.treq.flush()
    with nothing_in_the_log():
        statuses = bombard(target, operation, people[0])
    print(operation, dict(statuses))
    assert REACHED[operation] <= set(statuses)


@functools.cache
def one_target() -> Target:
    """One for all of hypothesis's examples."""
    return Target()


def elements() -> st.SearchStrategy[bytes]:
    """DER of any shape: whatever may be read as an attribute, an extension or a name."""
    leaves = st.builds(
        der.tlv, st.sampled_from((1, 2, 3, 4, 5, 6, 12, 19, 22, 23, 24, 30, 0x82)), st.binary(max_size=20)
    )
    tags = st.sampled_from((0x30, 0x31, 0xA0, 0xA1, 0xA3))
    return st.recursive(
        leaves | st.sampled_from([der.oid(f"1.2.840.113549.1.9.{number}") for number in (7, 14, 15)]),
        lambda inner: st.builds(lambda tag, parts: der.tlv(tag, b"".join(parts)), tags, st.lists(inner, max_size=4)),
        max_leaves=20,
    )


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(elements(), max_size=4), st.sampled_from(("simpleenroll", "serverkeygen")), st.booleans())
def test_any_structure_in_a_signed_request_is_answered_or_refused(
    parts: list[bytes], operation: str, whole: bool
) -> None:
    target, key = one_target(), some_key()
    information = plain(key)
    *head, attributes = der.children(information, der.read_only(information, der.SEQUENCE))
    shown = [part.raw(information) for part in head]
    if whole:  # instead of the subject
        shown[1] = b"".join(parts)
    else:
        shown.append(der.tlv(0xA0, attributes.content(information) + b"".join(parts)))
    request = signed(key, der.sequence(*shown))
    target.door.who = USER
    with nothing_in_the_log():
        status = target.asked("POST", f"{EST}/{operation}", [("Content-Type", "application/pkcs10")], request)
    assert status in {200, 400, 403}


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(sorted(OPERATIONS)), st.text(max_size=20), st.text(max_size=20))
def test_any_bytes_and_headers_are_answered_or_refused(body: bytes, operation: str, kind: str, accept: str) -> None:
    target = one_target()
    target.door.who = USER
    words = [("Content-Type", kind), ("Accept", accept)]
    sendable = [(name, text.encode("utf-8").decode("latin-1")) for name, text in words if text.isprintable()]
    with nothing_in_the_log():
        status = target.asked(OPERATIONS[operation], f"{EST}/{operation}", sendable, body)
    assert 200 <= status < 500 or status in ALLOWED[operation]
