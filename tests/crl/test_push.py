"""What is published is put in other places, whole, again and again until it is there."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute, succeed
from twisted.web.resource import Resource
from twisted.web.server import Site

from opencertd.crl.push import Places, Pusher, file_name, put_by_http
from opencertd.crl.server import CrlServer
from opencertd.crl.store import Line
from opencertd.errors import Refusal
from opencertd.jobs.store import Job
from opencertd.model.crl_parts import ALL, Part
from tests.crl.rig import Rig
from tests.ocsp.pki import NOW, pki

EC = pki().ecdsa
JOB = Job("crl-push", EC.issuer.id, NOW, 1, 1)


def pusher(rig: Rig, places: Places, put: Any = None) -> Pusher:
    return Pusher(places, rig.server, put=put, elsewhere=execute)


def test_names() -> None:
    assert [file_name("ec", line) for line in (Line("x"), Line("x", Part("64-1")), Line("x", ALL, delta=True))] == [
        "ec.crl",
        "ec~64-1.crl",
        "ec~delta.crl",
    ]


@pytest_twisted.ensureDeferred
async def test_a_directory_has_the_latest_and_nothing_else(tmp_path: Path) -> None:
    rig = Rig()
    for _ in range(2):
        crl = await rig.server.publish(EC.issuer.id)
        assert await pusher(rig, Places(tmp_path)).job(JOB) is None
    (file,) = tmp_path.iterdir()  # noqa: ASYNC240  (one file in memory)
    assert (file.name, file.read_bytes()) == ("ecdsa.crl", crl.crl_der)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest_twisted.ensureDeferred
async def test_one_place_that_fails_holds_up_no_other_and_is_said(tmp_path: Path) -> None:
    rig = Rig()
    crl = await rig.server.publish(EC.issuer.id)
    put: dict[str, bytes] = {}

    def answer(url: str, content: bytes) -> Any:
        put[url] = content
        if "broken" in url:
            raise OSError("no route")
        return succeed(503 if "full" in url else 201)

    places = Places(tmp_path / "missing", ("http://broken.test", "http://full.test/x/", "http://well.test"))
    with pytest.raises(Refusal) as caught:
        await pusher(rig, places, answer).job(JOB)
    said = caught.value.detail
    assert "No such file" in said and "no route" in said and "http://full.test/x/ecdsa.crl answers 503" in said
    assert "well" not in said and put["http://well.test/ecdsa.crl"] == crl.crl_der


@pytest_twisted.ensureDeferred
async def test_a_slow_place_holds_up_no_other() -> None:
    """Nor adds its time to theirs: the job's lease would end, and an older CRL could take the place of a newer one."""
    rig = Rig()
    await rig.server.publish(EC.issuer.id)
    asked: list[str] = []

    def answer(url: str, content: bytes) -> Any:
        asked.append(url)
        return Deferred()

    deed = Deferred.fromCoroutine(pusher(rig, Places(None, ("http://a.test", "http://b.test")), answer).job(JOB))
    assert asked == ["http://a.test/ecdsa.crl", "http://b.test/ecdsa.crl"]
    deed.addErrback(lambda _: None).cancel()


class Store(Resource):
    """Keeps what is PUT, and talks without end."""

    isLeaf = True  # noqa: N815  (Twisted's name)

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[bytes, tuple[bytes, Any]] = {}

    def render_PUT(self, request: Any) -> bytes:
        self.kept[request.path] = (request.content.read(), request.getHeader("content-type"))
        request.setResponseCode(201)
        return b"x" * 10_000_000


@pytest_twisted.ensureDeferred
async def test_http_put_sends_the_crl_and_reads_no_more_than_the_status() -> None:
    store = Store()
    port = reactor.listenTCP(0, Site(store), interface="127.0.0.1")  # type: ignore[attr-defined]
    try:
        put = put_by_http(reactor)
        assert await put(f"http://127.0.0.1:{port.getHost().port}/a/ec.crl", b"crl" * 1000) == 201
    finally:
        await port.stopListening()
    assert store.kept == {b"/a/ec.crl": (b"crl" * 1000, "application/pkix-crl")}


@pytest_twisted.ensureDeferred
async def test_what_is_published_is_owed_to_the_places_and_at_start_all_of_it() -> None:
    rig = Rig()
    worker = CrlServer(
        issuers=rig.issuers, store=rig.store, jobs=rig.jobs, clock=rig.clock, elsewhere=execute, pushed=True
    )
    await worker.ensure()
    assert {key for kind, key, _ in rig.jobs.owed if kind == "crl-push"} == {issuer.id for issuer in rig.issuers.all()}
    rig.jobs.owed.clear()
    await worker.ensure()
    await rig.server.job(rig.job(EC))
    assert not [key for kind, key, _ in rig.jobs.owed if kind == "crl-push"]
    await worker.job(rig.job(EC))
    assert [key for kind, key, _ in rig.jobs.owed if kind == "crl-push"] == [EC.issuer.id]
