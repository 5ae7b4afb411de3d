"""What was asked of a database and waits for a thread; nothing waits, or is waited for, without end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import Any, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from opencertd.errors import Refusal, RefusalKind

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which whoever asked is told UNAVAILABLE, whatever the database is doing."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A function to run on a connection, the Deferred of its result, and the reactor's time at which that is late."""

    fn: Callable[[Connection], Any]
    answer: Deferred[Any]
    deadline: float

    def settle(self, outcome: Any) -> None:
        """Answer, in the reactor's thread, whoever still waits; `outcome` is the result or an exception."""
        if self.answer.called:
            return
        if isinstance(outcome, Exception):
            self.answer.errback(outcome)
        else:
            self.answer.callback(outcome)


class Waiting:
    """A queue that the reactor fills and threads empty.

    Threads are woken at the end of the reactor's turn, when all that it has to ask is there to be taken at once: they
    and the reactor take turns at Python, and each change of turns costs more than a small statement.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._asked: deque[Asked] = deque()
        self._unanswered: dict[Asked, None] = {}
        self._changed = Condition()
        self._waking = False
        self._watching = False
        self._closed = False

    def ask(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        """Queue `fn`; the answer is UNAVAILABLE after `PATIENCE`, or when closed.

        Cancelling the answer before a thread has taken `fn` means that `fn` does not run.
        """
        answer: Deferred[T] = Deferred()
        if self._closed:
            answer.errback(Refusal(RefusalKind.UNAVAILABLE, "the store is closing"))
            return answer
        asked = Asked(fn, answer, self._reactor.seconds() + PATIENCE)
        self._unanswered[asked] = None
        self._asked.append(asked)
        if not self._waking:
            self._waking = True
            self._reactor.callLater(0, self._wake)
        if not self._watching:
            self._watching = True
            self._reactor.callLater(PATIENCE, self._watch)
        return answer

    def _wake(self) -> None:
        self._waking = False
        with self._changed:
            self._changed.notify(len(self._asked))

    def _watch(self) -> None:
        """Answer those who have waited too long, and look again when the next one would have."""
        now = self._reactor.seconds()
        for asked in list(self._unanswered):
            if not asked.answer.called and asked.deadline > now:
                self._reactor.callLater(asked.deadline - now, self._watch)
                return
            del self._unanswered[asked]
            asked.settle(_too_late())
        self._watching = False

    def wait(self) -> bool:
        """In a thread: return True when something is queued, False when nothing is and nothing more will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._closed)
            return bool(self._asked)

    def take(self, limit: int) -> list[Asked]:
        """In a thread: up to `limit` of what is queued, possibly nothing; leaves out what nobody waits for any more."""
        with self._changed:
            taken = [self._asked.popleft() for _ in range(min(limit, len(self._asked)))]
        return [asked for asked in taken if not asked.answer.called]

    def settle(self, group: list[Asked], outcomes: list[Any]) -> None:
        """In the reactor's thread: answer those that were taken."""
        for asked, outcome in zip(group, outcomes, strict=True):
            self._unanswered.pop(asked, None)
            asked.settle(outcome)

    def close(self) -> None:
        """Refuse all that is asked from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _too_late() -> Refusal:
    return Refusal(
        RefusalKind.UNAVAILABLE, "the store did not answer in time; it is not known whether it did what was asked"
    )
