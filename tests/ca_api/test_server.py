"""The `/ca` API over HTTP against the real core: enrol, list, revoke, and CA certificates for everybody."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from twisted.internet.defer import Deferred

from opencertd.asn1.pem import encode_pem
from opencertd.ca_api.server import CaApiServer
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.model.certificates import RevocationReason
from opencertd.model.request import IssuanceRequest
from opencertd.tasks import Tasks
from tests.est.rig import START, USER, Rig, holder, issuers, new_csr, some_key, some_rsa_key


async def enrolled(rig: Rig, dn: str, *names: str, query: str = "", key: Any = None) -> x509.Certificate:
    response, body = await rig.ask("POST", "/ca/csr" + query, new_csr(dn, *names, key=key))
    assert response.code == 200, body
    return x509.load_pem_x509_certificates(body)[0]


def sign(sn: str, reason: str, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    return base64.b64encode((key or some_key()).sign((sn + reason).encode(), ec.ECDSA(hashes.SHA256()))).decode()


async def revoke(rig: Rig, sn: str, reason: str = "superseded", **others: str) -> tuple[int, Any]:
    query = {"sn": sn, "reason": reason, "signature": sign(sn, reason)} | others
    response, body = await rig.ask("DELETE", "/ca/revoke?" + urlencode(query))
    if response.code != 200:
        assert_problem(response, body)
    return response.code, json.loads(body)


def assert_problem(response: Any, body: bytes) -> None:
    assert response.headers.getRawHeaders("content-type") == ["application/problem+json"]
    assert response.length == len(body)
    problem = json.loads(body)
    assert problem["status"] == response.code
    assert problem["detail"]


@pytest.mark.parametrize("form", ["DER", "PEM", "base64", "base64 lines"])
@pytest_twisted.ensureDeferred
async def test_a_csr_gives_the_chain_without_the_root(form: str) -> None:
    rig = Rig()
    rig.door.who = USER
    csr = new_csr("CN=api.test", "api.test")
    body = {
        "DER": csr,
        "PEM": encode_pem("CERTIFICATE REQUEST", csr),
        "base64": base64.b64encode(csr),
        "base64 lines": base64.encodebytes(csr),
    }[form]
    response, pem = await rig.ask("POST", "/ca/csr", body, Content_Type="application/x-www-form-urlencoded")
    assert response.code == 200
    assert response.headers.getRawHeaders("content-type") == ["application/pem-certificate-chain"]
    assert response.length == len(pem)
    leaf, issuing = x509.load_pem_x509_certificates(pem)
    leaf.verify_directly_issued_by(issuing)
    assert issuing.subject != issuing.issuer


@pytest_twisted.ensureDeferred
async def test_the_profile_is_chosen_by_name() -> None:
    rig = Rig()
    rig.door.who = USER
    rsa_issuer = issuers().by_name("rsa")
    assert rsa_issuer is not None
    certificate = await enrolled(rig, "CN=x", query="?profile=rsa")
    certificate.verify_directly_issued_by(rsa_issuer.certificate)
    for name in ("nothing", "daemon-tls", ""):
        response, body = await rig.ask("POST", f"/ca/csr?profile={name}", new_csr("CN=x"))
        assert response.code == 404
        assert_problem(response, body)


@pytest_twisted.ensureDeferred
async def test_a_client_certificate_enrols_for_its_own_names_only() -> None:
    for setting, code in ((False, 403), (True, 200)):
        rig = Rig(api={"client_certificate_may_enrol_any_name": setting})
        rig.door.who = USER
        rig.door.who = holder(await enrolled(rig, "CN=x", "a.test", "b.test"))
        await enrolled(rig, "CN=x", "b.test", key=some_rsa_key())
        response, _ = await rig.ask("POST", "/ca/csr", new_csr("CN=x", "bank.test"))
        assert response.code == code


@pytest_twisted.ensureDeferred
async def test_a_repeated_request_gives_the_same_certificate() -> None:
    rig = Rig()
    rig.door.who = USER
    csr = new_csr("CN=again")
    _, first = await rig.ask("POST", "/ca/csr", csr)
    _, again = await rig.ask("POST", "/ca/csr", base64.b64encode(csr))
    assert again == first
    assert len(rig.store.records) == 1


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/ca/csr", 401),
        ("GET", "/ca/inventory", 401),
        ("GET", "/ca/inventory/12", 401),
        ("DELETE", "/ca/revoke?sn=12&reason=superseded&signature=AA", 401),
        ("GET", "/ca/csr", 405),
        ("POST", "/ca/inventory", 405),
        ("GET", "/ca/revoke?sn=12", 405),
        ("POST", "/ca/certificate", 405),
        ("GET", "/ca/nothing", 404),
        ("GET", "/ca", 404),
        ("GET", "/ca/inventory/1/2", 404),
        ("GET", "/ca/nothing/certificate", 404),
        ("GET", "/ca/daemon-tls/certificate", 404),
        ("GET", "/ca/certificate?format=jks", 400),
        ("GET", "/ca/certificate?format=pem&format=der", 400),
    ],
)
@pytest_twisted.ensureDeferred
async def test_paths_for_nobody_in_particular(method: str, path: str, code: int) -> None:
    response, body = await Rig().ask(method, path, b"rubbish")
    assert response.code == code
    assert_problem(response, body)
    if code == 401:
        assert len(response.headers.getRawHeaders("www-authenticate")) == 2
    if code == 405:
        assert response.headers.getRawHeaders("allow")


@pytest_twisted.ensureDeferred
async def test_bad_bodies_and_pages() -> None:
    rig = Rig()
    rig.door.who = USER
    for method, path, sent in (
        ("POST", "/ca/csr", b""),
        ("POST", "/ca/csr", b"sn=1"),
        ("POST", "/ca/csr", b"\x30\x00"),
        ("GET", "/ca/inventory?limit=0", b""),
        ("GET", "/ca/inventory?after=x", b""),
        ("GET", "/ca/inventory/xyz", b""),
    ):
        response, body = await rig.ask(method, path, sent)
        assert response.code == 400
        assert_problem(response, body)


@pytest_twisted.ensureDeferred
async def test_the_inventory_is_paged_by_id() -> None:
    rig = Rig()
    rig.door.who = USER
    response, body = await rig.ask("GET", "/ca/inventory")
    assert json.loads(body) == {"certificates": []}
    serials = [(await enrolled(rig, f"CN=n{number}")).serial_number for number in range(5)]
    path, seen, pages = "/ca/inventory?limit=2", [], 0
    while path:
        response, body = await rig.ask("GET", path)
        assert response.code == 200
        assert response.headers.getRawHeaders("cache-control") == ["no-store"]
        page = json.loads(body)
        seen += [int(entry["serial"], 16) for entry in page["certificates"]]
        path, pages = page.get("next"), pages + 1
    assert (seen, pages) == (serials, 3)


@pytest_twisted.ensureDeferred
async def test_an_inventory_entry() -> None:
    rig = Rig()
    rig.door.who = USER
    certificate = await enrolled(rig, "CN=a.test", "a.test")
    _, body = await rig.ask("GET", f"/ca/inventory/{certificate.serial_number:x}")
    (entry,) = json.loads(body)["certificates"]
    assert entry["issuer"] == "ecdsa"
    assert entry["requester"] == "estuser"
    assert entry["names"] == [{"type": "dns", "value": "a.test"}]
    assert entry["notAfter"] == certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert entry["status"] == "good"
    rig.clock.advance(timedelta(days=91))
    _, body = await rig.ask("GET", "/ca/inventory")
    assert json.loads(body)["certificates"][0]["status"] == "expired"
    response, _ = await rig.ask("GET", "/ca/inventory/0123")
    assert response.code == 404


def spellings(serial: int) -> list[str]:
    digits = f"{serial:X}".zfill(34)
    return [
        digits,
        digits.lower().lstrip("0"),
        "0x" + digits,
        ":".join(digits[at : at + 2] for at in range(0, 34, 2)),
        "00" + digits,
    ]


@pytest.mark.parametrize("spelling", range(5))
@pytest_twisted.ensureDeferred
async def test_a_certificate_revokes_itself_once(spelling: int) -> None:
    rig = Rig()
    rig.door.who = USER
    certificate = await enrolled(rig, "CN=mine")
    rig.door.who = holder(certificate)
    sn = spellings(certificate.serial_number)[spelling]
    code, shown = await revoke(rig, sn, "keyCompromise")
    assert code == 200
    assert int(shown["serial"], 16) == certificate.serial_number
    assert shown["status"] == "revoked"
    assert shown["revocation"] == {"at": START.strftime("%Y-%m-%dT%H:%M:%SZ"), "reason": "keyCompromise"}
    (record,) = rig.store.records.values()
    assert record.revocation is not None and record.revocation.reason is RevocationReason.KEY_COMPROMISE
    assert (await revoke(rig, sn, "superseded"))[0] == 409
    assert rig.store.records[1].revocation == record.revocation


@pytest_twisted.ensureDeferred
async def test_refusals_of_a_revocation() -> None:
    rig = Rig()
    rig.door.who = USER
    mine, other = await enrolled(rig, "CN=mine"), await enrolled(rig, "CN=other", key=some_key(1))
    sn, theirs = f"{mine.serial_number:X}", f"{other.serial_number:X}"
    code, problem = await revoke(rig, sn)
    assert code == 401 and "client certificate" in problem["detail"]
    rig.door.who = holder(mine)
    foreign = sign(sn, "superseded", some_key(1))
    for expected, asked in (
        (401, {"sn": sn, "signature": ""}),
        (401, {"sn": sn, "signature": "%%%"}),
        (401, {"sn": sn, "signature": foreign}),
        (401, {"sn": sn, "signature": sign(sn, "keyCompromise")}),
        (401, {"sn": theirs, "signature": sign(sn, "superseded")}),
        (403, {"sn": theirs}),
        (404, {"sn": "0123456789ABCDEF"}),
        (404, {"sn": sn, "issuer": "rsa"}),
        (400, {"sn": "xyz"}),
        (400, {"sn": ""}),
        (400, {"sn": sn, "reason": "boredom"}),
        (400, {"sn": sn, "reason": ""}),
        (400, {"sn": sn, "reason": "removeFromCRL"}),
    ):
        assert (await revoke(rig, **asked))[0] == expected, asked
    assert not any(record.revocation for record in rig.store.records.values())


@pytest_twisted.ensureDeferred
async def test_a_form_in_the_body_does_not_count() -> None:
    rig = Rig()
    rig.door.who = USER
    certificate = await enrolled(rig, "CN=mine")
    rig.door.who = holder(certificate)
    sn = f"{certificate.serial_number:X}"
    form = urlencode({"sn": sn, "reason": "superseded", "signature": sign(sn, "superseded")}).encode()
    response, _ = await rig.ask("DELETE", "/ca/revoke", form, Content_Type="application/x-www-form-urlencoded")
    assert response.code == 400


@pytest.mark.parametrize(
    ("listed", "subject", "roles", "code"),
    [
        ("CN=Ops,O=Ex", "CN=Ops,O=Ex", (), 200),
        ("cn=ops, o=ex", "CN=Ops,O=Ex", (), 200),
        ("CN=Ops", "CN=Ops,O=Ex", (), 403),
        ("CN=Ops,O=Ex", "O=Ex,CN=Ops", (), 403),
        ("CN=Ops", "CN=Dev", ("revoker",), 200),
        ("CN=Ops", "CN=Dev", ("reader",), 403),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_revoker_right(listed: str, subject: str, roles: tuple[str, ...], code: int) -> None:
    rig = Rig(api={"revokers": frozenset({listed})})
    rig.door.who = USER
    victim = await enrolled(rig, "CN=victim", key=some_key(1))
    rig.door.who = holder(await enrolled(rig, subject), roles=frozenset(roles))
    assert (await revoke(rig, f"{victim.serial_number:X}"))[0] == code


def test_a_revoker_that_is_no_name_stops_the_start() -> None:
    with pytest.raises(StartError, match="revokers"):
        CaApiServer(
            authority=Rig().authority, clock=FixedClock(START), tasks=Tasks(), revokers=frozenset({"not a name"})
        )


@pytest_twisted.ensureDeferred
async def test_a_serial_that_two_issuers_used_needs_the_issuer() -> None:
    rig = Rig()
    rig.door.who = USER
    mine = await enrolled(rig, "CN=mine")
    rig.door.who = holder(mine, roles=frozenset({"revoker"}))
    twin_issuer = issuers().by_name("rsa")
    assert twin_issuer is not None
    rig.store.records[2] = dataclasses.replace(
        rig.store.records[1], id=2, issuer_id=twin_issuer.id, certificate_der=b"twin"
    )
    sn = f"{mine.serial_number:X}"
    code, problem = await revoke(rig, sn)
    assert code == 400 and "issuer=" in problem["detail"] and "rsa" in problem["detail"]
    assert (await revoke(rig, sn, issuer="rsa"))[0] == 200
    assert [bool(record.revocation) for record in rig.store.records.values()] == [False, True]


@pytest_twisted.ensureDeferred
async def test_the_ca_certificate_for_everybody_even_without_tls() -> None:
    rig = Rig()
    for path, name in (
        ("/ca/certificate", "ecdsa"),
        ("/ca/rsa/certificate", "rsa"),
        ("/ca/ecdsa/certificate", "ecdsa"),
    ):
        issuer = issuers().by_name(name)
        assert issuer is not None
        response = await rig.plain.get(f"http://ca.test{path}")
        assert response.code == 200
        assert await response.content() == issuer.certificate_der
        assert response.headers.getRawHeaders("content-type") == ["application/pkix-cert"]
        assert response.headers.getRawHeaders("cache-control") == ["public, max-age=3600"]
    for path in ("/ca/inventory", "/ca/csr", "/.well-known/est/cacerts"):
        assert (await rig.plain.get(f"http://ca.test{path}")).code == 404


@pytest_twisted.ensureDeferred
async def test_the_ca_chain_with_its_root() -> None:
    issuer = issuers().by_name("rsa")
    assert issuer is not None
    wanted = [issuer.certificate_der, issuer.root_der]
    rig = Rig()
    for path, headers in (
        ("/ca/rsa/certificate?format=pem", {}),
        ("/ca/rsa/certificate", {"Accept": "application/x-pem-file"}),
        ("/ca/rsa/certificate", {"Accept": "application/pem-certificate-chain"}),
    ):
        response, body = await rig.ask("GET", path, **headers)
        assert response.headers.getRawHeaders("content-type") == ["application/pem-certificate-chain"]
        assert [c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(body)] == wanted
    response, body = await rig.ask("GET", "/ca/rsa/certificate?format=p7c")
    assert response.headers.getRawHeaders("content-type") == ["application/pkcs7-mime; smime-type=certs-only"]
    read = pkcs7.load_der_pkcs7_certificates(body)
    assert {c.public_bytes(Encoding.DER) for c in read} == set(wanted)


@pytest_twisted.ensureDeferred
async def test_the_ca_certificate_is_not_sent_twice() -> None:
    rig = Rig()
    response, _ = await rig.ask("GET", "/ca/certificate")
    (tag,) = response.headers.getRawHeaders("etag")
    response, body = await rig.ask("GET", "/ca/certificate", If_None_Match=f'"other", {tag}')
    assert (response.code, body) == (304, b"")
    response, _ = await rig.ask("GET", "/ca/certificate?format=pem", If_None_Match=tag)
    assert response.code == 200


@pytest.mark.parametrize("kind", [kind for kind in RefusalKind if kind is not RefusalKind.PENDING])
@pytest_twisted.ensureDeferred
async def test_every_refusal_but_to_wait_is_a_problem(kind: RefusalKind, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.door.who = USER

    async def refuse(request: IssuanceRequest) -> None:
        raise Refusal(kind, "because", retry_after=7)

    monkeypatch.setattr(rig.authority, "issue", refuse)
    response, body = await rig.ask("POST", "/ca/csr", new_csr("CN=a"))
    assert_problem(response, body)
    assert response.headers.getRawHeaders("retry-after") == ["7"]


@pytest_twisted.ensureDeferred
async def test_a_hang_up_does_not_stop_a_revocation(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.door.who = USER
    certificate = await enrolled(rig, "CN=mine")
    rig.door.who = holder(certificate)
    gate: Deferred[None] = Deferred()
    really = rig.authority.revoke

    async def slowly(request: Any) -> Any:
        await gate
        return await really(request)

    monkeypatch.setattr(rig.authority, "revoke", slowly)
    asking = Deferred.fromCoroutine(revoke(rig, f"{certificate.serial_number:X}"))
    asking.addErrback(lambda _: None)
    asking.cancel()
    rig.treq.flush()
    gate.callback(None)
    await rig.tasks.wait()
    assert rig.store.records[1].revocation is not None
