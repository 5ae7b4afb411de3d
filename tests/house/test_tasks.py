"""A deed goes on when whoever asked for it leaves; shutdown waits for it."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogPublisher

from opencertd.errors import Refusal, RefusalKind
from opencertd.tasks import Tasks


class Deed:
    """A deed that waits for `go`, then writes down that it is done, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.go: Deferred[None] = Deferred()
        self.done = False
        self.failure = failure

    async def do(self) -> str:
        await self.go
        self.done = True
        if self.failure is not None:
            raise self.failure
        return "result"


def outcome(deferred: Deferred[str]) -> list[object]:
    seen: list[object] = []
    deferred.addCallbacks(seen.append, lambda failure: seen.append(failure.value))
    return seen


def test_the_result_comes_to_whoever_waits() -> None:
    deed = Deed()
    seen = outcome(Tasks().shield(deed.do()))
    assert seen == []
    deed.go.callback(None)
    assert seen == ["result"]


def test_cancelling_ends_the_waiting_not_the_deed() -> None:
    deed = Deed()
    answer = Tasks().shield(deed.do())
    seen = outcome(answer)
    answer.cancel()
    assert isinstance(seen[0], CancelledError) and not deed.done
    deed.go.callback(None)
    assert deed.done and len(seen) == 1


@pytest.mark.parametrize(("failure", "logged"), [(OSError("disk"), 1), (Refusal(RefusalKind.NOT_FOUND, "no"), 0)])
def test_a_failure_nobody_waits_for_is_logged_once_unless_it_is_a_refusal(failure: Exception, logged: int) -> None:
    events: list[object] = []
    deed = Deed(failure)
    answer = Tasks().shield(deed.do())
    outcome(answer)
    answer.cancel()
    globalLogPublisher.addObserver(events.append)
    try:
        deed.go.callback(None)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert len(events) == logged


def test_shutdown_waits_for_every_deed_and_for_those_they_begin() -> None:
    tasks, first, second = Tasks(), Deed(), Deed()

    async def one_after_another() -> None:
        await first.do()
        tasks.spawn(second.do(), "the second")

    tasks.spawn(one_after_another(), "both")
    ended = outcome(Deferred.fromCoroutine(tasks.wait()))  # type: ignore[arg-type]
    first.go.callback(None)
    assert ended == []
    second.go.callback(None)
    assert ended == [None]


def test_with_nothing_under_way_there_is_nothing_to_wait_for() -> None:
    assert outcome(Deferred.fromCoroutine(Tasks().wait())) == [None]  # type: ignore[arg-type]
