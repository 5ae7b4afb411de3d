"""What is read of a plain answer is what dnspython reads of it, and of anything else nothing is."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
from dns.rdatatype import AAAA, CAA, TXT, A, RdataType
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.validation.dns_wire import Plain, encode_question, read_plain

NAME = dns.name.from_text("a.b-c.test")
RECORDS = {
    A: ["10.0.0.1", "192.0.2.200"],
    AAAA: ["fd00::1", "2001:db8::ff"],
    TXT: ['"one" "of two"', '"\\195\\164"', '""'],
    CAA: ['0 issue "ca.test"', '128 iodef "mailto:a@b.test"'],
}


def question(kind: RdataType, *, dnssec: bool = False) -> bytes:
    return encode_question(0x1234, NAME, kind, dnssec=dnssec)


def answer(kind: RdataType, count: int, *, more: bool = False, flags: int = 0) -> bytes:
    made = dns.message.make_response(dns.message.from_wire(question(kind)), recursion_available=True)
    made.flags |= flags
    if count:
        made.answer.append(dns.rrset.from_text(NAME, 60, "IN", kind, *RECORDS[kind][:count]))
    if more:
        made.authority.append(dns.rrset.from_text("b-c.test.", 60, "IN", "SOA", "ns.test. me.test. 1 2 3 4 5"))
        made.additional.append(dns.rrset.from_text("ns.test.", 60, "IN", "A", "10.9.9.9"))
        made.use_edns(0)
    return made.to_wire()


@pytest.mark.parametrize("dnssec", [True, False])
def test_a_question_reads_as_dnspython_would_have_asked_it(dnssec: bool) -> None:
    asked = dns.message.from_wire(question(TXT, dnssec=dnssec))
    expected = dns.message.make_query(NAME, TXT, id=0x1234, flags=dns.flags.RD)
    if dnssec:
        expected.use_edns(0, dns.flags.DO, dns.message.DEFAULT_EDNS_PAYLOAD)
        expected.flags |= dns.flags.AD
    assert asked == expected
    assert (asked.id, asked.flags, asked.edns, asked.ednsflags, asked.payload) == (
        (expected.id, expected.flags, expected.edns, expected.ednsflags, expected.payload)
    )


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("more", [True, False])
def test_plain_answers_are_read(kind: RdataType, count: int, more: bool) -> None:
    found = read_plain(question(kind), answer(kind, count, more=more, flags=dns.flags.AD))
    assert isinstance(found, Plain)
    assert found.flags & dns.flags.AD
    assert sorted(record.to_text() for record in found.records) == sorted(RECORDS[kind][:count])


def changed(data: bytes, at: int, to: bytes) -> bytes:
    return data[:at] + to + data[at + len(to) :]


PLAIN = answer(A, 2)
OTHER = {
    "another number": changed(PLAIN, 0, b"\x12\x35"),
    "a question": changed(PLAIN, 2, b"\x01\x00"),
    "truncated": changed(PLAIN, 2, b"\x83\x80"),
    "an error": changed(PLAIN, 3, b"\x82"),
    "another opcode": changed(PLAIN, 2, b"\xa1"),
    "another name": changed(PLAIN, 13, b"x"),
    "another type": answer(AAAA, 1),
    "two questions": changed(PLAIN, 4, b"\x00\x02"),
    "more records than there are": changed(PLAIN, 6, b"\x00\x03"),
    "cut off": PLAIN[:-1],
    "nothing": b"",
}


@pytest.mark.parametrize("data", OTHER.values(), ids=OTHER)
def test_anything_else_is_not(data: bytes) -> None:
    assert read_plain(question(A), data) is None


def test_an_alias_is_not_plain() -> None:
    made = dns.message.make_response(dns.message.from_wire(question(A)))
    made.answer.append(dns.rrset.from_text(NAME, 60, "IN", "CNAME", "other.test."))
    made.answer.append(dns.rrset.from_text("other.test.", 60, "IN", "A", "10.0.0.1"))
    assert read_plain(question(A), made.to_wire()) is None


@settings(max_examples=2000, deadline=None)
@given(
    st.sampled_from([(kind, count, more) for kind in RECORDS for count in (0, 1, 2) for more in (True, False)]),
    st.lists(st.tuples(st.integers(0, 10**4), st.binary(max_size=2), st.integers(0, 2)), min_size=1, max_size=3),
)
def test_what_is_read_of_a_bent_answer_is_what_dnspython_reads_if_it_can(
    of: tuple[RdataType, int, bool], bends: list[tuple[int, bytes, int]]
) -> None:
    kind, count, more = of
    data = answer(kind, count, more=more)
    for place, by, gone in bends:
        at = place % (len(data) + 1)
        data = data[:at] + by + data[at + gone :]
    found = read_plain(question(kind), data)
    try:
        message = dns.message.from_wire(data)
        if not isinstance(message, dns.message.QueryMessage):
            assert found is None
            return
        peer = dns.resolver.Answer(NAME, kind, dns.rdataclass.IN, message)
    except (dns.exception.DNSException, ValueError):
        return
    if found is not None:
        assert dns.message.from_wire(question(kind)).is_response(message)
        assert set(found.records) == set(peer.rrset or ())
