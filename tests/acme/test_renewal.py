"""RFC 9773: when to renew, and what replaces what. Named by its sections."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from opencertd.acme.renewal import CertificateName, RenewalTerms, is_given_up, parse_certificate_name
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuers
from opencertd.model.certificates import IssuerRole, IssuerState, RevocationReason
from opencertd.model.request import RevocationRequest
from opencertd.model.requester import ANY_NAME, Proof, Requester
from tests.acme.rig import BASE, START, Client, Reply, Rig, ask, issuers
from tests.acme.signing import b64, csr_for, ec_key

NAME = "a.example"
PAGE = "https://ca.example/why"
OPERATOR = Requester(Proof.PASSWORD, "op", "op", ANY_NAME)
EXAMPLE = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
"""The certificate of RFC 9773 §4.1 and its appendix A."""


def name_of(pem: bytes) -> str:
    """The certificate's identifier by another's code and a DER INTEGER written by hand."""
    leaf = x509.load_pem_x509_certificates(pem)[0]
    aki = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert aki is not None
    digits = f"{leaf.serial_number:x}"
    serial = bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
    return f"{b64(aki)}.{b64(serial if serial[0] < 0x80 else bytes(1) + serial)}"


async def info(rig: Rig, name: str) -> Reply:
    directory = (await ask(rig, "GET", f"{BASE}/directory")).json
    return await ask(rig, "GET", f"{directory['renewalInfo']}/{name}")


def window(reply: Reply) -> tuple[datetime, datetime]:
    found = reply.json["suggestedWindow"]
    start, end = (datetime.strptime(found[end], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for end in ("start", "end"))
    assert start < end
    return start, end


async def issued(**options: Any) -> tuple[Rig, Client, str]:
    rig = Rig(**options)
    client = Client(rig)
    return rig, client, name_of((await client.certificate(NAME))[1])


def test_4_1_the_example_of_the_rfc_is_read_and_written() -> None:
    name = parse_certificate_name(EXAMPLE)
    assert name.key_identifier.hex() == "69885b6b87464041e1b37b847ba0ae2cde01c8d4"
    assert name.serial == 0x87654321
    assert str(name) == EXAMPLE


@given(st.binary(min_size=1, max_size=20), st.integers(0, 2**159 - 1))
def test_4_1_every_identifier_has_one_spelling(key_identifier: bytes, serial: int) -> None:
    name = CertificateName(key_identifier, serial)
    assert parse_certificate_name(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "x", "a.b.c", "aYhb.", ".AIdl", "aYhb=.AIdl", "aYhb.+_==", "aYhb.AIdlQyF"),
        "aYhb.h2VDIQ",  # negative: the sign octet is missing
        "aYhb.AAABAQ",  # more octets than DER writes
        "A" * 200 + ".AQ",
        "aYhb." + "AQ" * 100,
        "aYhb.AQ%00",
    ],
)
@pytest_twisted.ensureDeferred
async def test_4_1_a_malformed_identifier_is_refused_as_such(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_certificate_name(text)
    assert caught.value.kind is RefusalKind.MALFORMED
    if text and "%" not in text:
        reply = await info(Rig(), text)
        assert (reply.status, reply.problem) == (400, "malformed")


@pytest_twisted.ensureDeferred
async def test_4_1_what_this_ca_did_not_issue_is_not_found() -> None:
    rig, _, name = await issued()
    key_identifier, serial = name.split(".")
    for unknown in (EXAMPLE, f"{key_identifier}.AQ", f"aYhba4dGQEHhs3uEe6CuLN4ByNQ.{serial}"):
        reply = await info(rig, unknown)
        assert (reply.status, reply.problem) == (404, "malformed")


@pytest_twisted.ensureDeferred
async def test_4_2_the_window_is_the_set_part_of_the_life_and_always_the_same() -> None:
    rig, _, name = await issued(renewal=RenewalTerms((0.5, 0.75), timedelta(hours=6), PAGE))
    reply = await info(rig, name)
    assert (reply.status, reply.headers["content-type"]) == (200, ["application/json"])
    assert reply.headers["link"] == [f'<{BASE}/directory>;rel="index"']
    start, end = window(reply)
    life = timedelta(days=90)
    assert abs(start - (START + life / 2)) < timedelta(minutes=2)
    assert abs(end - (START + life * 0.75)) < timedelta(minutes=2)
    assert "explanationURL" not in reply.json
    rig.clock.advance(timedelta(days=80))
    assert window(await info(rig, name)) == (start, end)
    assert (await ask(rig, "HEAD", f"{BASE}/renewal-info/{name}")).status == 200
    assert (await ask(rig, "POST", f"{BASE}/renewal-info/{name}", b"")).status == 405


@pytest_twisted.ensureDeferred
async def test_4_3_clients_are_told_when_to_ask_again_each_at_another_time() -> None:
    rig, _, name = await issued()
    told = {int((await info(rig, name)).headers["retry-after"][0]) for _ in range(50)}
    assert len(told) > 10
    assert all(6 * 3600 <= seconds <= 7.5 * 3600 for seconds in told)


@pytest_twisted.ensureDeferred
async def test_4_3_short_lives_are_looked_at_more_often() -> None:
    rig = Rig()
    client = Client(rig)
    await client.register()
    order = await client.order(NAME, profile="short-lived")
    await client.prove(order)
    final = await client.finalize(order, csr_for(ec_key(), NAME))
    name = name_of((await client.post(final.json["certificate"])).body)
    assert 3600 <= int((await info(rig, name)).headers["retry-after"][0]) <= 4500


@pytest.mark.parametrize(
    ("reason", "moved"), [(RevocationReason.SUPERSEDED, True), (RevocationReason.CERTIFICATE_HOLD, False)]
)
@pytest_twisted.ensureDeferred
async def test_4_2_a_revoked_certificate_is_to_be_renewed_at_once(reason: RevocationReason, moved: bool) -> None:
    rig, _, name = await issued(renewal=RenewalTerms(explanation_url=PAGE))
    parsed = parse_certificate_name(name)
    (record,) = await rig.authority.store.by_serial(parsed.serial)
    await rig.authority.revoke(RevocationRequest(record.issuer_id, record.serial, reason, OPERATOR))
    reply = await info(rig, name)
    assert (window(reply)[1] <= rig.clock.now()) is moved
    assert reply.json.get("explanationURL") == (PAGE if moved else None)


@pytest.mark.parametrize("state", [IssuerState.RETIRED, IssuerState.REVOKED])
@pytest_twisted.ensureDeferred
async def test_4_2_so_is_one_whose_issuer_signs_no_more(state: IssuerState) -> None:
    rig, _, name = await issued()
    assert window(await info(rig, name))[0] > rig.clock.now()
    rig.authority.issuers = with_state(IssuerRole.ISSUING, state)
    assert window(await info(rig, name))[1] <= rig.clock.now()


def with_distrusted(name: str) -> Issuers:
    changed = {name: START}
    return Issuers(
        tuple(
            replace(each, record=replace(each.record, distrusted_at=changed.get(each.name))) for each in issuers().all()
        )
    )


@pytest_twisted.ensureDeferred
async def test_4_2_so_is_one_whose_issuer_is_distrusted_and_the_next_is_by_another() -> None:
    rig, client, name = await issued(renewal=RenewalTerms(explanation_url=PAGE))
    rig.authority.adopt(with_distrusted("ecdsa"), rig.authority.profiles, rig.authority.policies)
    reply = await info(rig, name)
    assert window(reply)[1] <= rig.clock.now()
    assert reply.json["explanationURL"] == PAGE
    _, pem = await client.certificate(NAME)
    assert "ECDSA" not in x509.load_pem_x509_certificate(pem).issuer.rfc4514_string()
    assert window(await info(rig, name_of(pem)))[0] > rig.clock.now(), "or clients would renew for ever"
    rig.authority.adopt(issuers(), rig.authority.profiles, rig.authority.policies)
    assert window(await info(rig, name))[0] > rig.clock.now()


def with_state(role: IssuerRole, state: IssuerState) -> Issuers:
    changed = (replace(each, record=replace(each.record, state=state)) for each in issuers().all() if each.role is role)
    return Issuers((*changed, *(each for each in issuers().all() if each.role is not role)))


def test_4_2_an_issuer_is_given_up_when_something_above_it_is_revoked_or_it_has_a_successor() -> None:
    assert not any(is_given_up(issuer, issuers()) for issuer in issuers().issuing())
    for state, expected in ((IssuerState.REVOKED, True), (IssuerState.RETIRED, False)):
        above = with_state(IssuerRole.ROOT, state)
        assert {is_given_up(issuer, above) for issuer in above.issuing()} == {expected}
    first, second = issuers().issuing()
    second = replace(second, record=replace(second.record, predecessor_id=first.id))
    rolled = Issuers((first, second))
    assert (is_given_up(first, rolled), is_given_up(second, rolled)) == (True, False)
    waiting = rolled.waiting_for(frozenset({second.id}))  # a renewal now would come from the old one again
    assert not is_given_up(first, waiting)


@pytest_twisted.ensureDeferred
async def test_5_an_order_says_what_it_replaces_and_is_the_only_one_once_finalized() -> None:
    _, client, name = await issued()
    order = await client.order(NAME, "b.example", replaces=name)
    assert (order.status, order.json["replaces"]) == (201, name)
    rival = await client.order(NAME, replaces=name)
    assert rival.status == 201  # nothing is replaced before an order is finalized
    await client.prove(order)
    final = await client.finalize(order, csr_for(ec_key(), NAME, "b.example"))
    assert (final.json["status"], final.json["replaces"]) == ("valid", name)
    assert (await client.post(order.location)).json["replaces"] == name
    again = await client.order(NAME, replaces=name)
    assert (again.status, again.problem) == (409, "alreadyReplaced")
    new = name_of((await client.post(final.json["certificate"])).body)
    assert (await client.order(NAME, replaces=new)).status == 201


@pytest_twisted.ensureDeferred
async def test_5_an_order_that_failed_has_replaced_nothing() -> None:
    rig, client, name = await issued()
    order = await client.order(NAME, replaces=name)
    await client.prove(order)
    rig.authority.failures = [Refusal(RefusalKind.REJECTED_NAME, "not this one")]
    assert (await client.finalize(order, csr_for(ec_key(), NAME))).json["status"] == "invalid"
    assert (await client.order(NAME, replaces=name)).status == 201


@pytest_twisted.ensureDeferred
async def test_5_what_may_not_be_replaced_is_refused_in_words() -> None:
    rig, client, name = await issued()
    other = Client(rig)
    await other.register()
    stolen = await other.order(NAME, replaces=name)
    assert (stolen.status, stolen.problem) == (403, "unauthorized")
    unrelated = await client.order("other.example", replaces=name)
    assert (unrelated.problem, "no name" in unrelated.json["detail"]) == ("malformed", True)
    for wrong in (EXAMPLE, "x", 5, ["x"], {}):
        reply = await client.order(NAME, replaces=wrong)
        assert (reply.status, reply.problem) == (400, "malformed")
    for nothing in (None, ""):
        assert "replaces" not in (await client.order(NAME, replaces=nothing)).json
