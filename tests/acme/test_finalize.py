"""Finalize: only a fitting CSR, only one certificate, whatever is raced, retried, hung up on or killed."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred, gatherResults

from opencertd.acme.states import Order
from opencertd.acme.store import Beginning
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.along import Along
from opencertd.model.names import parse_dns_name
from opencertd.model.requester import Proof
from tests.acme.rig import BASE, LEASE, PATIENCE, Client, Reply, Rig, issuers
from tests.acme.signing import b64, csr_for, ec_key, rsa_key, spki_of
from tests.ca import last_bit_flipped

NAME = "a.example"


async def ready(rig: Rig, *names: str) -> tuple[Client, Reply]:
    client = Client(rig)
    return client, await client.ready(*names or (NAME,))


async def status_of(client: Client, order: Reply) -> str:
    return str((await client.post(order.location)).json["status"])


def kept(rig: Rig) -> int:
    """How many certificates the inventory has."""
    found: list[Any] = []
    rig.authority.store.inventory(0, 1000).addCallback(found.extend)
    return len(found)


@pytest_twisted.ensureDeferred
async def test_a_whole_flow_gives_the_chain_without_the_root() -> None:
    client = Client(Rig())
    key = ec_key()
    final, pem = await client.certificate("a.example", "*.b.example", key=key)
    leaf, issuer = x509.load_pem_x509_certificates(pem)
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    ) == ["a.example", "*.b.example"]
    assert spki_of(key) == leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    leaf.verify_directly_issued_by(issuer)
    assert issuer.issuer != issuer.subject
    assert issuer.public_bytes(Encoding.DER) in {each.certificate_der for each in issuers().all()}
    assert final.headers["location"] == [final.json["certificate"].removesuffix("/certificate")]


@pytest_twisted.ensureDeferred
async def test_while_roots_change_the_shorter_chain_is_an_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    client = Client(rig)
    final, only = await client.certificate("a.example")
    url = final.json["certificate"]
    alternate = f"{url}?chain=1"
    usual = await client.post(url)
    assert not any("alternate" in link for link in usual.headers["link"])
    assert (await client.post(alternate)).status == 404
    chains_of = rig.authority.chains_of
    bridge = issuers().all()[1].certificate_der

    def two(issuer_id: str, der: bytes) -> tuple[tuple[bytes, ...], ...]:
        (chain,) = chains_of(issuer_id, der)
        return (*chain, bridge), chain

    monkeypatch.setattr(rig.authority, "chains_of", two)
    longer = await client.post(url)
    assert f'<{alternate}>;rel="alternate"' in longer.headers["link"]
    assert len(x509.load_pem_x509_certificates(longer.body)) == 3
    assert (await client.post(alternate)).body == only
    assert (await Client(rig).post(alternate)).status >= 400


@pytest_twisted.ensureDeferred
async def test_the_chain_is_downloaded_as_pem_with_its_own_media_type() -> None:
    client, order = await ready(Rig())
    final = await client.finalize(order, csr_for(ec_key(), NAME))
    assert (final.status, final.location, final.json["status"]) == (200, order.location, "valid")
    assert "retry-after" not in final.headers
    download = await client.post(final.json["certificate"])
    assert (download.status, download.headers["content-type"]) == (200, ["application/pem-certificate-chain"])
    assert download.body.count(b"-----BEGIN CERTIFICATE-----\n") == 2
    assert download.body.endswith(b"-----END CERTIFICATE-----\n")


@pytest_twisted.ensureDeferred
async def test_the_core_is_asked_for_exactly_the_order() -> None:
    rig = Rig()
    client, order = await ready(rig)
    await client.finalize(order, csr_for(ec_key(), NAME))
    (request,) = rig.authority.asked
    assert request.requester.proof is Proof.ACME_ACCOUNT
    assert str(client.kid).endswith(f"/{request.requester.id}")
    assert request.requester.grant.names == frozenset({parse_dns_name(NAME)})
    assert request.requester.grant.patterns == ()
    assert request.transaction is not None
    assert request.transaction.key == f"acme-order:{order.location.rpartition('/')[2]}"
    assert request.transaction.window is None


@pytest.mark.parametrize(
    ("common_name", "sans", "subject"),
    [
        (None, [NAME], ""),
        (NAME, [NAME], NAME),
        (NAME.upper(), [NAME], NAME),
        (NAME, [], NAME),
        ("Some Name", [NAME], ""),
        ("192.0.2.1", [NAME], ""),
        ("", [NAME], ""),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_common_name(common_name: str | None, sans: list[str], subject: str) -> None:
    rig = Rig()
    client, order = await ready(rig)
    if common_name == "":
        common_name = " "
    final = await client.finalize(order, csr_for(ec_key(), *sans, common_name=common_name))
    assert final.json["status"] == "valid", final.body
    (request,) = rig.authority.asked
    assert [each.value for each in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [subject] * bool(
        subject
    )
    assert [name.value for name in request.names] == [NAME]


@pytest_twisted.ensureDeferred
async def test_a_name_too_long_for_a_common_name_goes_without() -> None:
    rig = Rig()
    name = "a" * 60 + ".example"
    client, order = await ready(rig, name)
    csr = csr_for(ec_key(), name)
    assert (await client.finalize(order, csr)).json["status"] == "valid"
    assert rig.authority.asked[0].subject == x509.Name([])


@pytest.mark.parametrize(
    ("csr", "words"),
    [
        (csr_for(ec_key(), NAME, "other.example"), "adds dns:other.example"),
        (csr_for(ec_key(), "other.example"), "lacks dns:a.example"),
        (csr_for(ec_key(), NAME, common_name="other.example"), "adds dns:other.example"),
        (csr_for(ec_key()), "lacks dns:a.example"),
        (csr_for(ec_key(), "*.a.example"), "lacks"),
        (csr_for(ec_key(), sans=[x509.DNSName(NAME), x509.RFC822Name("a@a.example")]), "adds email:a@a.example"),
        (csr_for(rsa_key(1024), NAME), "2048"),
        (b"\x30\x03\x02\x01\x00", "PKCS#10"),
        (b"", "PKCS#10"),
        (last_bit_flipped(csr_for(ec_key(), NAME)), ""),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_csr_that_does_not_fit_is_refused_and_the_order_stays_ready(csr: bytes, words: str) -> None:
    rig = Rig()
    client, order = await ready(rig)
    reply = await client.finalize(order, csr)
    assert (reply.status, reply.problem) == (400, "badCSR")
    assert words in reply.json["detail"]
    assert await status_of(client, order) == "ready"
    assert rig.authority.asked == []
    assert (await client.finalize(order, csr_for(ec_key(), NAME))).json["status"] == "valid"


@pytest_twisted.ensureDeferred
async def test_the_account_key_gets_no_certificate() -> None:
    client, order = await ready(Rig())
    reply = await client.finalize(order, csr_for(client.key, NAME))
    assert (reply.problem, "account" in reply.json["detail"]) == ("badCSR", True)


@pytest_twisted.ensureDeferred
async def test_padded_and_plain_base64_is_a_csr_too() -> None:
    for encode in (base64.urlsafe_b64encode, base64.b64encode):
        client, order = await ready(Rig())
        csr = csr_for(ec_key(), NAME, common_name=NAME)
        reply = await client.post(order.json["finalize"], {"csr": encode(csr).decode()})
        assert reply.json["status"] == "valid"


@pytest_twisted.ensureDeferred
async def test_only_a_ready_order_is_finalized() -> None:
    rig = Rig()
    client = Client(rig)
    await client.register()
    csr = csr_for(ec_key(), NAME)
    pending = await client.order(NAME)
    expired = await client.ready(NAME)
    reply = await client.finalize(pending, csr)
    assert (reply.status, reply.problem) == (403, "orderNotReady")
    rig.clock.advance(timedelta(days=7))
    assert (await client.finalize(expired, csr)).problem == "orderNotReady"
    assert (await client.post(f"{pending.location}/certificate")).problem == "orderNotReady"
    assert rig.authority.asked == []


@pytest_twisted.ensureDeferred
async def test_finalizing_again_answers_the_order_for_the_same_csr_only() -> None:
    rig = Rig()
    client, order = await ready(rig)
    csr = csr_for(ec_key(), NAME)
    first = await client.finalize(order, csr)
    again = await client.finalize(order, csr)
    assert (again.status, again.location, again.json) == (200, order.location, first.json)
    other = await client.finalize(order, csr_for(ec_key(), NAME))
    assert (other.status, other.problem) == (403, "orderNotReady")
    assert len(rig.authority.asked) == 1


@pytest_twisted.ensureDeferred
async def test_ten_raced_finalizes_issue_once() -> None:
    rig = Rig()
    client, order = await ready(rig)
    rig.authority.gate = Deferred()
    url, csr = order.json["finalize"], csr_for(ec_key(), NAME)
    bodies = []
    for _ in range(10):
        client.nonce = None
        bodies.append(await client.signed(url, {"csr": b64(csr)}))
    replies = [Deferred.fromCoroutine(client.send(url, body)) for body in bodies]
    rig.authority.gate.callback(None)
    rig.treq.flush()
    answers = await gatherResults(replies)
    assert {answer.status for answer in answers} == {200}
    assert {answer.json["status"] for answer in answers} <= {"valid", "processing"}
    assert len(rig.authority.asked) == kept(rig) == 1
    assert await status_of(client, order) == "valid"


@pytest.mark.parametrize("own", [True, False], ids=["the same CSR", "another CSR"])
@pytest_twisted.ensureDeferred
async def test_who_finalizes_between_look_and_swap_wins(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    client, order = await ready(rig)
    first = csr_for(ec_key(), NAME)
    along = rig.store.along

    def overtaken(order_id: str, beginning: Beginning) -> Along:
        rig.store.begin_finalize(dataclasses.replace(beginning, csr_der=first))
        return along(order_id, beginning)

    with monkeypatch.context() as patched:
        patched.setattr(rig.store, "along", overtaken)
        reply = await client.finalize(order, first if own else csr_for(ec_key(), NAME))
    assert (reply.status, reply.problem) == ((200, "") if own else (403, "orderNotReady"))
    assert kept(rig) == 0
    rig.clock.advance(LEASE)
    assert (await rig.work_off(), await status_of(client, order), kept(rig)) == (1, "valid", 1)


@pytest_twisted.ensureDeferred
async def test_a_slow_issuance_is_answered_as_processing_and_then_found() -> None:
    rig = Rig()
    client, order = await ready(rig)
    rig.authority.gate = Deferred()
    csr = csr_for(ec_key(), NAME)
    waiting = Deferred.fromCoroutine(client.finalize(order, csr))
    rig.reactor.advance(PATIENCE - 0.1)
    assert not waiting.called
    rig.reactor.advance(0.2)
    rig.treq.flush()
    reply = await waiting
    assert (reply.status, reply.json["status"], reply.location) == (200, "processing", order.location)
    assert reply.headers["retry-after"] == ["1"]
    assert "certificate" not in reply.json
    again = await client.finalize(order, csr)
    assert (again.json["status"], again.headers["retry-after"]) == ("processing", ["1"])
    rig.authority.gate.callback(None)
    assert await status_of(client, order) == "valid"
    assert len(rig.authority.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_client_that_hangs_up_gets_its_certificate_all_the_same() -> None:
    rig = Rig()
    client, order = await ready(rig)
    rig.authority.gate = Deferred()
    url, csr = order.json["finalize"], csr_for(ec_key(), NAME)
    body = await client.signed(url, {"csr": b64(csr)})
    headers = {"Content-Type": "application/jose+json"}
    target = "http://backend.internal" + url.removeprefix(BASE)
    hung = rig.treq.request("POST", target, data=body, headers=headers)
    rig.treq.flush()
    assert len(rig.authority.asked) == 1
    assert len(rig.reactor.getDelayedCalls()) == 1  # the client's patience
    hung.addErrback(lambda _: None)
    hung.cancel()
    rig.treq.flush()
    assert rig.reactor.getDelayedCalls() == []  # nobody waits any more
    rig.authority.gate.callback(None)
    client.nonce = None
    assert await status_of(client, order) == "valid"


@pytest_twisted.ensureDeferred
async def test_an_order_whose_worker_died_is_finished_once_by_another() -> None:
    rig = Rig()
    client, order = await ready(rig)
    order_id = order.location.rpartition("/")[2]
    csr = csr_for(ec_key(), NAME)
    assert await rig.store.begin_finalize(Beginning(order_id, csr, "w1", rig.clock.now(), LEASE))
    assert (await client.finalize(order, csr)).json["status"] == "processing"
    assert await rig.work_off() == 0  # the lease is the dead worker's still
    rig.clock.advance(LEASE)
    assert await rig.work_off() == 1
    assert await status_of(client, order) == "valid"
    assert await rig.work_off() == 0
    assert len(rig.authority.asked) == kept(rig) == 1


async def begun(rig: Rig, order: Reply, csr: bytes) -> Order:
    """The order, finalized by a worker that does nothing more."""
    order_id = order.location.rpartition("/")[2]
    assert await rig.store.begin_finalize(Beginning(order_id, csr, "w1", rig.clock.now(), LEASE))
    found = await rig.store.order(order_id)
    assert found is not None
    return found


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_was_issued_before_its_order_was_settled_is_the_only_one() -> None:
    rig = Rig()
    client, order = await ready(rig)
    csr = csr_for(ec_key(), NAME)
    found = await begun(rig, order, csr)
    nothing = Along(None, lambda *_: None)  # as by a worker that knew of no such thing, and died
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rig.store, "along", lambda *_: nothing)
        await rig.work.issue(found, parse_csr(csr))
    assert (kept(rig), await status_of(client, order)) == (1, "processing")
    rig.clock.advance(LEASE)
    assert await rig.work_off() == 1
    final = await client.post(order.location)
    assert (final.json["status"], kept(rig)) == ("valid", 1)
    assert b"BEGIN CERTIFICATE" in (await client.post(final.json["certificate"])).body


@pytest.mark.parametrize("step", ["begin", "end"])
@pytest_twisted.ensureDeferred
async def test_an_order_and_its_certificate_are_kept_together_or_not_at_all(step: str) -> None:
    rig = Rig()
    client, order = await ready(rig)
    csr = csr_for(ec_key(), NAME)
    along = rig.store.along

    def broken(order_id: str, beginning: Beginning | None) -> Along:
        found = along(order_id, beginning)
        real = getattr(found, step)

        def breaks(*given: Any) -> None:
            real(*given)
            raise RuntimeError("the disk is gone")

        setattr(found, step, breaks)
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rig.store, "along", broken)
        reply = await client.finalize(order, csr)
    assert reply.json["status"] == "processing", "the job is owed"
    assert (kept(rig), await status_of(client, order)) == (0, "processing")
    rig.clock.advance(LEASE + timedelta(seconds=1))
    assert await rig.work_off() == 1
    assert (kept(rig), await status_of(client, order)) == (1, "valid")


@pytest_twisted.ensureDeferred
async def test_a_refusal_by_the_core_settles_the_order_with_its_problem() -> None:
    rig = Rig()
    client, order = await ready(rig)
    rig.authority.failures = [Refusal(RefusalKind.REJECTED_NAME, "not this one")]
    reply = await client.finalize(order, csr_for(ec_key(), NAME))
    assert (reply.status, reply.location, reply.json["status"]) == (200, order.location, "invalid")
    error = {"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "not this one"}
    assert reply.json["error"] == (await client.post(order.location)).json["error"] == error
    rig.clock.advance(LEASE)
    assert await rig.work_off() == 0


@pytest.mark.parametrize(
    "failure",
    [
        Refusal(RefusalKind.UNAVAILABLE, "the key is away", retry_after=60),
        Refusal(RefusalKind.PENDING, "another worker is at it"),
        Refusal(RefusalKind.CONFLICT, "another worker abandoned it"),
        RuntimeError("nobody knows"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_may_pass_is_tried_again(failure: Exception) -> None:
    rig = Rig()
    client, order = await ready(rig)
    rig.authority.failures = [failure]
    reply = await client.finalize(order, csr_for(ec_key(), NAME))
    assert (reply.status, reply.json["status"], reply.headers["retry-after"]) == (200, "processing", ["1"])
    rig.clock.advance(LEASE)
    rig.authority.failures = [Refusal(RefusalKind.UNAVAILABLE, "still away", retry_after=60)]
    assert await rig.work_off() == 1
    assert (await status_of(client, order), await rig.work_off()) == ("processing", 0)
    rig.clock.advance(timedelta(seconds=60))
    assert await rig.work_off() == 1
    assert (await status_of(client, order), kept(rig)) == ("valid", 1)


@pytest.mark.parametrize("failure", [Refusal(RefusalKind.UNAVAILABLE, "away"), RuntimeError("nobody knows")])
@pytest_twisted.ensureDeferred
async def test_no_order_is_processing_for_ever(failure: Exception) -> None:
    rig = Rig()
    client, order = await ready(rig)
    rig.authority.failures = [failure, failure]
    await client.finalize(order, csr_for(ec_key(), NAME))
    rig.clock.advance(timedelta(days=7))
    assert await rig.work_off() == 1
    final = (await client.post(order.location)).json
    assert (final["status"], final["error"]["type"]) == ("invalid", "urn:ietf:params:acme:error:serverInternal")


@pytest_twisted.ensureDeferred
async def test_a_job_for_an_order_that_is_settled_or_gone_is_done() -> None:
    rig = Rig()
    client, order = await ready(rig)
    for key in (order.location.rpartition("/")[2], "unknown"):
        await rig.jobs.enqueue("acme-finalize", key, rig.clock.now())
    await rig.jobs.enqueue("acme-validate", "unknown", rig.clock.now())
    assert (await rig.work_off(), await rig.work_off()) == (3, 0)
    assert rig.authority.asked == []
    assert await status_of(client, order) == "ready"


@pytest_twisted.ensureDeferred
async def test_a_csr_cannot_smuggle_anything() -> None:
    rig = Rig()
    client, order = await ready(rig)
    key = ec_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Somebody Else")])
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    builder = builder.add_extension(unknown, critical=True)
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    final = await client.finalize(order, csr)
    (leaf, _) = x509.load_pem_x509_certificates((await client.post(final.json["certificate"])).body)
    assert leaf.subject == x509.Name([])
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert unknown.oid not in {extension.oid for extension in leaf.extensions}
    assert json.loads(final.body)["status"] == "valid"
