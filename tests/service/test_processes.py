"""The daemon and its worker processes: it ends when it is asked to, and passes their logs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock as Reactor
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from opencertd.config import Settings
from opencertd.processes import STOP_PATIENCE_SECONDS, Daemon, WorkerProcess
from opencertd.state import StateDirectory


class StuckWorker:
    """A worker whose database never answers."""

    async def stop(self) -> None:
        await Deferred()


def test_a_worker_that_does_not_end_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reactor: Any = Reactor()
    daemon = Daemon(Settings.model_validate({"dn": "x"}), StateDirectory(tmp_path), reactor)
    monkeypatch.setattr(daemon, "_worker", StuckWorker())
    ended: list[None] = []
    daemon.stopService().addCallback(ended.append)
    reactor.advance(STOP_PATIENCE_SECONDS - 1)
    assert not ended
    reactor.advance(1)
    assert ended


def test_lines_of_a_worker_are_passed_on_whole() -> None:
    seen: list[str] = []

    def observe(event: LogEvent) -> None:
        if "line" in event:
            seen.append(event["line"])

    reactor: Any = Reactor()
    worker = WorkerProcess(Settings.model_validate({"dn": "x"}), 0, [], reactor)
    globalLogPublisher.addObserver(observe)
    try:
        for data in (b"issued 17 f\xc3", b"\xbcr a\nissued", b" 18\n", b"end"):
            worker.childDataReceived(1, data)
        assert seen == ["issued 17 f\u00fcr a", "issued 18"]
        worker.processEnded(Failure(ProcessTerminated(1)))
        assert seen[2:] == ["end"]
    finally:
        globalLogPublisher.removeObserver(observe)
