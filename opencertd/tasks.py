"""Deeds that outlive whoever asked: a client's hang-up cancels reading, never issuing or revoking.

A `Tasks` holds every deed under way; shutdown waits for them.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from opencertd.errors import Refusal

T = TypeVar("T")


class Tasks:
    """The deeds under way in this process."""

    _log = Logger()

    def __init__(self) -> None:
        self._running: set[Deferred[Any]] = set()

    def shield(self, deed: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """Start `deed` and return a Deferred of its result; cancelling that Deferred does not stop the deed."""
        running = Deferred.fromCoroutine(deed)
        answer: Deferred[T] = Deferred(canceller=lambda _: None)
        self._running.add(running)

        def settle(result: T | Failure) -> None:
            self._running.discard(running)
            if answer.called:  # whoever asked has gone; a failure is then only ours to know
                # A refusal is an outcome, not a fault: it needs no log.
                if isinstance(result, Failure) and not isinstance(result.value, Refusal):
                    self._log.failure("a deed failed after its asker left", result)
            elif isinstance(result, Failure):
                answer.errback(result)
            else:
                answer.callback(result)

        running.addBoth(settle)
        return answer

    def spawn(self, deed: Coroutine[Deferred[Any], Any, Any], what: str) -> None:
        """Start `deed` for nobody in particular; a failure is logged under the name `what`."""

        def report(failure: Failure) -> None:
            if isinstance(failure.value, Refusal):
                self._log.error("{what} was refused: {why}", what=what, why=failure.value.detail)
            else:
                self._log.failure("{what} failed", failure, what=what)

        self.shield(deed).addErrback(report)

    async def wait(self) -> None:
        """Return when no deed is under way."""
        while self._running:
            await DeferredList(list(self._running))
