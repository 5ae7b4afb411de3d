"""What validation tells beyond yes and no: CAA, proofs that end, the drafts' challenges; and what clients are shown."""

from __future__ import annotations

from datetime import timedelta

import pytest
import pytest_twisted

from opencertd.acme.documents import Meta
from opencertd.acme.orders import OrderTerms
from opencertd.validation.dns_persist import PersistTerms
from opencertd.validation.verdict import FailedProof, FailureKind, ProvenUntil
from tests.acme.rig import BASE, START, Client, Rig, ask
from tests.acme.signing import csr_for, ec_key, thumbprint_of
from tests.acme.test_accounts import inner

HOUR = timedelta(hours=1)
FORBIDDEN = FailedProof(FailureKind.CAA, "the CAA records of test do not name this CA")
ALL = ("http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01")
META = Meta(
    caa_identities=("ca.example", "other.example"),
    persist=PersistTerms(("ca.example", "other.example"), f"{BASE}/account-hash/"),
)


@pytest_twisted.ensureDeferred
async def test_a_name_that_caa_forbids_fails_by_that_type() -> None:
    rig = Rig()
    client = Client(rig)
    rig.validator.verdicts["a.test"] = FORBIDDEN
    order = await client.ready("a.test")
    document = (await client.post(order.location)).json
    assert document["status"] == "invalid"
    assert document["error"]["type"] == "urn:ietf:params:acme:error:caa"
    assert "a.test: the CAA records of test" in document["error"]["detail"]


@pytest.mark.parametrize("age", [timedelta(0), 8 * HOUR - timedelta(seconds=1)])
@pytest_twisted.ensureDeferred
async def test_what_caa_said_counts_for_eight_hours(age: timedelta) -> None:
    rig = Rig()
    client = Client(rig)
    order = await client.ready("a.test")
    rig.validator.caa["a.test"] = FORBIDDEN
    rig.clock.advance(age)
    assert (await client.finalize(order, csr_for(ec_key(), "a.test"))).json["status"] == "valid"
    assert rig.validator.caa_asked == []


@pytest_twisted.ensureDeferred
async def test_older_permission_is_asked_for_again_before_issuing() -> None:
    rig = Rig()
    client = Client(rig)
    order = await client.ready("a.test", "*.b.test")
    rig.clock.advance(8 * HOUR)
    rig.validator.caa["b.test"] = FORBIDDEN
    final = await client.finalize(order, csr_for(ec_key(), "a.test", "*.b.test"))
    assert final.json["status"] == "invalid" and rig.authority.asked == []
    assert final.json["error"]["type"] == "urn:ietf:params:acme:error:caa"
    assert final.json["error"]["detail"].startswith("b.test: ")
    first, second = rig.validator.caa_asked
    assert (first.name.value, first.wildcard, second.wildcard) == ("a.test", False, True)
    assert first.type == "dns-01" and first.account_url == client.kid


@pytest_twisted.ensureDeferred
async def test_while_dns_does_not_say_the_order_waits_and_ends_with_its_own_end() -> None:
    rig = Rig()
    client = Client(rig)
    order = await client.ready("a.test")
    rig.clock.advance(9 * HOUR)
    rig.validator.caa["a.test"] = FailedProof(FailureKind.DNS, "no answer")
    final = await client.finalize(order, csr_for(ec_key(), "a.test"))
    assert final.json["status"] == "processing"
    rig.clock.advance(HOUR)
    assert await rig.work_off() == 1
    assert (await client.post(order.location)).json["status"] == "processing"
    del rig.validator.caa["a.test"]
    rig.clock.advance(HOUR)
    assert await rig.work_off() == 1
    assert (await client.post(order.location)).json["status"] == "valid"


@pytest_twisted.ensureDeferred
async def test_a_proof_that_ends_ends_the_authorization_and_with_it_the_order() -> None:
    rig = Rig()
    client = Client(rig)
    rig.validator.verdicts["a.test"] = ProvenUntil(START + 5 * HOUR)
    order = await client.ready("a.test")
    url = order.json["authorizations"][0]
    shown = (await client.post(url)).json
    assert (shown["status"], shown["expires"]) == ("valid", "2031-05-06T12:08:09Z")
    assert (await client.post(order.location)).json["status"] == "ready"
    rig.clock.advance(5 * HOUR)
    assert (await client.post(url)).json["status"] == "expired"
    assert (await client.finalize(order, csr_for(ec_key(), "a.test"))).problem == "orderNotReady"


@pytest_twisted.ensureDeferred
async def test_a_proof_that_outlasts_the_authorization_changes_nothing() -> None:
    rig = Rig()
    client = Client(rig)
    rig.validator.verdicts["a.test"] = ProvenUntil(START + timedelta(days=900))
    order = await client.ready("a.test")
    shown = (await client.post(order.json["authorizations"][0])).json
    assert (shown["status"], shown["expires"]) == ("valid", "2031-05-13T07:08:09Z")


@pytest_twisted.ensureDeferred
async def test_the_drafts_challenges_are_offered_for_wildcards_too_and_say_what_their_records_need() -> None:
    rig = Rig(terms=OrderTerms("default", challenges=ALL), meta=META)
    client = Client(rig)
    await client.register()
    order = await client.order("a.test", "*.b.test")
    plain, wild = [(await client.post(url)).json for url in order.json["authorizations"]]
    assert [each["type"] for each in plain["challenges"]] == list(ALL)
    assert [each["type"] for each in wild["challenges"]] == ["dns-01", "dns-account-01", "dns-persist-01"]
    persistent = plain["challenges"][-1]
    assert persistent["issuerDomainNames"] == persistent["issuer-domain-names"] == ["ca.example", "other.example"]
    assert persistent["accounturi"] == client.kid and persistent["token"]
    alone = (await client.post(persistent["url"], {})).json
    assert alone["status"] == "processing" and alone["accounturi"] == client.kid
    assert all("accounturi" not in each for each in plain["challenges"][:-1])


@pytest_twisted.ensureDeferred
async def test_validators_learn_whose_question_it_is_and_whether_it_is_for_a_wildcard() -> None:
    rig = Rig()
    client = Client(rig)
    await client.ready("a.test", "*.b.test")
    plain, wild = rig.validator.asked
    assert (plain.account_url, plain.wildcard) == (client.kid, False)
    assert (wild.name.value, wild.wildcard) == ("b.test", True)


@pytest_twisted.ensureDeferred
async def test_a_persistent_record_is_looked_at_with_every_key_that_the_account_had() -> None:
    rig = Rig(terms=OrderTerms("default", challenges=ALL), meta=META)
    client = Client(rig)
    await client.register()
    had = []
    for _ in range(2):
        had.insert(0, thumbprint_of(client.key))
        rig.clock.advance(timedelta(seconds=1))
        key = ec_key()
        assert (await client.post("/key-change", inner(key, client.kid, client.key))).status == 200
        client.key = key
    await client.prove(await client.order("a.test"), "dns-persist-01")
    await client.prove(await client.order("b.test"), "dns-01")
    persistent, other = rig.validator.asked
    assert persistent.key_authorization.endswith(f".{thumbprint_of(client.key)}")
    assert (persistent.prior_keys, other.prior_keys) == (tuple(had), ())


@pytest_twisted.ensureDeferred
async def test_the_directory_tells_by_what_names_records_may_name_this_ca() -> None:
    document = (await ask(Rig(meta=META), "GET", f"{BASE}/directory")).json
    assert document["meta"]["caaIdentities"] == document["meta"]["issuerDomainNames"] == ["ca.example", "other.example"]
    assert document["meta"]["accountHashPrefix"] == f"{BASE}/account-hash/"
    plain = (await ask(Rig(), "GET", f"{BASE}/directory")).json
    assert not {"caaIdentities", "issuerDomainNames", "accountHashPrefix"} & set(plain["meta"])
