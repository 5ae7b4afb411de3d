"""How functions are run: by threads that each do a group in one go, or, where no reactor runs, at once.

A thread costs more to wake than a small statement costs to run, and threads of one process take turns at Python anyway.
So few threads take many functions at a time, and answer them together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection
from twisted.internet import defer
from twisted.internet.defer import Deferred

from opencertd.store.waiting import PATIENCE, Waiting

T = TypeVar("T")

Reactor: TypeAlias = Any
"""An IReactorTime that is an IReactorFromThreads too: typing has no word for both at once."""

Function: TypeAlias = Callable[[Connection], Any]

Transact: TypeAlias = Callable[[Function], Any]
"""Runs a function in one transaction and answers its result. Blocks."""

TransactGroup: TypeAlias = Callable[[Sequence[Function]], list[Any]]
"""Runs functions and answers for each its result or the exception it raised. Blocks; raises nothing."""


class Runner(Protocol):
    """Runs functions in transactions."""

    def run(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        """The result of `fn`, whose transaction is then over. `fn` may run more than once."""

    def close(self) -> Deferred[None]:
        """Fires when all that was asked is answered and nothing is held any more."""


class InlineRunner:
    """Runs everything at once, in the caller's thread; its Deferreds have fired when they are returned."""

    def __init__(self, transact: Transact) -> None:
        self._transact = transact

    def run(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        return defer.execute(self._transact, fn)

    def close(self) -> Deferred[None]:
        return defer.succeed(None)


def one_by_one(transact: Transact) -> TransactGroup:
    """Groups whose members share nothing."""

    def transact_group(fns: Sequence[Function]) -> list[Any]:
        outcomes: list[Any] = []
        for fn in fns:
            try:
                outcomes.append(transact(fn))
            except Exception as error:
                outcomes.append(error)
        return outcomes

    return transact_group


class ThreadedRunner:
    """A `Runner` over `size` threads, which run up to `group` functions at a time, each group within a `turn`.

    They are daemons, so that a database that never answers cannot keep the process from ending.
    """

    def __init__(
        self,
        reactor: Reactor,
        transact: TransactGroup,
        *,
        name: str,
        size: int = 1,
        group: int = 1,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._reactor = reactor
        self._transact = transact
        self._group = group
        self._turn = turn
        self._waiting = Waiting(reactor)
        self._left = size
        self._ended: Deferred[None] = Deferred()
        for number in range(size):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def run(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        return self._waiting.ask(fn)

    def close(self) -> Deferred[None]:
        """Waits a little more than everybody's patience at most."""
        self._waiting.close()
        self._ended.addTimeout(PATIENCE + 5, self._reactor, lambda _result, _timeout: None)
        return self._ended

    def _work(self) -> None:
        try:
            while self._waiting.wait():
                with self._turn():
                    group = self._waiting.take(self._group)  # after the wait for the turn, which let more come in
                    outcomes = self._transact([asked.fn for asked in group])
                self._reactor.callFromThread(self._waiting.settle, group, outcomes)
        finally:
            self._reactor.callFromThread(self._leave)

    def _leave(self) -> None:
        self._left -= 1
        if not self._left and not self._ended.called:
            self._ended.callback(None)
