"""External account binding (RFC 8555 §7.3.4): whom a key vouches for, and what that means for their orders."""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_twisted

from opencertd.acme.documents import Meta
from opencertd.acme.external_account import EabKey
from opencertd.issuance.rules import Policies, Policy, RequesterMatch, RequesterPolicy, parse_rule
from opencertd.model.names import AltNameKind
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.acme_admin import SqlAcmeAdmin
from opencertd.store.audit import SqlAuditStore
from tests.acme.rig import BASE, START, Client, Rig, ask
from tests.acme.signing import b64, csr_for, ec_key, jwk_of

SECRET = bytes(range(64))
URL = f"{BASE}/new-account"
OPERATOR = Requester(Proof.OPERATOR, "root", "root", ANY_NAME)


async def opened(key: EabKey) -> bytes:
    return key.sealed  # tests keep it as it is; `tests/keys/test_sealing.py` is about the encryption


def make_rig(*, required: bool = True) -> Rig:
    return Rig(meta=Meta(external_account_required=required), open_key=opened)


async def add(
    rig: Rig,
    key_id: str = "printers",
    *,
    profile: str | None = None,
    names: Sequence[str] = (),
    expires: datetime | None = None,
    most: int | None = None,
) -> None:
    await admin(rig).add_key(EabKey(key_id, SECRET, profile, tuple(names), START, expires, most))


def admin(rig: Rig) -> SqlAcmeAdmin:
    return SqlAcmeAdmin(rig.database, rig.clock, OPERATOR)


def bind(client: Client, key_id: str = "printers", secret: bytes = SECRET, **header: Any) -> dict[str, str]:
    """The JWS as the RFC has it, by Python's own `hmac`."""
    members = {"alg": "HS256", "kid": key_id, "url": URL, **header}
    protected = b64(json.dumps({name: value for name, value in members.items() if value is not None}).encode())
    payload = b64(json.dumps(jwk_of(client.key)).encode())
    digest = {"HS384": "sha384", "HS512": "sha512"}.get(str(members["alg"]), "sha256")
    mac = hmac.new(secret, f"{protected}.{payload}".encode(), digest).digest()
    return {"protected": protected, "payload": payload, "signature": b64(mac)}


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest_twisted.ensureDeferred
async def test_7_3_4_a_bound_account_is_made_and_shows_its_binding(algorithm: str) -> None:
    rig = make_rig()
    await add(rig)
    client = Client(rig)
    binding = bind(client, alg=algorithm)
    made = await client.register(externalAccountBinding={**binding, "more": "x"})
    assert (made.status, made.json["externalAccountBinding"]) == (201, binding)
    assert (await client.register()).json["externalAccountBinding"] == binding
    account = (await admin(rig).account(made.location.rpartition("/")[2]))[0]
    assert account.eab_key == "printers"


@pytest_twisted.ensureDeferred
async def test_7_3_4_without_a_binding_no_account_is_made_where_it_is_required() -> None:
    rig = make_rig()
    directory = await ask(rig, "GET", f"{BASE}/directory")
    assert directory.json["meta"]["externalAccountRequired"] is True
    reply = await Client(rig).register()
    assert (reply.status, reply.problem) == (403, "externalAccountRequired")
    open_to_all = make_rig(required=False)
    assert "externalAccountRequired" not in (await ask(open_to_all, "GET", f"{BASE}/directory")).json["meta"]
    assert (await Client(open_to_all).register()).status == 201


@pytest_twisted.ensureDeferred
async def test_7_3_4_a_binding_must_be_by_a_known_key_for_this_account_and_url() -> None:
    rig = make_rig(required=False)
    await add(rig)
    client, other = Client(rig), Client(rig)
    good = bind(client)
    for status, problem, wrong in (
        (403, "unauthorized", bind(client, "nobody")),
        (403, "unauthorized", bind(client, "nobody", bytes(64))),  # what stands in for a key that is not there
        (403, "unauthorized", bind(client, secret=bytes(64))),
        (403, "unauthorized", {**good, "signature": b64(bytes(31))}),
        (403, "unauthorized", {**good, "signature": ""}),
        (400, "malformed", bind(other)),
        (400, "malformed", bind(client, url=f"{BASE}/new-order")),
        (400, "malformed", bind(client, url=None)),
        (400, "malformed", bind(client, nonce="n")),
        (400, "malformed", bind(client, jwk=jwk_of(client.key))),
        (400, "malformed", bind(client, kid=None)),
        (400, "malformed", bind(client, kid=5)),
        (400, "malformed", bind(client, crit=["x"])),
        (400, "malformed", {**good, "payload": b64(b"[]")}),
        (400, "malformed", {**good, "payload": 5}),
        (400, "malformed", {**good, "header": {}}),
        (400, "malformed", "x"),
        (400, "malformed", [good]),
        (400, "malformed", {}),
    ):
        reply = await client.register(externalAccountBinding=wrong)
        assert (reply.status, reply.problem) == (status, problem), wrong
    for algorithm in ("ES256", "none", "HS1", None):
        reply = await client.register(externalAccountBinding=bind(client, alg=algorithm))
        assert (reply.status, reply.problem) == (400, "badSignatureAlgorithm")
        assert reply.json["algorithms"] == ["HS256", "HS384", "HS512"]
    assert (await client.register(externalAccountBinding=good)).status == 201


@pytest_twisted.ensureDeferred
async def test_a_key_binds_as_many_accounts_as_it_may_until_it_ends() -> None:
    rig = make_rig()
    await add(rig, "twice", most=2)
    await add(rig, "short", expires=START + timedelta(hours=1))
    await add(rig, "gone")
    await admin(rig).revoke_key("gone", accounts_too=False)
    for status in (201, 201, 403):
        client = Client(rig)
        assert (await client.register(externalAccountBinding=bind(client, "twice"))).status == status
    client = Client(rig)
    reply = await client.register(externalAccountBinding=bind(client, "gone"))
    assert (reply.problem, "revoked" in reply.json["detail"]) == ("unauthorized", True)
    assert (await client.register(externalAccountBinding=bind(client, "short"))).status == 201
    rig.clock.advance(timedelta(hours=1))
    other = Client(rig)
    reply = await other.register(externalAccountBinding=bind(other, "short"))
    assert (reply.problem, "expired" in reply.json["detail"]) == ("unauthorized", True)
    counted = {key.id: key.accounts for key in await admin(rig).keys()}
    assert counted == {"twice": 2, "short": 1, "gone": 0}


@pytest_twisted.ensureDeferred
async def test_the_last_use_goes_to_one_of_those_who_race_for_it() -> None:
    """What the store counts is what decides, not what was read before."""
    rig = make_rig()
    await add(rig, most=1)
    first, second = Client(rig), Client(rig)
    stale = await rig.store.eab_key("printers")
    assert (await first.register(externalAccountBinding=bind(first))).status == 201

    async def as_before(_: str) -> EabKey | None:
        return stale

    late = Rig(meta=Meta(external_account_required=True), open_key=opened, database=rig.database, find=as_before)
    second.rig = late
    reply = await second.register(externalAccountBinding=bind(second))
    assert (reply.status, reply.problem) == (403, "unauthorized")
    assert [key.accounts for key in await admin(rig).keys()] == [1]
    assert (await second.post("/new-account", {"onlyReturnExisting": True})).problem == "accountDoesNotExist"


@pytest_twisted.ensureDeferred
async def test_orders_of_a_bound_account_get_its_profile_and_only_its_names() -> None:
    rig = make_rig()
    await add(rig, profile="short-lived", names=["*.printers.example", "one.example"])
    client = Client(rig)
    await client.register(externalAccountBinding=bind(client))
    reply = await client.order("a.printers.example", "other.example", "printers.example")
    assert (reply.status, reply.problem) == (400, "rejectedIdentifier")
    assert [one["identifier"]["value"] for one in reply.json["subproblems"]] == ["other.example", "printers.example"]
    order = await client.ready("a.printers.example", "one.example", "*.b.printers.example")
    final = await client.finalize(order, csr_for(ec_key(), "a.printers.example", "one.example", "*.b.printers.example"))
    assert final.json["status"] == "valid"
    (asked,) = rig.authority.asked
    assert asked.profile == "short-lived"
    assert asked.requester.roles == frozenset({"eab:printers"})


@pytest_twisted.ensureDeferred
async def test_rules_of_the_core_know_the_key_by_its_role() -> None:
    rig = make_rig()
    await add(rig)
    level = Policy("[[policy.requester]]", deny=(parse_rule(AltNameKind.DNS, ".internal.example"),))
    policies = Policies(requesters=(RequesterPolicy(RequesterMatch(role="eab:printers"), level),))
    rig.authority.adopt(rig.authority.issuers, rig.authority.profiles, policies)
    client = Client(rig)
    await client.register(externalAccountBinding=bind(client))
    assert (await client.order("a.internal.example")).problem == "rejectedIdentifier"
    assert (await client.order("a.example")).status == 201


@pytest_twisted.ensureDeferred
async def test_a_key_revoked_with_its_accounts_blocks_them() -> None:
    rig = make_rig()
    await add(rig)
    await add(rig, "other")
    client, other = Client(rig), Client(rig)
    await client.register(externalAccountBinding=bind(client))
    await other.register(externalAccountBinding=bind(other, "other"))
    (blocked,) = await admin(rig).revoke_key("printers", accounts_too=True)
    assert blocked == str(client.kid).rpartition("/")[2]
    reply = await client.order("a.example")
    assert (reply.status, reply.problem) == (401, "unauthorized")
    again = await client.register(externalAccountBinding=bind(client, "other"))
    assert (again.status, again.problem) == (401, "unauthorized")  # nor has its key another one
    assert (await other.order("a.example")).status == 201


@pytest_twisted.ensureDeferred
async def test_every_deed_is_in_the_audit_log() -> None:
    rig = make_rig()
    await add(rig)
    client = Client(rig)
    made = await client.register(externalAccountBinding=bind(client))
    account_id = made.location.rpartition("/")[2]
    for deed, done in (("block", True), ("block", False), ("unblock", True), ("deactivate", True)):
        assert await admin(rig).change(account_id, deed) is done
    await admin(rig).revoke_key("printers", accounts_too=False)
    entries = await SqlAuditStore(rig.database, rig.clock).page(None, 100)
    own = [entry for entry in entries if entry.deed in {"change-account", "change-eab-key"}]
    told = [(entry.deed, entry.proof, json.loads(entry.what)["change"]) for entry in own]
    assert told == [
        ("change-eab-key", "operator", "add"),
        ("change-account", "acme-account", "bind"),
        ("change-account", "operator", "block"),
        ("change-account", "operator", "unblock"),
        ("change-account", "operator", "deactivate"),
        ("change-eab-key", "operator", "revoke"),
    ]
    assert all(SECRET.hex() not in entry.what and b64(SECRET) not in entry.what for entry in entries)
