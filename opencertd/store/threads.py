"""How functions are run: by a few threads that each do one transaction at a time, or where no reactor runs, at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection
from twisted.internet import defer
from twisted.internet.defer import Deferred

from opencertd.store.waiting import PATIENCE, Waiting

T = TypeVar("T")


Reactor: TypeAlias = Any
"""An IReactorTime that is an IReactorFromThreads too: typing has no word for both at once."""


class Runner(Protocol):
    """Runs functions in transactions of their own."""

    def run(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        """The result of `fn`, whose transaction is then over. `fn` may run more than once."""

    def close(self) -> Deferred[None]:
        """Fires when all that was asked is answered and nothing is held any more."""


Transact: TypeAlias = Callable[[Callable[[Connection], Any]], Any]
"""Runs a function in one transaction and answers its result. Blocks."""


class InlineRunner:
    """Runs everything at once, in the caller's thread; its Deferreds have fired when they are returned."""

    def __init__(self, transact: Transact) -> None:
        self._transact = transact

    def run(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        return defer.execute(self._transact, fn)

    def close(self) -> Deferred[None]:
        return defer.succeed(None)


class Crew:
    """Daemon threads that do the same work until it ends; `ended` fires in the reactor when the last has left.

    They are daemons so that a database that never answers cannot keep the process from ending.
    """

    def __init__(self, reactor: Reactor, work: Callable[[], None], *, size: int, name: str) -> None:
        self._reactor = reactor
        self._work = work
        self._left = size
        self.ended: Deferred[None] = Deferred()
        for number in range(size):
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True).start()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._reactor.callFromThread(self._leave)

    def _leave(self) -> None:
        self._left -= 1
        if not self._left and not self.ended.called:
            self.ended.callback(None)

    def wait(self) -> Deferred[None]:
        """`ended`, or a little more than everybody's patience at most."""
        self.ended.addTimeout(PATIENCE + 5, self._reactor, lambda _result, _timeout: None)
        return self.ended


class ThreadedRunner:
    """A `Runner` over `size` threads."""

    def __init__(self, reactor: Reactor, transact: Transact, *, size: int, name: str) -> None:
        self._reactor = reactor
        self._transact = transact
        self._waiting = Waiting(reactor)
        self._crew = Crew(reactor, self._work, size=size, name=name)

    def run(self, fn: Callable[[Connection], T]) -> Deferred[T]:
        return self._waiting.ask(fn)

    def close(self) -> Deferred[None]:
        self._waiting.close()
        return self._crew.wait()

    def _work(self) -> None:
        while self._waiting.wait():
            for asked in self._waiting.take(1):
                outcome: Any
                try:
                    outcome = self._transact(asked.fn)
                except Exception as error:
                    outcome = error
                self._reactor.callFromThread(asked.settle, outcome)
