"""Profiles and policies know ACME accounts by their ids: what one is refused, another one gets."""

from __future__ import annotations

import pytest_twisted
from cryptography import x509

from tests.acme.rig import Client, Rig, issuers
from tests.acme.signing import csr_for, ec_key, rsa_key
from tests.ca import make_rules

TWO_RULES = """
[policy.deny]
dns = ["never.example"]
[[policy.requester]]
proof = "acme-account"
id = "{id}"
allow.dns = [".printers.example"]
deny.dns = ["boss.printers.example"]
"""
ONE_ACCOUNT = """
[profiles.default]
requesters = [{{ proof = "acme-account", id = "{id}" }}]
"""
ONE_KIND = """
[profiles.default]
key_types = ["p-256"]
"""


async def account(rig: Rig) -> tuple[Client, str]:
    """A client, and its account's id."""
    client = Client(rig)
    await client.register()
    assert client.kid is not None
    return client, client.kid.rpartition("/")[2]


def go_by(rig: Rig, toml: str) -> None:
    rules = make_rules(toml, issuers())
    rig.authority.adopt(issuers(), rules.profiles, rules.policies)


async def refused(client: Client, *names: str) -> str:
    """Why the order was refused, when it was made."""
    reply = await client.order(*names)
    assert reply.problem == "rejectedIdentifier", reply.body
    return str(reply.json["detail"])


async def names_issued(client: Client, name: str) -> list[str]:
    _, pem = await client.certificate(name)
    leaf = x509.load_pem_x509_certificates(pem)[0]
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


@pytest_twisted.ensureDeferred
async def test_rules_for_one_account() -> None:
    rig = Rig()
    (printers, mine), (others, _) = await account(rig), await account(rig)
    go_by(rig, TWO_RULES.format(id=mine))
    assert await names_issued(printers, "p1.printers.example") == ["p1.printers.example"]
    assert "[[policy.requester]] number 1" in await refused(printers, "web.example")
    assert "'boss.printers.example' of [[policy.requester]] number 1" in await refused(
        printers, "boss.printers.example"
    )
    for name in ("web.example", "boss.printers.example"):
        assert await names_issued(others, name) == [name]
    for client in (printers, others):
        assert "'never.example' of [policy]" in await refused(client, "never.example")


@pytest_twisted.ensureDeferred
async def test_a_rule_that_comes_after_the_order_counts_when_it_is_finalized() -> None:
    rig = Rig()
    client, mine = await account(rig)
    order = await client.ready("web.example")
    go_by(rig, TWO_RULES.format(id=mine))
    final = await client.finalize(order, csr_for(ec_key(), "web.example"))
    await rig.work_off()
    settled = (await client.post(order.location)).json
    assert settled["status"] == "invalid", final.body
    assert "[[policy.requester]] number 1" in settled["error"]["detail"]


@pytest_twisted.ensureDeferred
async def test_a_profile_for_one_account() -> None:
    rig = Rig()
    (first, mine), (second, _) = await account(rig), await account(rig)
    go_by(rig, ONE_ACCOUNT.format(id=mine))
    assert await names_issued(first, "a.example") == ["a.example"]
    reply = await second.order("a.example")
    assert (reply.status, reply.problem) == (403, "unauthorized") and "not for this requester" in reply.json["detail"]


@pytest_twisted.ensureDeferred
async def test_a_key_that_the_profile_does_not_allow() -> None:
    rig = Rig()
    client, _ = await account(rig)
    go_by(rig, ONE_KIND)
    order = await client.ready("a.example")
    reply = await client.finalize(order, csr_for(rsa_key(), "a.example"))
    await rig.work_off()
    problem = reply.json if reply.problem else (await client.post(order.location)).json["error"]
    assert problem["type"].endswith(":badPublicKey") or problem["type"].endswith(":badCSR")
    assert "p-256, not rsa" in problem["detail"]
