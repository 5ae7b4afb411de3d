"""The daemon ends when it is asked to, whatever its store is doing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as Reactor

from opencertd.config import Settings
from opencertd.processes import STOP_PATIENCE_SECONDS, Daemon
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
