"""One validation under way: when its time is up, and what it was doing then, in words."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from opencertd.validation.verdict import FailureKind, Unproven

T = TypeVar("T")


class Attempt:
    """A validation with `seconds` to live. Each step says what it begins by `enter`."""

    def __init__(self, reactor: IReactorTime, seconds: float) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._doing = "starting"
        self._kind = FailureKind.CONNECTION

    def enter(self, doing: str, kind: FailureKind = FailureKind.CONNECTION) -> None:
        """From now on `doing` ("connecting to …") is under way; running out of time meanwhile is a `kind`."""
        self._doing = doing
        self._kind = kind

    def run(self, gathering: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """Run `gathering` within the time; `Unproven` when it takes longer. Cancelling the Deferred cancels it."""

        def too_late(result: object, seconds: float) -> NoReturn:
            raise Unproven(self._kind, f"gave up after {self._seconds:g} seconds while {self._doing}")

        return Deferred.fromCoroutine(gathering).addTimeout(self._seconds, self._reactor, too_late)
