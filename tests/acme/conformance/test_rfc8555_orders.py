"""RFC 8555 §7.1.3 to §7.6: orders, certificates, authorizations, revocation."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1.crl import Scope, encode_entry
from opencertd.crl.messages import Draft, build_tbs
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.validation.verdict import FailedProof, FailureKind
from tests.acme.conformance.people import (
    NEW_ORDER,
    authorization,
    certified,
    encoded,
    links,
    names,
    pending,
    registered,
)
from tests.acme.rig import BASE, START, Client, Reply, Rig
from tests.acme.signing import algorithm_of, b64, csr_for, ec_key, keys_of_all_kinds
from tests.acme.test_chains import crossed
from tests.conformance import shows


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


@shows("8555 §7.1.3/1")
async def test_7_1_3_orders_say_when_they_end() -> None:
    client = await registered()
    order = await client.ready("a.example")
    final = await client.finalize(order, csr_for(ec_key(), "a.example"))
    assert (order.json["status"], final.json["status"]) == ("pending", "valid")
    assert all(when(each.json["expires"]) > START for each in (order, final))


@shows("8555 §7.1.3/2")
async def test_7_1_3_a_wildcards_authorization_is_for_the_name_below_its_star() -> None:
    client = await registered()
    found = await authorization(client, await client.order("*.a.example"))
    assert found["identifier"] == {"type": "dns", "value": "a.example"}


@shows("8555 §7.1.3/3")
async def test_7_1_3_and_says_so() -> None:
    client = await registered()
    assert (await authorization(client, await client.order("*.a.example")))["wildcard"] is True


@shows("8555 §7.1.3/4")
async def test_7_1_3_an_order_keeps_what_it_is_for() -> None:
    client = await registered()
    order = await client.ready("a.example", "b.example")
    final = await client.finalize(order, csr_for(ec_key(), "a.example", "b.example"))
    after = (await client.post(order.location)).json
    for member in ("identifiers", "authorizations"):
        assert order.json[member] == final.json[member] == after[member]


@shows("8555 §7.1.3/5")
async def test_7_1_3_an_order_lists_every_authorization_that_counts() -> None:
    client = await registered()
    await client.ready("a.example")
    order = await client.order("a.example", "b.example")
    found = [(await client.post(url)).json["identifier"]["value"] for url in order.json["authorizations"]]
    assert sorted(found) == ["a.example", "b.example"]


@shows("8555 §7.1.4/1")
async def test_7_1_4_valid_authorizations_say_when_they_end() -> None:
    client = await registered()
    found = await authorization(client, await client.ready("a.example"))
    assert found["status"] == "valid" and when(found["expires"]) > START


@shows("8555 §7.1.4/2")
async def test_7_1_4_names_are_as_in_certificates() -> None:
    client = await registered()
    for wrong in ("bücher.example", "a_b..example", "-", "a." + "x" * 64 + ".example", "a.example/"):
        assert (await client.order(wrong)).status == 400, wrong
    order = await client.order("XN--BCHER-KVA.Example")
    assert order.json["identifiers"] == [{"type": "dns", "value": "xn--bcher-kva.example"}]


@shows("8555 §7.1.4/3")
async def test_7_1_4_a_labels_are_checked() -> None:
    client = await registered()
    assert (await client.order("xn--bcher-kva.example")).status == 201
    for wrong in ("xn--0.example", "xn--.example", "xn--a-ecp.ru", "xn--99999999.example"):
        assert (await client.order(wrong)).status == 400, wrong


@shows("8555 §7.1.4/4")
async def test_7_1_4_others_do_not_say_wildcard() -> None:
    client = await registered()
    assert not (await authorization(client, await client.order("a.example"))).get("wildcard", False)


@shows("8555 §7.4/1")
async def test_7_4_what_cannot_be_fulfilled_is_refused() -> None:
    client = await registered()
    for wish in (
        {**names("a.example"), "notAfter": "2131-01-01T00:00:00Z"},
        {**names("a.example"), "notBefore": "1970-01-01T00:00:00Z"},
        {"identifiers": [{"type": "telephone", "value": "5"}]},
        {"identifiers": []},
        {**names("a.example"), "profile": "no-such-profile"},
    ):
        assert (await client.post(NEW_ORDER, wish)).status == 400, wish
    assert (await client.post(f"{client.kid}/orders")).json["orders"] == []


@shows("8555 §7.4/2")
async def test_7_4_what_is_issued_is_what_was_ordered() -> None:
    client, key = await registered(), ec_key()
    made = await certified(client, "a.example", "b.example", key=key)
    sans = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(sans.get_values_for_type(x509.DNSName)) == {"a.example", "b.example"} and len(sans) == 2
    assert made.public_key() == key.public_key()


@shows("8555 §7.4/3")
async def test_7_4_an_order_whose_time_is_over() -> None:
    client = await registered()
    order = await client.order("a.example")
    client.rig.clock.advance(when(order.json["expires"]) - START)
    assert (await client.post(order.location)).json["status"] == "invalid"


@shows("8555 §7.4/4")
async def test_7_4_the_csr_is_for_the_same_names() -> None:
    client = await registered()
    order = await client.ready("a.example", "b.example")
    for others in (("a.example",), ("a.example", "b.example", "c.example"), ("a.example", "*.b.example"), ()):
        assert (await client.finalize(order, csr_for(ec_key(), *others))).problem == "badCSR", others


@shows("8555 §7.4/5")
async def test_7_4_in_the_common_name_or_in_subject_alt_name() -> None:
    for sans, common in ((["a.example"], None), ([], "a.example"), (["a.example"], "a.example")):
        client = await registered()
        order = await client.ready("a.example")
        csr = csr_for(ec_key(), *sans, common_name=common)
        assert (await client.finalize(order, csr)).json["status"] == "valid"


@shows("8555 §7.4/6")
async def test_7_4_an_order_that_is_not_ready() -> None:
    client = await registered()
    order = await client.order("a.example")
    reply = await client.finalize(order, csr_for(ec_key(), "a.example"))
    assert (reply.status, reply.problem) == (403, "orderNotReady")


@shows("8555 §7.4/7")
async def test_7_4_a_csr_that_is_refused() -> None:
    client = await registered()
    order = await client.ready("a.example")
    weak = ec.generate_private_key(ec.SECP256K1())
    for csr, why in ((csr_for(ec_key(), "b.example"), "b.example"), (csr_for(weak, "a.example"), "")):
        reply = await client.finalize(order, csr)
        assert reply.problem == "badCSR" and why in reply.json["detail"]


@shows("8555 §7.4/8")
async def test_7_4_may_be_followed_by_a_better_one() -> None:
    client = await registered()
    order = await client.ready("a.example")
    assert (await client.finalize(order, csr_for(ec_key(), "b.example"))).problem == "badCSR"
    assert (await client.post(order.location)).json["status"] == "ready"
    assert (await client.finalize(order, csr_for(ec_key(), "a.example"))).json["status"] == "valid"


@shows("8555 §7.4.2/1")
async def test_7_4_2_alternate_chains_are_of_the_same_certificate() -> None:
    rig = Rig()
    client = await registered(rig)
    issuing = next(each for each in rig.authority.issuers.all() if each.name == "ecdsa")
    crossed(rig, issuing)
    final, pem = await client.certificate("a.example")
    usual = await client.post(final.json["certificate"])
    others = links(usual, "alternate")
    assert others
    for url in others:
        first = x509.load_pem_x509_certificates((await client.post(url)).body)[0]
        assert first == x509.load_pem_x509_certificates(pem)[0]


@shows("8555 §7.5.1/1")
async def test_7_5_1_other_members_of_an_answer_are_passed_over() -> None:
    client = await registered()
    _, challenge = await pending(client)
    answer = {"keyAuthorization": "wrong", "token": "x", "status": "valid", "type": "dns-01", "y": {"z": 1}}
    reply = await client.post(challenge["url"], answer)
    assert (reply.status, reply.json) == (200, {**challenge, "status": "processing"})


@shows("8555 §7.5.1/2")
async def test_7_5_1_what_is_no_answer_is_refused() -> None:
    client = await registered()
    order, challenge = await pending(client)
    for payload in (b"[]", b"x", b"5", b"{"):
        assert (await client.post(challenge["url"], payload)).status == 400
    assert (await authorization(client, order))["challenges"][0]["status"] == "pending"


@shows("8555 §7.5.1/3")
async def test_7_5_1_until_when_it_is_valid() -> None:
    client = await registered()
    order, challenge = await pending(client)
    await client.post(challenge["url"], {})
    await client.rig.work_off()
    assert "expires" in await authorization(client, order)


@shows("8555 §7.5.1/4")
async def test_7_5_1_what_failed_is_still_shown() -> None:
    client = await registered()
    client.rig.validator.verdicts["a.example"] = FailedProof(FailureKind.UNAUTHORIZED, "no")
    order, challenge = await pending(client)
    await client.post(challenge["url"], {})
    await client.rig.work_off()
    shown = (await authorization(client, order))["challenges"]
    assert [(each["url"], each["status"]) for each in shown] == [(challenge["url"], "invalid")]


@shows("8555 §7.5.1/5")
async def test_7_5_1_looking_meanwhile() -> None:
    client = await registered()
    order, challenge = await pending(client)
    await client.post(challenge["url"], {})
    for url in (order.json["authorizations"][0], challenge["url"], order.location):
        assert (await client.post(url)).status == 200


@shows("8555 §7.5.2/1")
async def test_7_5_2_nobody_else_gives_it_up() -> None:
    rig = Rig()
    owner, other = await registered(rig), await registered(rig)
    order = await owner.ready("a.example")
    url = order.json["authorizations"][0]
    assert (await other.post(url, {"status": "deactivated"})).status == 403
    assert (await owner.post(url)).json["status"] == "valid"
    assert (await owner.post(url, {"status": "deactivated"})).json["status"] == "deactivated"


@shows("8555 §7.5.2/2")
async def test_7_5_2_what_was_given_up_does_not_count() -> None:
    client = await registered()
    order = await client.ready("a.example")
    await client.post(order.json["authorizations"][0], {"status": "deactivated"})
    reply = await client.finalize(order, csr_for(ec_key(), "a.example"))
    assert (reply.status, reply.problem) == (403, "orderNotReady") and client.rig.authority.asked == []
    assert (await client.order("a.example")).json["status"] == "pending"


async def revoked_for(client: Client, **reason: int) -> RevocationReason:
    reply = await client.post("/revoke-cert", {"certificate": encoded(await certified(client, "a.example")), **reason})
    assert reply.status == 200
    return client.rig.authority.revoked[-1].reason


@shows("8555 §7.6/1")
async def test_7_6_no_reason_is_no_reason_on_the_crl() -> None:
    client = await registered()
    for entry, shown in ((await revoked_for(client), 0), (await revoked_for(client, reason=4), 1)):
        issuer = client.rig.authority.issuers.by_name("ecdsa")
        assert issuer is not None
        found = (encode_entry(7, Revocation(START, entry)),)
        tbs = build_tbs(Draft(issuer, 1, START, START + timedelta(days=7), Scope()), found)
        assert tbs.count(bytes.fromhex("0603551d15")) == shown  # id-ce-cRLReasons


@shows("8555 §7.6/2")
async def test_7_6_a_reason_that_is_not_allowed() -> None:
    client = await registered()
    certificate = encoded(await certified(client, "a.example"))
    for reason in (6, 7, 8, 99, -1, "1", True):
        reply = await client.post("/revoke-cert", {"certificate": certificate, "reason": reason})
        assert (reply.status, reply.problem) == (400, "badRevocationReason"), reason
    assert client.rig.authority.revoked == []


@shows("8555 §7.6/3")
async def test_7_6_which_are_allowed() -> None:
    client = await registered()
    certificate = encoded(await certified(client, "a.example"))
    detail = (await client.post("/revoke-cert", {"certificate": certificate, "reason": 99})).json["detail"]
    assert all(f"{allowed}" in detail for allowed in (0, 1, 3, 4, 5))


async def revoking(rig: Rig, by: Client) -> Reply:
    owner = await registered(rig)
    return await by.post("/revoke-cert", {"certificate": encoded(await certified(owner, "a.example"))})


@shows("8555 §7.6/4")
async def test_7_6_not_by_anybody() -> None:
    rig = Rig()
    for stranger in (await registered(rig), Client(rig)):
        reply = await revoking(rig, stranger)
        assert (reply.status, reply.problem) == (403, "unauthorized")
    assert rig.authority.revoked == []


@shows("8555 §7.6/5")
async def test_7_6_by_the_account_that_got_it() -> None:
    client = await registered()
    certificate = encoded(await certified(client, "a.example"))
    assert (await client.post("/revoke-cert", {"certificate": certificate})).status == 200
    again = await client.post("/revoke-cert", {"certificate": certificate})
    assert (again.status, again.problem) == (400, "alreadyRevoked")


@shows("8555 §7.6/6")
async def test_7_6_by_who_controls_its_names() -> None:
    rig = Rig()
    other = await registered(rig)
    await other.ready("a.example")
    assert (await revoking(rig, other)).status == 200


@shows("8555 §7.6/7")
async def test_7_6_by_its_key() -> None:
    rig, key = Rig(), ec_key()
    certificate = encoded(await certified(await registered(rig), "a.example", key=key))
    reply = await Client(rig, key).post("/revoke-cert", {"certificate": certificate})
    assert (reply.status, reply.body) == (200, b"")


@shows("8555 §9.1/1")
async def test_9_1_strict_pem() -> None:
    final, pem = await (await registered()).certificate("a.example")
    for block in pem.decode("ascii").split("-----END CERTIFICATE-----\n")[:-1]:
        head, *lines = block.strip("\n").split("\n")
        assert head == "-----BEGIN CERTIFICATE-----"
        assert all(len(line) == 64 for line in lines[:-1]) and 0 < len(lines[-1]) <= 64
    assert final.status == 200


@shows("8555 §9.1/2")
async def test_9_1_nothing_but_certificates() -> None:
    _, pem = await (await registered()).certificate("a.example")
    rebuilt = b"".join(each.public_bytes(Encoding.PEM) for each in x509.load_pem_x509_certificates(pem))
    assert pem.replace(b"\n\n", b"\n") == rebuilt


@shows("8555 §9.1/3")
async def test_9_1_first_what_was_ordered() -> None:
    key = ec_key()
    first = await certified(await registered(), "a.example", key=key)
    assert first.public_key() == key.public_key()


@shows("8555 §9.1/4")
async def test_9_1_then_who_certifies_it() -> None:
    _, pem = await (await registered()).certificate("a.example")
    chain = x509.load_pem_x509_certificates(pem)
    assert len(chain) > 1
    for below, above in itertools.pairwise(chain):
        below.verify_directly_issued_by(above)


@shows("8555 §10.5/1")
async def test_10_5_urls_cannot_be_guessed() -> None:
    client = await registered()
    order, challenge = await pending(client)
    for url in (str(client.kid), order.location, order.json["authorizations"][0], challenge["url"]):
        assert len(url.rpartition("/")[2]) == 8 + 22, url  # the time, and 128 random bits
    assert order.location.startswith(f"{BASE}/order/")


@shows("8555 §11.1/1")
async def test_11_1_no_accounts_key_gets_a_certificate() -> None:
    rig = Rig()
    client = await registered(rig)
    order = await client.ready("a.example")
    for key in keys_of_all_kinds():
        await registered(rig, key)
        digest = hashes.SHA256() if algorithm_of(key)[:2] in {"RS", "ES"} else None
        wish = x509.CertificateSigningRequestBuilder(x509.Name([]))
        wish = wish.add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
        reply = await client.finalize(order, wish.sign(key, digest).public_bytes(Encoding.DER))
        assert reply.problem == "badCSR" and "an account" in reply.json["detail"], algorithm_of(key)
    assert (await client.post(order.location)).json["status"] == "ready"


@shows("8555 §11.1/2")
async def test_11_1_least_of_all_the_own() -> None:
    client = await registered()
    order = await client.ready("a.example")
    reply = await client.post(order.json["finalize"], {"csr": b64(csr_for(client.key, "a.example"))})
    assert reply.problem == "badCSR"


@shows("8555 §11.1/3")
async def test_11_1_one_account_for_a_key() -> None:
    rig = Rig()
    one = await registered(rig)
    again = await Client(rig, one.key).post("/new-account", {})
    assert (again.status, again.location) == (200, one.kid)
