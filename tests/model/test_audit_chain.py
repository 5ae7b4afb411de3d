"""The chain's rule, held against a second writing of it, and what events become whatever is in them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from opencertd.model.audit import START, AuditEvent, AuditHead, Deed, next_entry

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
TEXTS = st.text(st.characters(), max_size=40)


def event(**changes: object) -> AuditEvent:
    values = {"deed": Deed.ISSUE, "proof": "password", "who": "ann", "label": "Ann", "at": NOW, "what": {"serial": "5"}}
    return AuditEvent(**{**values, **changes})  # type: ignore[arg-type]


def test_the_hash_covers_the_previous_one_and_every_member() -> None:
    first = next_entry(AuditHead(), event())
    second = next_entry(AuditHead(1, first.hash), event(tbs_sha256="ab" * 32))
    assert (first.sequence, first.previous, second.sequence, second.previous) == (1, START, 2, first.hash)
    assert first.what == '{"serial":"5"}'
    known = b'["opencertd-audit-1",1,1780315200123,"issue","password","ann","Ann","{\\"serial\\":\\"5\\"}","done",null]'
    assert first.canonical() == known
    assert first.hash == hashlib.sha256(bytes(32) + known).digest()
    assert second.is_whole()


@given(st.lists(st.builds(event, who=TEXTS, label=TEXTS, what=st.dictionaries(TEXTS, TEXTS | st.integers()))))
def test_whatever_texts_hold_databases_can_keep_them_and_the_chain_holds(events: list[AuditEvent]) -> None:
    head = AuditHead()
    for one in events:
        entry = next_entry(head, one)
        assert entry.is_whole()
        assert entry.previous == head.hash
        for text in (entry.who, entry.label, entry.what):
            assert "\0" not in text
            text.encode("utf-8")  # no half of a surrogate pair
        head = AuditHead(entry.sequence, entry.hash)


def test_texts_are_bounded_and_times_are_kept_to_milliseconds() -> None:
    entry = next_entry(AuditHead(), event(who="x" * 100_000, what={"names": ["y" * 100_000]}))
    assert len(entry.who) == 2000
    assert len(entry.what) < 2100
    assert entry.at == NOW.replace(microsecond=123000)
    before_1970 = next_entry(AuditHead(), event(at=NOW - timedelta(days=365 * 80)))
    assert before_1970.is_whole()
