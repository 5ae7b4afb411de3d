"""Every tampering is found, and named by its entry: edits, removals, insertions, swaps, cuts, careful rewriting."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.issuance.audit_verdict import Finding
from opencertd.model.audit import AuditEntry
from tests.issuance.chains import EDITS, chain, checkpoint, findings, rehashed, relinked

LENGTH = 12
ENTRIES = chain(LENGTH)
INDEX = st.integers(0, LENGTH - 1)


def numbers(found: list[Finding]) -> set[int]:
    return {number for one in found for number in range(one.first, one.last + 1)}


@given(st.integers(0, LENGTH), st.lists(INDEX))
def test_an_untouched_chain_is_whole_and_checkpoints_vouch_for_it(length: int, marked: list[int]) -> None:
    checkpoints = [checkpoint(ENTRIES[n]) for n in marked if n < length]
    assert findings(ENTRIES[:length], checkpoints) == []


@given(column=st.sampled_from(list(EDITS)), index=INDEX, marked=st.lists(INDEX))
def test_an_edited_entry_is_named_and_no_other(column: str, index: int, marked: list[int]) -> None:
    spoilt = list(ENTRIES)
    spoilt[index] = EDITS[column](spoilt[index])
    found = findings(spoilt, [checkpoint(ENTRIES[n]) for n in marked])
    assert numbers(found) == {index + 1}
    assert "edited" in found[0].words


@given(column=st.sampled_from([*EDITS.keys() - {"previous", "hash"}]), index=st.integers(0, LENGTH - 2))
def test_an_edited_entry_with_a_hash_made_anew_is_named_by_the_next_one(column: str, index: int) -> None:
    spoilt = list(ENTRIES)
    spoilt[index] = rehashed(EDITS[column](spoilt[index]))
    (found,) = findings(spoilt)
    assert (found.first, found.last) == (index + 1, index + 1)
    assert "replaced" in found.words


@given(first=INDEX, count=st.integers(1, LENGTH))
def test_removed_entries_are_named(first: int, count: int) -> None:
    removed = set(range(first + 1, min(first + count, LENGTH) + 1))
    left = [entry for entry in ENTRIES if entry.sequence not in removed]
    assert numbers(findings(left, [checkpoint(ENTRIES[-1])])) == removed


@given(length=st.integers(0, LENGTH - 1), marked=st.integers(0, LENGTH - 1))
def test_a_cut_off_end_is_named_as_far_as_checkpoints_know_of_it(length: int, marked: int) -> None:
    found = findings(ENTRIES[:length], [checkpoint(ENTRIES[marked])])
    if marked < length:
        assert found == []
    else:
        (cut,) = found
        assert (cut.first, cut.last) == (length + 1, marked + 1)
        assert "cut off" in cut.words


@given(one=INDEX, other=INDEX)
def test_swapped_entries_are_named(one: int, other: int) -> None:
    spoilt = list(ENTRIES)
    spoilt[one] = dataclasses.replace(ENTRIES[other], sequence=one + 1)
    spoilt[other] = dataclasses.replace(ENTRIES[one], sequence=other + 1)
    assert numbers(findings(spoilt)) == (set() if one == other else {one + 1, other + 1})


def shifted(entries: list[AuditEntry], by: int) -> list[AuditEntry]:
    return [dataclasses.replace(entry, sequence=entry.sequence + by) for entry in entries]


@given(index=INDEX, count=st.integers(1, 3), honest=st.booleans())
def test_inserted_entries_are_named(index: int, count: int, honest: bool) -> None:
    forged = relinked([*ENTRIES[:index], *[EDITS["who"](ENTRIES[0])] * count], index)[index:]
    if not honest:
        forged = [EDITS["who"](entry) for entry in forged]
    found = findings([*ENTRIES[:index], *forged, *shifted(ENTRIES[index:], count)])
    named = {number for one in found if "numbered" not in one.words for number in range(one.first, one.last + 1)}
    assert {*range(index + 1, index + count + 1)} <= named
    assert min(named) == index + 1
    if honest:
        assert [(one.first, one.last) for one in found if "inserted" in one.words] == [(index + 1, index + count)]


@given(index=st.integers(0, LENGTH - 2), count=st.integers(1, 3))
def test_removed_entries_are_named_though_the_rest_was_renumbered(index: int, count: int) -> None:
    found = findings([*ENTRIES[:index], *shifted(ENTRIES[index + count :], -count)], [checkpoint(ENTRIES[-1])])
    if index + count < LENGTH:
        (removed,) = [one for one in found if "removed" in one.words]
        assert (removed.first, removed.last) == (index + 1, index + 1)
    assert "cut off" in found[-1].words


def test_an_entry_before_the_first_is_named() -> None:
    (before,) = findings([dataclasses.replace(ENTRIES[0], sequence=0), *ENTRIES])
    assert (before.first, before.words) == (0, "was inserted: the chain begins at entry 1")


@given(deed=st.sampled_from(["edit", "remove", "insert"]), index=INDEX, marked=st.lists(INDEX, min_size=1, unique=True))
def test_rewriting_to_the_end_is_found_by_the_first_checkpoint_behind_it(
    deed: str, index: int, marked: list[int]
) -> None:
    spoilt = list(ENTRIES)
    if deed == "edit":
        spoilt[index] = EDITS["who"](spoilt[index])
    elif deed == "remove":
        del spoilt[index]
    else:
        spoilt.insert(index, EDITS["who"](spoilt[index]))
    found = findings(relinked(spoilt, index), [checkpoint(ENTRIES[n]) for n in marked])
    behind = [n for n in sorted(marked) if n >= index]
    if not behind:
        assert found == []  # the chain alone cannot know
    else:
        before = max([n + 1 for n in marked if n < index], default=0)
        if behind[0] < len(spoilt):
            assert (found[0].first, found[0].last) == (before + 1, behind[0] + 1)
        else:
            assert (found[0].first, found[0].last) == (len(spoilt) + 1, behind[0] + 1)  # it has become shorter


def test_a_chain_made_anew_from_nothing_is_not_this_one() -> None:
    (found,) = findings([rehashed(dataclasses.replace(ENTRIES[0], previous=bytes(31) + b"\1"))])
    assert "not the beginning" in found.words
    (cut,) = findings([], [checkpoint(ENTRIES[4])])
    assert (cut.first, cut.last) == (1, 5)


@pytest.mark.parametrize(
    "content", [{"who": b"ann"}, {"hash": "ff"}, {"previous": "00" * 32}, {"label": 5}, {"previous": None}]
)
def test_what_sqlite_lets_into_a_column_is_an_edit_too(content: dict[str, object]) -> None:
    spoilt = list(ENTRIES)
    spoilt[3] = dataclasses.replace(spoilt[3], **content)  # type: ignore[arg-type]
    assert numbers(findings(spoilt)) == {4}
