"""What is kept is what may be given, whatever happens in between; and a million fit."""

from __future__ import annotations

import gc
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.ocsp.messages import Freshness, OcspAnswer
from opencertd.ocsp.prepared import OVERHEAD, Preparation, PreparedAnswers
from tests.ocsp.pki import NOW

HOUR = timedelta(hours=1)
MOST = 3
END = b"certificate"
OWN = 100
SIZE = 10 + 6 + OWN + OVERHEAD  # of one kept answer, by a CertID of ten octets
events = st.one_of(
    st.tuples(st.just("keep"), st.integers(0, 5)),
    st.tuples(st.just("drop"), st.integers(0, 5)),
    st.tuples(st.just("get"), st.integers(0, 5)),
)


def cert_id(number: int) -> bytes:
    return b"certid%04d" % number


def answer(number: int, own: int = OWN) -> OcspAnswer:
    return OcspAnswer(b"before" + cert_id(number) + bytes(own) + END, Freshness(NOW, NOW + 2 * HOUR))


def keep(prepared: PreparedAnswers, preparation: Preparation, number: int, own: int = OWN) -> None:
    prepared.keep(preparation, cert_id(number), answer(number, own), end=END, since=NOW, until=NOW + HOUR)


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=40))
def test_it_behaves_as_a_list_of_the_last_kept(happened: list[tuple[str, int]]) -> None:
    prepared = PreparedAnswers(MOST * SIZE, shelves=1)
    expected: list[int] = []  # serials, the last kept at the end; each has one CertID
    for what, serial in happened:
        if what == "keep":
            with prepared.preparing(("issuer", serial)) as preparation:
                keep(prepared, preparation, serial)
            expected = [*(other for other in expected if other != serial), serial][-MOST:]
        elif what == "drop":
            prepared.drop(("issuer", serial), [b"another form", cert_id(serial)])
            expected = [other for other in expected if other != serial]
        else:
            assert prepared.get(cert_id(serial), NOW) == (answer(serial) if serial in expected else None)
        assert len(prepared) == len(expected)


def test_a_drop_spoils_every_answer_in_the_making_and_only_those() -> None:
    prepared = PreparedAnswers(1 << 20)
    with (
        prepared.preparing(("a", 1)) as first,
        prepared.preparing(("a", 1)) as second,
        prepared.preparing(("b", 1)) as other,
    ):
        prepared.drop(("a", 1), [])
        for number, preparation in enumerate((first, second, other)):
            keep(prepared, preparation, number)
    assert [prepared.get(cert_id(number), NOW) is not None for number in range(3)] == [False, False, True]


def test_one_begun_after_the_drop_is_kept() -> None:
    prepared = PreparedAnswers(1 << 20)
    prepared.drop(("a", 1), [cert_id(1)])
    with prepared.preparing(("a", 1)) as preparation:
        keep(prepared, preparation, 1)
    assert prepared.get(cert_id(1), NOW) == answer(1)


def test_what_has_run_out_is_not_given_nor_what_is_not_yet() -> None:
    prepared = PreparedAnswers(1 << 20)
    with prepared.preparing(("a", 1)) as preparation:
        keep(prepared, preparation, 1)
    assert prepared.get(cert_id(1), NOW + HOUR) is None
    assert prepared.get(cert_id(1), NOW - timedelta(seconds=1)) is None, "a clock that was set back"
    assert prepared.get(cert_id(1), NOW) is not None


def test_large_answers_are_kept_to_their_octets() -> None:
    prepared = PreparedAnswers(20_000, shelves=1)
    with prepared.preparing(("a", 1)) as preparation:
        for number in range(MOST):
            keep(prepared, preparation, number, 9_000)
    assert [prepared.get(cert_id(number), NOW) is not None for number in range(MOST)] == [False, True, True]


def test_an_answer_that_ends_otherwise_than_said_is_not_kept() -> None:
    prepared = PreparedAnswers(1 << 20)
    with prepared.preparing(("a", 1)) as preparation, pytest.raises(ValueError, match="ends otherwise"):
        prepared.keep(preparation, cert_id(1), answer(1), end=b"another", since=NOW, until=NOW + HOUR)
    assert len(prepared) == 0


def test_what_second_after_second_shares_is_forgotten_when_it_has_run_out() -> None:
    prepared = PreparedAnswers(1 << 20)
    for second in range(20_000):
        since = NOW + timedelta(seconds=second)
        with prepared.preparing(("a", 1)) as preparation:
            prepared.keep(preparation, cert_id(1), answer(1), end=END, since=since, until=since + timedelta(minutes=10))
    assert len(prepared._frames.by_number) < 2000
    assert len(prepared._frames.by_number) == len(prepared._frames._numbers)
    assert prepared.get(cert_id(1), since) == answer(1)


def test_the_collector_of_garbage_has_nothing_to_do_with_what_is_kept() -> None:
    prepared = PreparedAnswers(1 << 30)
    with prepared.preparing(("a", 1)) as preparation:
        for number in range(10_000):
            keep(prepared, preparation, number)
    assert len(prepared) == 10_000
    assert not any(gc.is_tracked(shelf.kept) for shelf in prepared._shelves)
