"""Whatever a route raises leaves as one clean answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from opencertd.errors import Refusal, RefusalKind
from opencertd.web.refusals import HTTP_STATUS, handle_refusals, new_app, render_problem

from .wire import edge, get, parse, problem, wire


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """Events of level warn and above, and whatever holds a failure."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.warn or event.get("log_failure") is not None:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


class Rooms:
    """An edge whose routes live on a class, as all ours do."""

    app = new_app()

    def __init__(self, error: BaseException | Deferred[bytes]) -> None:
        self.error = error

    @app.route("/api/deed")
    async def deed(self, request: IRequest) -> bytes:
        if isinstance(self.error, Deferred):
            return await self.error
        raise self.error

    handle_refusals(app, render_problem)


def test_every_kind_has_a_status() -> None:
    assert set(HTTP_STATUS) == set(RefusalKind)


@pytest.mark.parametrize("kind", list(RefusalKind))
def test_a_refusal_is_its_status_and_its_words(kind: RefusalKind, logged: list[LogEvent]) -> None:
    refusal = Refusal(kind, "because of «this»", retry_after=7, allowed=("GET",))
    answer = wire(edge(Rooms(refusal).app)).send(get("/api/deed"))
    document = problem(answer)
    assert (document["status"], document["detail"]) == (HTTP_STATUS[kind], "because of «this»")
    headers = parse(answer)[1]
    assert headers["retry-after"] == "7"
    assert ("allow" in headers) == (kind is RefusalKind.METHOD_NOT_ALLOWED)
    assert not logged


@pytest.mark.parametrize("error", [ValueError("secret path /x"), CancelledError(), RecursionError()])
def test_any_other_error_is_internal_and_logged(error: Exception, logged: list[LogEvent]) -> None:
    answer = wire(edge(Rooms(error).app)).send(get("/api/deed"))
    assert problem(answer)["status"] == 500
    assert b"secret" not in answer
    assert len(logged) == 1


def test_each_instance_answers_for_itself() -> None:
    first, second = (Rooms(Refusal(RefusalKind.NOT_FOUND, word)) for word in ("one", "two"))
    assert problem(wire(edge(first.app)).send(get("/api/deed")))["detail"] == "one"
    assert problem(wire(edge(second.app)).send(get("/api/deed")))["detail"] == "two"


def test_a_client_that_hangs_up_cancels_in_silence(logged: list[LogEvent]) -> None:
    waiting: Deferred[bytes] = Deferred()
    cancelled: list[Failure] = []
    waiting.addErrback(lambda failure: cancelled.append(failure) or failure)
    client = wire(edge(Rooms(waiting).app))
    assert client.send(get("/api/deed")) == b""
    client.channel.connectionLost(Failure(ConnectionDone()))
    assert [failure.type for failure in cancelled] == [CancelledError]
    assert client.received() == b""
    assert not logged


def test_an_answer_that_breaks_halfway_breaks_the_connection(logged: list[LogEvent]) -> None:
    app = new_app()

    @app.route("/api/half")
    async def half(request: Any) -> bytes:
        request.setHeader(b"Content-Length", b"10")
        request.write(b"12345")
        raise ValueError

    handle_refusals(app, render_problem)
    client = wire(edge(app))
    client.send(get("/api/half"))
    assert client.transport.disconnected
    assert len(logged) == 1


def test_a_renderer_that_fails_is_a_plain_500(logged: list[LogEvent]) -> None:
    app: Klein = new_app()

    def broken(request: IRequest, refusal: Refusal) -> bytes:
        raise KeyError("secret")

    handle_refusals(app, broken)
    answer = wire(edge(app)).send(get("/api/none"))
    assert problem(answer)["status"] == 500
    assert b"secret" not in answer
    assert logged
