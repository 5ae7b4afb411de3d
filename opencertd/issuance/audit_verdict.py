"""What somebody did to the audit chain, by number: edited, replaced, removed, inserted, cut off, rewritten.

An entry proves itself by its hash, its neighbour by the hash it holds of it, and the chain's end by checkpoints.
Whoever rewrites everything from an entry to the end, hashes too, is found by the first checkpoint after it, and the
entry is then known to lie between that checkpoint and the one before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from opencertd.issuance.checkpoints import Checkpoint
from opencertd.model.audit import FIRST, START, AuditEntry

_FARTHEST = 32
"""By how many numbers an entry is looked for away from where it was written."""


@dataclass(frozen=True)
class Finding:
    """Something is wrong with the entries from `first` to `last`; `words` say what."""

    first: int
    last: int
    words: str

    def __str__(self) -> str:
        entries = f"entry {self.first}" if self.first == self.last else f"entries {self.first} to {self.last}"
        return f"{entries}: {self.words}"


class Examination:
    """Takes the entries in order of their numbers, whatever is left of them, and tells what is wrong."""

    def __init__(self, checkpoints: Iterable[Checkpoint]) -> None:
        self._checkpoints = sorted(checkpoints, key=lambda checkpoint: checkpoint.sequence)
        self._next_checkpoint = 0
        self._confirmed = FIRST - 1
        self._last: AuditEntry | None = None
        self._moves = Moves()

    def examine(self, entry: AuditEntry) -> Iterator[Finding]:
        """What is wrong up to this entry that was not said before."""
        if entry.sequence < FIRST:
            yield Finding(entry.sequence, entry.sequence, "was inserted: the chain begins at entry 1")
            return
        expected = FIRST if self._last is None else self._last.sequence + 1
        if entry.sequence > expected:
            yield Finding(expected, entry.sequence - 1, "missing: removed")
        whole = entry.is_whole()
        if not whole:
            yield from self._moves.explain(entry)
        else:
            yield from self._moves.end()
            if entry.sequence == expected:
                yield from self._check_link(entry)
        yield from self._check_checkpoints(entry, whole=whole)
        self._last = entry

    def finish(self) -> Iterator[Finding]:
        """What is wrong with the end."""
        yield from self._moves.finish()
        end = FIRST - 1 if self._last is None else self._last.sequence
        beyond = [checkpoint for checkpoint in self._checkpoints if checkpoint.sequence > end]
        if beyond:
            last = beyond[-1]
            words = f"missing: cut off; the checkpoint of {last.at:%Y-%m-%d %H:%M:%S} UTC knows them"
            yield Finding(end + 1, last.sequence, words)

    @property
    def confirmed(self) -> int:
        """Number of the last entry that a checkpoint vouches for."""
        return self._confirmed

    @property
    def end(self) -> int:
        """Number of the last entry seen."""
        return FIRST - 1 if self._last is None else self._last.sequence

    def _check_link(self, entry: AuditEntry) -> Iterator[Finding]:
        """The entry is as it was written, and holds the hash of what stood before it when it was."""
        before = START if self._last is None else self._last.hash
        if entry.previous == before or (self._last is not None and self._last.sequence in self._moves.spoilt):
            return
        if self._last is None:
            yield Finding(FIRST, FIRST, "replaced: it is not the beginning of a chain")
            return
        number = self._last.sequence
        yield Finding(number, number, f"replaced: entry {entry.sequence} holds the hash of another one")

    def _check_checkpoints(self, entry: AuditEntry, *, whole: bool) -> Iterator[Finding]:
        while self._next_checkpoint < len(self._checkpoints):
            checkpoint = self._checkpoints[self._next_checkpoint]
            if checkpoint.sequence > entry.sequence:
                return
            self._next_checkpoint += 1
            if checkpoint.sequence < entry.sequence:
                continue  # its entry is missing, which was said
            if checkpoint.hash == entry.hash:
                self._confirmed = entry.sequence
            elif whole:
                words = f"rewritten: the checkpoint of {checkpoint.at:%Y-%m-%d %H:%M:%S} UTC has another hash"
                yield Finding(self._confirmed + 1, entry.sequence, words)


class Moves:
    """Entries that are not whole where they stand: edited, or written under another number.

    `spoilt` has the numbers of all of them.
    """

    def __init__(self) -> None:
        self.spoilt: set[int] = set()
        self._by = 0  # by how much the numbers are higher than when the entries were written
        self._down: tuple[int, int] | None = None  # an entry with a lower number than it had, and how much lower

    def explain(self, entry: AuditEntry) -> Iterator[Finding]:
        """What became of an entry that is not whole."""
        now = entry.sequence
        by = next((by for by in _nearest(self._by) if _renumbered(entry, now - by).is_whole()), 0)
        if self._down is not None and self._down[1] == by:
            yield self._removed(*self._down)
            self._by, self._down = by, None
        else:
            yield from self._moved_alone()
        if by == 0:
            yield Finding(now, now, "edited: its hash is not that of its content")
        elif by == self._by:
            yield Finding(now, now, f"renumbered: it was written as entry {now - by}")
        elif by < self._by:
            self._down = (now, by)
        elif now - by in self.spoilt:
            yield _moved(now, by)
        else:
            words = f"inserted: what is entry {now} now was written as {now - by}"
            yield Finding(now - (by - self._by), now - 1, words)
            self._by = by
        self.spoilt.add(now)

    def end(self) -> Iterator[Finding]:
        """The next entry is whole: where one had moved to, it had moved alone."""
        yield from self._moved_alone()
        self._by = 0

    def finish(self) -> Iterator[Finding]:
        """There are no more entries."""
        if self._down is not None:
            yield self._removed(*self._down)

    def _moved_alone(self) -> Iterator[Finding]:
        if self._down is not None:
            yield _moved(*self._down)
            self._down = None

    def _removed(self, now: int, by: int) -> Finding:
        return Finding(now, now, f"removed: what is entry {now} now was written as {now - by}")


def _moved(now: int, by: int) -> Finding:
    return Finding(now, now, f"moved: it was written as entry {now - by}")


def _nearest(to: int) -> Iterator[int]:
    """`to`, then what is ever farther away from it; 0 would be no move."""
    for distance in range(_FARTHEST + 1):
        yield from (by for by in dict.fromkeys((to + distance, to - distance)) if by)


def _renumbered(entry: AuditEntry, sequence: int) -> AuditEntry:
    return dataclasses.replace(entry, sequence=sequence)
