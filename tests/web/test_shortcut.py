"""The table in front of a router answers as the router would, and leaves to it what it does not know."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
import treq.testing
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.iweb import IRequest

from opencertd.errors import Refusal, RefusalKind
from opencertd.web.refusals import handle_refusals, new_app, render_problem
from opencertd.web.shortcut import Handler, PostShortcut
from opencertd.web.site import Edge, Root

BASE = "http://ca.example"


class Edges:
    """An edge whose POST routes are in the table and in the router; `asked` says by which they were reached."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.waiting: Deferred[bytes] | None = None
        self.ended: list[BaseException] = []
        app = new_app()
        paths = ("/thing", "/thing/<record>", "/thing/<record>/part")
        for path in paths:
            app.route(path, methods=["POST"], endpoint=path)(self._handler("router"))
        app.route("/thing", methods=["GET"])(lambda _: b"got")
        handle_refusals(app, render_problem)
        table = PostShortcut({path: self._handler("table") for path in paths}, app.resource(), render_problem)
        edge = Edge("things", table, claims=lambda segments: segments[0] == "thing", plain_http=True)
        self.client = treq.testing.StubTreq(Root((edge,)))

    def _handler(self, by: str) -> Handler:
        async def handle(request: IRequest, record: str = "") -> bytes:
            self.asked.append((by, record))
            if record == "refused":
                raise Refusal(RefusalKind.CONFLICT, "not now")
            if record == "broken":
                raise ValueError("on purpose")
            if self.waiting is not None:
                try:
                    return await self.waiting
                except CancelledError as error:
                    self.ended.append(error)
                    raise
            return f"<{record}>".encode()

        return handle

    async def post(self, path: str) -> tuple[int, bytes]:
        response = await self.client.post(BASE + path)
        return response.code, await response.content()


@pytest.mark.parametrize(("path", "record"), [("/thing", ""), ("/thing/a1", "a1"), ("/thing/a1/part", "a1")])
@pytest_twisted.ensureDeferred
async def test_posts_go_by_the_table(path: str, record: str) -> None:
    edges = Edges()
    assert await edges.post(path) == (200, f"<{record}>".encode())
    assert edges.asked == [("table", record)]


@pytest.mark.parametrize("path", ["/thing/", "/thing/a1/", "/thing/é", "/thing?x=1"])
@pytest_twisted.ensureDeferred
async def test_other_spellings_are_answered_all_the_same(path: str) -> None:
    edges = Edges()
    status, _ = await edges.post(path)
    assert status == 200
    assert len(edges.asked) == 1


@pytest_twisted.ensureDeferred
async def test_what_the_table_does_not_know_is_the_router_s() -> None:
    edges = Edges()
    assert (await edges.post("/thing/a1/other"))[0] == 404
    assert (await edges.post("/thing/a1/part/more"))[0] == 404
    assert await (await edges.client.get(BASE + "/thing")).content() == b"got"
    wrong = await edges.client.delete(BASE + "/thing/a1")
    assert (wrong.code, wrong.headers.getRawHeaders("Allow")) == (405, ["POST"])
    assert edges.asked == []


@pytest_twisted.ensureDeferred
async def test_refusals_are_rendered() -> None:
    status, body = await Edges().post("/thing/refused")
    assert status == 409
    assert b"not now" in body


@pytest_twisted.ensureDeferred
async def test_what_is_no_refusal_says_nothing_more_than_internal() -> None:
    status, body = await Edges().post("/thing/broken")
    assert status == 500
    assert b"on purpose" not in body


@pytest_twisted.ensureDeferred
async def test_a_client_that_hangs_up_cancels_the_handler() -> None:
    edges = Edges()
    edges.waiting = Deferred()
    asked: Any = edges.client.post(BASE + "/thing/slow")
    edges.client.flush()
    asked.addErrback(lambda _: None)
    asked.cancel()
    edges.client.flush()
    assert [type(error) for error in edges.ended] == [CancelledError]


@pytest.mark.parametrize("route", ["/a/b", "/<record>", "/a/<record>/<record>", "/a/<record>/b/c"])
def test_a_table_of_other_routes_is_refused(route: str) -> None:
    async def never(_: IRequest, __: str) -> bytes:
        raise AssertionError

    with pytest.raises(ValueError, match="reads"):
        PostShortcut({route: never}, new_app().resource(), render_problem)
