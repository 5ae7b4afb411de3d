"""What was asked of a database and waits for a thread; nothing waits, or is waited for, without end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from typing import Any, NoReturn, TypeVar

from sqlalchemy import Connection
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from opencertd.errors import Refusal, RefusalKind

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which whoever asked is told UNAVAILABLE, whatever the database is doing."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A function to run on a connection, and the Deferred of its result."""

    fn: Callable[[Connection], Any]
    answer: Deferred[Any]

    def settle(self, outcome: Any) -> None:
        """Answer, in the reactor's thread; `outcome` is the result or an exception."""
        if isinstance(outcome, Exception):
            self.answer.errback(outcome)
        else:
            self.answer.callback(outcome)


class Waiting:
    """A queue that the reactor fills and threads empty."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._asked: deque[Asked] = deque()
        self._changed = Condition()
        self._closed = False

    def ask(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        """Queue `fn`; the answer is UNAVAILABLE after `PATIENCE`, or when closed.

        Cancelling the answer before a thread has taken `fn` means that `fn` does not run.
        """
        answer: Deferred[T] = Deferred()
        answer.addTimeout(PATIENCE, self._reactor, _too_late)
        with self._changed:
            if not self._closed:
                self._asked.append(Asked(fn, answer))
                self._changed.notify()
                return answer
        answer.errback(Refusal(RefusalKind.UNAVAILABLE, "the store is closing"))
        return answer

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

    def close(self) -> None:
        """Refuse all that is asked from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _too_late(_result: object, _timeout: float) -> NoReturn:
    raise Refusal(
        RefusalKind.UNAVAILABLE, "the store did not answer in time; it is not known whether it did what was asked"
    )
