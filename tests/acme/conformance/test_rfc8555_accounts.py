"""RFC 8555 §6.7 and §7.1 to §7.3: errors, resources, nonces, accounts."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from opencertd.acme.documents import Meta
from opencertd.acme.problems import PROBLEMS, encode_refusal
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.model.names import AltNameKind
from opencertd.validation.caa import CaaRecord, CaaWish, why_forbidden
from opencertd.validation.verdict import FailedProof, FailureKind
from tests.acme.conformance.people import (
    ERROR,
    JOSE,
    NEW_ACCOUNT,
    NEW_ORDER,
    authorization,
    certified,
    envelope,
    links,
    names,
    pending,
    processing,
    registered,
    send,
)
from tests.acme.rig import BASE, Client, Reply, Rig, ask
from tests.acme.signing import csr_for, ec_key, jwk_of, sign
from tests.conformance import shows

REGISTERED = frozenset(
    # The IANA registry "ACME Error Types".
    {
        "accountDoesNotExist",
        "alreadyReplaced",
        "alreadyRevoked",
        "autoRenewalCanceled",
        "autoRenewalCancellationInvalid",
        "autoRenewalExpired",
        "autoRenewalRevocationNotSupported",
        "badCSR",
        "badNonce",
        "badPublicKey",
        "badRevocationReason",
        "badSignatureAlgorithm",
        "caa",
        "compound",
        "connection",
        "dns",
        "externalAccountRequired",
        "incorrectResponse",
        "invalidContact",
        "invalidProfile",
        "malformed",
        "onionCAARequired",
        "orderNotReady",
        "rateLimited",
        "rejectedIdentifier",
        "serverInternal",
        "tls",
        "unauthorized",
        "unknownDelegation",
        "unsupportedContact",
        "unsupportedIdentifier",
        "userActionRequired",
    }
)
TERMS = "https://ca.example/terms"


@shows("8555 §6.7/1")
async def test_6_7_errors_come_with_a_problem_document() -> None:
    client = await registered()
    for url, payload in ((NEW_ORDER, {}), ("/order/x", None), (str(client.kid), {"contact": 5})):
        reply = await client.post(url, payload)
        assert reply.status >= 400 and reply.problem and reply.json["detail"]
    assert (await ask(client.rig, "GET", f"{BASE}/nothing")).status == 404
    assert (await ask(client.rig, "POST", NEW_ORDER, b"", JOSE)).problem == "malformed"


@shows("8555 §6.7/2")
def test_6_7_types_are_registered() -> None:
    assert {kind for kind, _ in PROBLEMS.values()} <= REGISTERED
    assert {kind.value for kind in FailureKind} - {FailureKind.BAD_ATTESTATION.value} <= REGISTERED  # a draft's


@shows("8555 §6.7.1/1")
async def test_6_7_1_a_subproblem_names_its_identifier() -> None:
    client = await registered()
    wrong = [{"type": "dns", "value": "a..example"}, {"type": "telephone", "value": "5"}]
    reply = await client.post(NEW_ORDER, {"identifiers": [*names("good.example")["identifiers"], *wrong]})
    assert [each["identifier"] for each in reply.json["subproblems"]] == wrong
    assert all(each["type"].startswith(ERROR) for each in reply.json["subproblems"])


@shows("8555 §6.7.1/2")
def test_6_7_1_and_nothing_else_does() -> None:
    refused = (RefusedName(RefusalKind.REJECTED_NAME, AltNameKind.DNS.value, "a.example", "no"),)
    for kind in RefusalKind:
        assert "identifier" not in json.loads(encode_refusal(Refusal(kind, "no", names=refused)))


@shows("8555 §7.1/1")
async def test_7_1_directory_and_nonces() -> None:
    directory = (await ask(Rig(), "GET", f"{BASE}/directory")).json
    assert (await ask(Rig(), "HEAD", directory["newNonce"])).status == 200


@shows("8555 §7.1.1/2")
async def test_7_1_1_meta_is_an_object() -> None:
    for meta in (None, Meta(website="https://www.example", caa_identities=("ca.example",))):
        directory = (await ask(Rig(meta=meta), "GET", f"{BASE}/directory")).json
        assert isinstance(directory.get("meta", {}), dict)


@shows("8555 §7.1.1/3")
async def test_7_1_1_caa_identities_are_those_that_caa_is_held_against() -> None:
    ours = ("ca.example", "other.example")
    told = (await ask(Rig(meta=Meta(caa_identities=ours)), "GET", f"{BASE}/directory")).json["meta"]
    wish = CaaWish(frozenset(ours), f"{BASE}/account/x", "dns-01", wildcard=False)
    for identity in told["caaIdentities"]:
        assert why_forbidden((CaaRecord(0, "issue", identity.encode("ascii")),), wish) is None
        assert why_forbidden((CaaRecord(0, "issue", b"x" + identity.encode("ascii")),), wish) is not None
    assert len(told["caaIdentities"]) == len(ours)


@shows("8555 §7.1.2.1/1")
async def test_7_1_2_1_the_list_of_orders() -> None:
    rig = Rig()
    client, other = await registered(rig), await registered(rig)
    made = [(await client.order(name)).location for name in ("a.example", "b.example")]
    await other.order("c.example")
    account = (await client.post(str(client.kid))).json
    assert (await client.post(account["orders"])).json == {"orders": made}


@shows("8555 §7.1.2.1/2")
async def test_7_1_2_1_has_pending_orders() -> None:
    client = await registered()
    order = await client.order("a.example")
    assert order.json["status"] == "pending"
    assert order.location in (await client.post(f"{client.kid}/orders")).json["orders"]


@shows("8555 §7.1.2.1/3")
async def test_7_1_2_1_and_no_invalid_ones() -> None:
    client = await registered()
    late = await client.order("late.example")
    client.rig.clock.advance(timedelta(days=8))
    client.rig.validator.verdicts["bad.example"] = FailedProof(FailureKind.UNAUTHORIZED, "no")
    failed = await client.ready("bad.example")
    given_up = await client.ready("gone.example")
    await client.post(given_up.json["authorizations"][0], {"status": "deactivated"})
    good = await client.order("good.example")
    for order in (late, failed, given_up):
        assert (await client.post(order.location)).json["status"] == "invalid"
    assert (await client.post(f"{client.kid}/orders")).json["orders"] == [good.location]


@shows("8555 §7.2/1")
async def test_7_2_head() -> None:
    nonce = (await ask(rig := Rig(), "HEAD", f"{BASE}/new-nonce")).headers["replay-nonce"][0]
    assert (await Client(rig).post(NEW_ACCOUNT, {}, nonce=nonce)).status == 201


@shows("8555 §7.2/2")
async def test_7_2_head_is_200() -> None:
    assert (await ask(Rig(), "HEAD", f"{BASE}/new-nonce")).status == 200


@shows("8555 §7.2/3")
async def test_7_2_get_is_204() -> None:
    reply = await ask(rig := Rig(), "GET", f"{BASE}/new-nonce")
    assert (reply.status, reply.body) == (204, b"")
    assert (await Client(rig).post(NEW_ACCOUNT, {}, nonce=reply.headers["replay-nonce"][0])).status == 201


@shows("8555 §7.2/4")
async def test_7_2_no_store() -> None:
    for method in ("HEAD", "GET"):
        assert (await ask(Rig(), method, f"{BASE}/new-nonce")).headers["cache-control"] == ["no-store"]


@shows("8555 §7.3/1")
async def test_7_3_asking_for_an_account_makes_none() -> None:
    client = Client(Rig())
    for _ in range(2):
        assert (await client.post(NEW_ACCOUNT, {"onlyReturnExisting": True})).status == 400


@shows("8555 §7.3/2")
async def test_7_3_what_is_not_a_clients_to_say_is_passed_over() -> None:
    client = Client(Rig())
    reply = await client.register(orders="https://evil.example/", status="revoked", createdAt="1970", x={"y": 1})
    assert reply.status == 201 and reply.json["status"] == "valid"
    assert reply.json["orders"] == f"{client.kid}/orders"


@shows("8555 §7.3/3")
async def test_7_3_and_does_not_come_back() -> None:
    reply = await Client(Rig()).register(x=1, createdAt="1970")
    assert set(reply.json) <= {"status", "contact", "orders", "termsOfServiceAgreed"}


@shows("8555 §7.3/4")
async def test_7_3_contacts_are_checked() -> None:
    for url in ("mailto:nobody", "tel:+431", "mailto:a b@c.example", "", "x"):
        assert (await Client(Rig()).register(contact=[url])).status == 400, url


@shows("8555 §7.3/5")
async def test_7_3_mailto() -> None:
    reply = await Client(Rig()).register(contact=["mailto:a@b.example"])
    assert (reply.status, reply.json["contact"]) == (201, ["mailto:a@b.example"])


@shows("8555 §7.3/6")
async def test_7_3_one_address_and_nothing_else() -> None:
    for url in ("mailto:a@b.example?subject=x", "mailto:a@b.example,c@d.example"):
        assert (await Client(Rig()).register(contact=[url])).problem == "invalidContact"


@shows("8555 §7.3/7")
async def test_7_3_another_kind_of_contact() -> None:
    reply = await Client(Rig()).register(contact=["tel:+4319876543"])
    assert reply.problem == "unsupportedContact" and "mailto" in reply.json["detail"]


@shows("8555 §7.3/8")
async def test_7_3_a_wrong_contact() -> None:
    assert (await Client(Rig()).register(contact=["mailto:nobody"])).problem == "invalidContact"


@shows("8555 §7.3/9")
async def test_7_3_the_terms_are_named() -> None:
    directory = await ask(Rig(meta=Meta(terms_of_service=TERMS)), "GET", f"{BASE}/directory")
    assert directory.json["meta"]["termsOfService"] == TERMS


@shows("8555 §7.3/10")
async def test_7_3_the_terms_must_be_agreed_to() -> None:
    client = Client(Rig(meta=Meta(terms_of_service=TERMS)))
    for answer in ({}, {"termsOfServiceAgreed": False}, {"termsOfServiceAgreed": "true"}):
        assert (await client.post(NEW_ACCOUNT, answer)).status >= 400
    assert (await client.post(NEW_ACCOUNT, {"termsOfServiceAgreed": True})).status == 201


@shows("8555 §7.3.1/1")
async def test_7_3_1_a_key_that_is_known() -> None:
    client = await registered()
    reply = await client.post(NEW_ACCOUNT, {}, by_key=True)
    assert (reply.status, reply.location) == (200, client.kid)


@shows("8555 §7.3.1/2")
async def test_7_3_1_changes_nothing() -> None:
    client = Client(Rig())
    made = await client.register(contact=["mailto:a@b.example"])
    again = await client.post(NEW_ACCOUNT, {"contact": ["mailto:c@d.example"], "status": "deactivated"}, by_key=True)
    assert again.json == made.json == (await client.post(str(client.kid))).json


@shows("8555 §7.3.1/3")
async def test_7_3_1_a_key_that_is_not() -> None:
    reply = await Client(Rig()).post(NEW_ACCOUNT, {"onlyReturnExisting": True})
    assert (reply.status, reply.problem) == (400, "accountDoesNotExist")


@shows("8555 §7.3.2/1")
async def test_7_3_2_what_cannot_be_updated() -> None:
    client = await registered()
    before = (await client.post(str(client.kid))).json
    update = {"orders": "https://evil.example/", "termsOfServiceAgreed": False, "status": "revoked", "x": 1}
    assert (await client.post(str(client.kid), update)).status == 200
    assert (await client.post(str(client.kid), {"status": "valid"})).json == before


@shows("8555 §7.3.2/2")
async def test_7_3_2_an_update_is_answered_with_the_account() -> None:
    client = await registered()
    reply = await client.post(str(client.kid), {"contact": ["mailto:c@d.example"]})
    assert (reply.status, reply.json["contact"]) == (200, ["mailto:c@d.example"])


def change(client: Client, new: Any, **spoil: Any) -> Any:
    """The inner JWS of a key change, with members of its header (`url`, `nonce`, `jwk`) or payload replaced."""
    payload = {"account": client.kid, "oldKey": jwk_of(client.key)}
    header = {"jwk": jwk_of(new), "url": f"{BASE}/key-change"}
    for name, value in spoil.items():
        (payload if name in payload else header)[name] = value
    return sign(new, {name: value for name, value in header.items() if value is not None}, json.dumps(payload).encode())


async def refused_change(**spoil: Any) -> Reply:
    client = await registered()
    old, new = client.key, ec_key()
    reply = await client.post("/key-change", change(client, new, **spoil))
    assert reply.status >= 400
    assert (await client.post(str(client.kid))).status == 200 and client.key is old
    return reply


@shows("8555 §7.3.5/1")
async def test_7_3_5_only_active_accounts() -> None:
    client = await registered()
    await client.post(str(client.kid), {"status": "deactivated"})
    assert (await client.post("/key-change", change(client, ec_key()))).status == 401


@shows("8555 §7.3.5/2")
async def test_7_3_5_a_jws_within() -> None:
    client = await registered()
    for payload in (None, {}, b"x", {"protected": "", "payload": "", "signature": ""}):
        assert (await client.post("/key-change", payload)).problem == "malformed"


@shows("8555 §7.3.5/3")
async def test_7_3_5_with_the_new_key() -> None:
    assert (await refused_change(jwk=None)).problem == "malformed"


@shows("8555 §7.3.5/4")
async def test_7_3_5_that_signed_it() -> None:
    assert (await refused_change(jwk=jwk_of(ec_key()))).problem == "malformed"


@shows("8555 §7.3.5/5")
async def test_7_3_5_about_an_account() -> None:
    client = await registered()
    new = ec_key()
    for payload in (b"", b"[]", b"{}", json.dumps({"account": client.kid}).encode()):
        inner = sign(new, {"jwk": jwk_of(new), "url": f"{BASE}/key-change"}, payload)
        assert (await client.post("/key-change", inner)).problem == "malformed"


@shows("8555 §7.3.5/6")
async def test_7_3_5_for_the_same_url() -> None:
    assert (await refused_change(url=NEW_ACCOUNT)).problem == "malformed"


@shows("8555 §7.3.5/7")
async def test_7_3_5_the_account_that_asks() -> None:
    assert (await refused_change(account=f"{BASE}/account/x")).problem == "malformed"


@shows("8555 §7.3.5/8")
async def test_7_3_5_its_old_key() -> None:
    assert (await refused_change(oldKey=jwk_of(ec_key()))).problem == "malformed"


@shows("8555 §7.3.5/9")
async def test_7_3_5_a_key_of_nobody_else() -> None:
    rig = Rig()
    one, other = await registered(rig), await registered(rig)
    assert (await one.post("/key-change", change(one, other.key))).status == 409
    assert (await one.post(str(one.kid))).status == (await other.post(str(other.kid))).status == 200


@shows("8555 §7.3.5/10")
async def test_7_3_5_no_nonce_within() -> None:
    assert (await refused_change(nonce="AAAA")).problem == "malformed"


@shows("8555 §7.3.5/11")
async def test_7_3_5_whose_key_it_is() -> None:
    rig = Rig()
    one, other = await registered(rig), await registered(rig)
    reply = await one.post("/key-change", change(one, other.key))
    assert (reply.status, reply.location) == (409, other.kid)


@shows("8555 §7.3.5/12")
async def test_7_3_5_orders_go_on() -> None:
    client, new = await registered(), ec_key()
    order, challenge = await pending(client)
    assert (await client.post("/key-change", change(client, new))).status == 200
    client.key = new
    assert (await client.post(order.location)).json == order.json
    assert (await authorization(client, order))["challenges"][0]["status"] == "pending"
    await client.post(challenge["url"], {})
    await client.rig.work_off()
    assert (await client.finalize(order, csr_for(ec_key(), "a.example"))).json["status"] == "valid"


@shows("8555 §7.3.6/1")
async def test_7_3_6_by_its_own_key() -> None:
    rig = Rig()
    client, other = await registered(rig), await registered(rig)
    url = str(client.kid)
    assert (await other.post(url, {"status": "deactivated"})).status == 403
    assert (await other.post(url, {"status": "deactivated"}, kid=url)).problem == "malformed"
    assert (await client.post(url)).json["status"] == "valid"


@shows("8555 §7.3.6/2")
async def test_7_3_6_is_then_unauthorized() -> None:
    client = await registered()
    assert (await client.post(str(client.kid), {"status": "deactivated"})).json["status"] == "deactivated"
    for url in (str(client.kid), f"{client.kid}/orders", NEW_ORDER):
        reply = await client.post(url)
        assert (reply.status, reply.problem) == (401, "unauthorized")


@shows("8555 §7.3.6/3")
async def test_7_3_6_can_do_nothing() -> None:
    client = await registered()
    order = await client.ready("a.example")
    document = await envelope(client, order.json["finalize"], {"csr": "AAAA"})
    await client.post(str(client.kid), {"status": "deactivated"})
    assert (await send(client, order.json["finalize"], document)).status == 401
    assert (await client.post(NEW_ACCOUNT, {}, by_key=True)).status == 401
    assert client.rig.authority.asked == []


@shows("8555 §7.3.6/4")
async def test_7_3_6_what_is_under_way_is_given_up() -> None:
    rig = Rig()
    client = await registered(rig)
    await processing(rig, client)
    _, challenge = await pending(client, "b.example")
    await client.post(challenge["url"], {})
    asked = len(rig.validator.asked), len(rig.authority.asked)
    await client.post(str(client.kid), {"status": "deactivated"})
    rig.clock.advance(timedelta(minutes=10))
    assert await rig.work_off() == 2
    assert (len(rig.validator.asked), len(rig.authority.asked)) == asked
    rig.clock.advance(timedelta(days=1))
    assert await rig.work_off() == 0


@shows("8555 §7.3.6/5")
async def test_7_3_6_certificates_stay() -> None:
    client = await registered()
    await certified(client, "a.example")
    await client.post(str(client.kid), {"status": "deactivated"})
    await client.rig.work_off()
    assert client.rig.authority.revoked == []


def test_links_are_found() -> None:
    """The helper that other checks rely on."""
    reply = Reply(200, {"link": ['<https://a.example/>;rel="next"', '<https://b.example/>;rel="index"']}, b"", 0)
    assert links(reply, "next") == ["https://a.example/"]
