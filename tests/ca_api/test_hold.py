"""Holding and reinstating by the `/ca` API: who may, what is signed, what is shown."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred

from opencertd.asn1.dn import parse_dn
from opencertd.client.ca_api import CaApiClient
from opencertd.client.errors import ClientError
from opencertd.client.http import HttpsClient
from opencertd.model.certificates import RevocationReason
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from tests.est.rig import START, USER, Rig, holder, issuers, some_key, some_rsa_key

HOLD = "certificateHold"
REVOKER = frozenset({"revoker"})


def iso(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


class Case:
    """An API over the real store, with a certificate to hold and a revoker's."""

    def __init__(self, **api: Any) -> None:
        self.rig = Rig(api=api)
        store = SqlCertificateStore(Database.in_memory(), self.rig.clock)
        store.add_issuers(tuple(issuer.record for issuer in issuers().all()))
        self.rig.authority.store = store

    async def enrol(self, dn: str, key: Any) -> x509.Certificate:
        self.rig.door.who = USER
        hashed = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None
        csr = x509.CertificateSigningRequestBuilder(parse_dn(dn)).sign(key, hashed).public_bytes(Encoding.DER)
        _, body = await self.rig.ask("POST", "/ca/csr", csr)
        return x509.load_pem_x509_certificates(body)[0]

    async def ask(self, method: str, path: str, key: Any = None, **query: str) -> tuple[int, Any]:
        words = query.get("sn", "") + query.get("reason", "reinstate") + query.get("invalidityDate", "")
        signature = (key or some_key()).sign(words.encode(), ec.ECDSA(hashes.SHA256()))
        query = {"signature": base64.b64encode(signature).decode()} | query
        response, body = await self.rig.ask(method, f"{path}?{urlencode(query)}")
        return response.code, json.loads(body)

    async def shown(self, sn: str) -> Any:
        _, body = await self.rig.ask("GET", f"/ca/inventory/{sn}")
        return json.loads(body)["certificates"][0]


@pytest_twisted.ensureDeferred
async def test_a_certificate_holds_itself_and_only_a_revoker_ends_it() -> None:
    case = Case()
    mine = await case.enrol("CN=mine", some_key())
    operator = await case.enrol("CN=operator", some_key(1))
    sn = f"{mine.serial_number:X}"
    case.rig.door.who = holder(mine)
    code, shown = await case.ask("DELETE", "/ca/revoke", sn=sn, reason=HOLD)
    assert (code, shown["status"]) == (200, "held")
    assert shown["revocation"] == {"at": iso(START), "reason": HOLD}
    assert (await case.ask("DELETE", "/ca/revoke", sn=sn, reason=HOLD))[0] == 409
    assert (await case.ask("POST", "/ca/reinstate", sn=sn))[0] == 403
    case.rig.door.who = holder(operator)
    assert (await case.ask("POST", "/ca/reinstate", some_key(1), sn=sn))[0] == 403
    case.rig.door.who = holder(operator, roles=REVOKER)
    case.rig.clock.advance(timedelta(hours=1))
    code, shown = await case.ask("POST", "/ca/reinstate", some_key(1), sn=sn)
    assert (code, shown["status"], shown["revocation"]) == (200, "good", None)
    assert (await case.ask("POST", "/ca/reinstate", some_key(1), sn=sn))[0] == 409
    hold = {"at": iso(START), "reason": HOLD}
    assert (await case.shown(sn))["history"] == [
        {"status": "held", "changed": iso(START), "by": "CN=mine", "revocation": hold},
        {
            "status": "released",
            "changed": iso(START + timedelta(hours=1)),
            "by": "CN=operator",
            "revocation": hold,
        },
    ]


@pytest_twisted.ensureDeferred
async def test_revokers_by_their_subject_reinstate_too() -> None:
    case = Case(revokers=frozenset({"CN=operator"}))
    operator = await case.enrol("CN=operator", some_key())
    other = await case.enrol("CN=other", some_key(1))
    case.rig.door.who = holder(operator)
    sn = f"{other.serial_number:X}"
    assert (await case.ask("DELETE", "/ca/revoke", sn=sn, reason=HOLD))[0] == 200
    assert (await case.ask("POST", "/ca/reinstate", sn=sn))[0] == 200


@pytest_twisted.ensureDeferred
async def test_a_hold_ends_in_a_revocation_and_its_reason_may_become_key_compromise() -> None:
    case = Case()
    mine = await case.enrol("CN=mine", some_key())
    case.rig.door.who = holder(mine, roles=REVOKER)
    sn, since = f"{mine.serial_number:X}", iso(START - timedelta(days=2))
    await case.ask("DELETE", "/ca/revoke", sn=sn, reason=HOLD)
    case.rig.clock.advance(timedelta(days=1))
    for reason, code in (("superseded", 200), ("cessationOfOperation", 409), (HOLD, 409)):
        assert (await case.ask("DELETE", "/ca/revoke", sn=sn, reason=reason))[0] == code
    code, shown = await case.ask("DELETE", "/ca/revoke", sn=sn, reason="keyCompromise", invalidityDate=since)
    assert code == 200
    assert shown["revocation"] == {"at": iso(START), "reason": "keyCompromise", "invalidityDate": since}
    assert (await case.ask("POST", "/ca/reinstate", sn=sn))[0] == 409
    assert [step["status"] for step in (await case.shown(sn))["history"]] == ["held", "revoked", "revoked"]


@pytest_twisted.ensureDeferred
async def test_refusals_change_nothing() -> None:
    case = Case()
    mine = await case.enrol("CN=mine", some_key())
    sn = f"{mine.serial_number:X}"
    future, past = iso(START + timedelta(seconds=1)), iso(START)
    case.rig.door.who = USER
    assert (await case.ask("POST", "/ca/reinstate", sn=sn))[0] == 401
    case.rig.door.who = holder(mine, roles=REVOKER)
    signed_for_hold = base64.b64encode(some_key().sign((sn + HOLD).encode(), ec.ECDSA(hashes.SHA256()))).decode()
    for method, path, query, code in (
        ("DELETE", "revoke", {"sn": sn, "reason": HOLD, "invalidityDate": future}, 400),
        ("DELETE", "revoke", {"sn": sn, "reason": HOLD, "invalidityDate": "soon"}, 400),
        ("DELETE", "revoke", {"sn": sn, "reason": HOLD, "invalidityDate": past, "signature": signed_for_hold}, 401),
        ("DELETE", "revoke", {"sn": sn, "reason": "removeFromCRL"}, 400),
        ("POST", "reinstate", {"sn": sn, "signature": signed_for_hold}, 401),
        ("POST", "reinstate", {"sn": sn, "signature": ""}, 401),
        ("POST", "reinstate", {"sn": "xyz"}, 400),
        ("POST", "reinstate", {"sn": "0123456789ABCDEF"}, 404),
        ("POST", "reinstate", {"sn": sn, "issuer": "rsa"}, 404),
        ("POST", "reinstate", {"sn": sn}, 409),
        ("GET", "reinstate", {"sn": sn}, 405),
        ("DELETE", "reinstate", {"sn": sn}, 405),
    ):
        assert (await case.ask(method, f"/ca/{path}", **query))[0] == code, (path, query)
    shown = await case.shown(sn)
    assert (shown["status"], shown["history"]) == ("good", [])


@pytest_twisted.ensureDeferred
async def test_a_hang_up_does_not_stop_a_reinstatement(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    mine = await case.enrol("CN=mine", some_key())
    case.rig.door.who = holder(mine, roles=REVOKER)
    sn = f"{mine.serial_number:X}"
    await case.ask("DELETE", "/ca/revoke", sn=sn, reason=HOLD)
    gate: Deferred[None] = Deferred()
    really = case.rig.authority.reinstate

    async def slowly(request: Any) -> Any:
        await gate
        return await really(request)

    monkeypatch.setattr(case.rig.authority, "reinstate", slowly)
    asking = Deferred.fromCoroutine(case.ask("POST", "/ca/reinstate", sn=sn))
    asking.addErrback(lambda _: None)
    asking.cancel()
    case.rig.treq.flush()
    gate.callback(None)
    await case.rig.tasks.wait()
    assert (await case.shown(sn))["status"] == "good"


# The client that the command line uses, against the same API.


def client_key(kind: str) -> Any:
    made = {"ec": some_key, "rsa": some_rsa_key, "ed25519": ed25519.Ed25519PrivateKey.generate}
    return made[kind]() if kind in made else mldsa.MLDSA44PrivateKey.generate()


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519", "ml-dsa-44"])
@pytest_twisted.ensureDeferred
async def test_the_client_says_what_the_api_understands(kind: str) -> None:
    case = Case()
    key = client_key(kind)
    mine = await case.enrol("CN=mine", key)
    case.rig.door.who = holder(mine, roles=REVOKER)
    client = CaApiClient(HttpsClient(RequestTraversalAgent(case.rig.root)), "https://ca.test", key)
    sn, since = f"{mine.serial_number:X}", iso(START - timedelta(days=1))
    held = await client.revoke(sn, HOLD, invalidity_date=since)
    assert (held["status"], held["revocation"]["invalidityDate"]) == ("held", since)
    with pytest.raises(ClientError, match="refused: this certificate is on hold already"):
        await client.revoke(sn, HOLD)
    issuer = held["issuer"]
    assert (await client.reinstate(sn, issuer=issuer))["status"] == "good"
    assert (await client.revoke(sn, RevocationReason.SUPERSEDED.rfc_name))["status"] == "revoked"
    (shown,) = await client.certificates(sn)
    assert [step["status"] for step in shown["history"]] == ["held", "released", "revoked"]
    with pytest.raises(ClientError, match="no certificate with that serial"):
        await client.certificates("12")
