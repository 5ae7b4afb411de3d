"""What is kept is what may be given, whatever happens in between."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.ocsp.messages import OcspAnswer
from opencertd.ocsp.prepared import PreparedAnswers
from tests.ocsp.pki import NOW

HOUR = timedelta(hours=1)
MOST = 3
events = st.one_of(
    st.tuples(st.just("keep"), st.integers(0, 5)),
    st.tuples(st.just("drop"), st.integers(0, 5)),
    st.tuples(st.just("get"), st.integers(0, 5)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=40))
def test_it_behaves_as_a_list_of_the_last_used(happened: list[tuple[str, int]]) -> None:
    prepared = PreparedAnswers(MOST, 1 << 20)
    expected: list[int] = []  # serials, the last used at the end; each has one CertID
    for what, serial in happened:
        cert_id = b"certid %d" % serial
        if what == "keep":
            with prepared.preparing(("issuer", serial)) as preparation:
                prepared.keep(preparation, cert_id, OcspAnswer(cert_id), NOW, NOW + HOUR)
            expected = [*(other for other in expected if other != serial), serial][-MOST:]
        elif what == "drop":
            prepared.drop(("issuer", serial))
            expected = [other for other in expected if other != serial]
        else:
            found = prepared.get(cert_id, NOW)
            assert (found == OcspAnswer(cert_id)) is (serial in expected)
            if serial in expected:
                expected = [*(other for other in expected if other != serial), serial]
        assert len(prepared) == len(expected)


def test_a_drop_spoils_every_answer_in_the_making_and_only_those() -> None:
    prepared = PreparedAnswers(MOST, 1 << 20)
    with (
        prepared.preparing(("a", 1)) as first,
        prepared.preparing(("a", 1)) as second,
        prepared.preparing(("b", 1)) as other,
    ):
        prepared.drop(("a", 1))
        for number, preparation in enumerate((first, second, other)):
            prepared.keep(preparation, b"%d" % number, OcspAnswer(b""), NOW, NOW + HOUR)
    assert [prepared.get(b"%d" % number, NOW) is not None for number in range(3)] == [False, False, True]


def test_one_begun_after_the_drop_is_kept() -> None:
    prepared = PreparedAnswers(MOST, 1 << 20)
    prepared.drop(("a", 1))
    with prepared.preparing(("a", 1)) as preparation:
        prepared.keep(preparation, b"id", OcspAnswer(b""), NOW, NOW + HOUR)
    assert prepared.get(b"id", NOW) is not None
    assert prepared.get(b"id", NOW + HOUR) is None
    assert len(prepared) == 0


def test_large_answers_are_kept_to_their_octets() -> None:
    prepared = PreparedAnswers(MOST, 20_000)
    for number in range(MOST):
        with prepared.preparing(("a", number)) as preparation:
            prepared.keep(preparation, b"%d" % number, OcspAnswer(bytes(9_000)), NOW, NOW + HOUR)
    assert [prepared.get(b"%d" % number, NOW) is not None for number in range(MOST)] == [False, True, True]
    prepared.drop(("a", 1))
    with prepared.preparing(("a", 3)) as preparation:
        prepared.keep(preparation, b"3", OcspAnswer(bytes(9_000)), NOW, NOW + HOUR)
    assert len(prepared) == 2
