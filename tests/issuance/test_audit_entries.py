"""What the core does and refuses is in the audit chain: who, how proven, what, when, result, to-be-signed SHA-256."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from sqlalchemy import text

from opencertd.asn1.dn import parse_dn
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import run_now
from opencertd.issuance.issuers import Issuers
from opencertd.model.audit import AuditEntry
from opencertd.model.certificates import CertificateState, RevocationReason
from opencertd.model.request import ReinstatementRequest, RevocationRequest, Transaction
from opencertd.model.requester import NameGrant, Proof
from opencertd.store.audit import SqlAuditStore
from opencertd.store.database import Database
from tests.ca import NOW, TestCa, dns, make_ca, make_issuers, request, requester
from tests.issuance.chains import findings

ensure = pytest_twisted.ensureDeferred


def entries(ca: TestCa) -> tuple[AuditEntry, ...]:
    return run_now(_entries(ca))


async def _entries(ca: TestCa) -> tuple[AuditEntry, ...]:
    return await SqlAuditStore(ca.database, ca.clock).page(None, 10_000)


def what(entry: AuditEntry) -> dict[str, Any]:
    return dict(json.loads(entry.what))


@ensure
async def test_an_issuance_says_who_what_when_and_the_hash_of_what_was_signed() -> None:
    ca = make_ca()
    before = len(entries(ca))
    somebody = requester(proof=Proof.BEARER_TOKEN, id="https://login.test:alice", label="Alice")
    issued = await ca.authority.issue(request(requester=somebody))
    (entry,) = entries(ca)[before:]
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    assert (entry.deed, entry.result, entry.at) == ("issue", "done", NOW)
    assert (entry.proof, entry.who, entry.label) == ("bearer-token", "https://login.test:alice", "Alice")
    assert entry.tbs_sha256 == hashlib.sha256(certificate.tbs_certificate_bytes).hexdigest()
    assert what(entry) == {
        "issuer": issued.record.issuer_id,
        "serial": f"{certificate.serial_number:x}",
        "profile": "default",
        "subject": "CN=device.test",
        "names": ["dns:device.test"],
        "worker": "node/0",
    }
    assert findings(entries(ca)) == []


REFUSED = {
    "a name not granted": ({"requester": requester(NameGrant())}, RefusalKind.REJECTED_NAME),
    "a bad key": ({"spki_der": b"\0"}, RefusalKind.BAD_PUBLIC_KEY),
    "an unknown profile": ({"profile": "nobody's"}, RefusalKind.NOT_FOUND),
    "nobody named": ({"subject": x509.Name([]), "names": ()}, RefusalKind.BAD_CSR),
    "too many names": ({"names": dns(*(f"n{n}.test" for n in range(5000)))}, RefusalKind.REJECTED_NAME),
}


@pytest.mark.parametrize("case", REFUSED)
@ensure
async def test_a_refusal_is_an_entry_with_its_reason(case: str) -> None:
    changes, kind = REFUSED[case]
    ca = make_ca()
    before = len(entries(ca))
    with pytest.raises(Refusal) as caught:
        await ca.authority.issue(request(**changes))
    (entry,) = entries(ca)[before:]
    assert caught.value.kind is kind
    assert (entry.deed, entry.result, entry.proof, entry.who) == ("issue", kind.value, "password", "estuser")
    assert what(entry)["why"] == caught.value.detail
    assert entry.tbs_sha256 is None


@ensure
async def test_revocations_and_their_refusals_are_entries() -> None:
    ca = make_ca()
    issued = (await ca.authority.issue(request())).record
    wish = RevocationRequest(
        issued.issuer_id, issued.serial, RevocationReason.KEY_COMPROMISE, requester(id="op", label="Operator")
    )
    await ca.authority.revoke(wish)
    for bad in (wish, dataclasses.replace(wish, reason=RevocationReason.REMOVE_FROM_CRL)):
        with pytest.raises(Refusal):
            await ca.authority.revoke(bad)
    done, again, unusable = entries(ca)[-3:]
    assert [(entry.deed, entry.who, entry.label) for entry in (done, again, unusable)] == [
        ("revoke", "op", "Operator")
    ] * 3
    assert [entry.result for entry in (done, again, unusable)] == ["done", "already revoked", "bad revocation reason"]
    assert (what(done)["serial"], what(done)["reason"]) == (f"{issued.serial:x}", "keyCompromise")
    assert findings(entries(ca)) == []


@ensure
async def test_holds_and_their_end_are_entries() -> None:
    ca = make_ca()
    issued = (await ca.authority.issue(request())).record
    somebody = requester(id="op", label="Operator")
    hold = RevocationRequest(issued.issuer_id, issued.serial, RevocationReason.CERTIFICATE_HOLD, somebody)
    end = ReinstatementRequest(issued.issuer_id, issued.serial, somebody)
    await ca.authority.revoke(hold)
    await ca.authority.reinstate(end)
    with pytest.raises(Refusal):
        await ca.authority.reinstate(end)
    found = entries(ca)[-3:]
    assert [(entry.deed, entry.result) for entry in found] == [
        ("revoke", "done"),
        ("reinstate", "done"),
        ("reinstate", "conflict"),
    ]
    assert what(found[0])["reason"] == "certificateHold"
    assert {what(entry)["serial"] for entry in found} == {f"{issued.serial:x}"}


class FaultySigner:
    """Signs, and is wrong."""

    def __init__(self, signer: Any) -> None:
        self.public_key, self.algorithm_der = signer.public_key, signer.algorithm_der

    def sign(self, data: bytes) -> Any:
        raise RuntimeError("the token is gone")


@ensure
async def test_a_signature_that_failed_is_an_entry_with_the_hash_of_what_was_to_be_signed() -> None:
    issuers = Issuers(tuple(dataclasses.replace(i, signer=FaultySigner(i.signer)) for i in make_issuers().all()))
    ca = make_ca(database=with_a_ca(), issuers=issuers)
    with pytest.raises(Refusal) as caught:
        await ca.authority.issue(request())
    assert caught.value.kind is RefusalKind.UNAVAILABLE
    entry = entries(ca)[-1]
    assert (entry.deed, what(entry)["why"]) == ("abandon", "signing failed")
    assert entry.tbs_sha256 is not None


def with_a_ca() -> Database:
    """A database in which the CA is, recorded with signers that work."""
    return make_ca().database


FORBID = "CREATE TRIGGER forbid BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END"


@ensure
async def test_what_cannot_be_recorded_is_not_issued_and_not_even_refused() -> None:
    ca = make_ca()
    await ca.authority.issue(request())
    known = await ca.store.inventory(0, 100)
    await ca.database.write(lambda connection: connection.execute(text(FORBID)).close())
    wish = request(transaction=Transaction("t"))
    first = known[-1]
    revoking = RevocationRequest(first.issuer_id, first.serial, RevocationReason.SUPERSEDED, requester())
    deeds = [
        lambda: ca.authority.issue(wish),
        lambda: ca.authority.issue(request(profile="nobody's")),
        lambda: ca.authority.revoke(revoking),
        lambda: ca.authority.revoke(dataclasses.replace(revoking, serial=1)),
    ]
    for deed in deeds:
        with pytest.raises(Refusal) as caught:
            await deed()
        assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert await ca.store.inventory(0, 100) == known
    held = await ca.store.by_transaction("t")
    assert held is not None
    assert held.state is CertificateState.INTENDED
    assert held.certificate_der is None


@ensure
async def test_the_subject_is_written_whatever_is_in_it() -> None:
    ca = make_ca()
    with pytest.raises(Refusal):
        await ca.authority.issue(request(subject=parse_dn("CN=zeile\n2\0"), names=(), requester=requester(NameGrant())))
    assert findings(entries(ca)) == []
    assert "zeile" in entries(ca)[-1].what
