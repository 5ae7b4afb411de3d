"""`python -m opencertd.worker`: one of several worker processes; started by the daemon, never by hand.

The first line of standard input is an order in JSON: which slot, which listening sockets, which settings. Each further
line has other profiles and policies. The end of standard input means that the daemon is gone, and ends the worker too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure
from zope.interface import implementer

from opencertd.clock import SystemClock
from opencertd.config import RuleSettings, Settings
from opencertd.errors import StartError, sentence_of
from opencertd.first_start import take_over
from opencertd.state import StateDirectory


@implementer(IReadDescriptor)
class Lifeline:
    """Hands on what the daemon at the other end of standard input says, and ends the process when it is gone.

    `pending`: what followed the order. `adopt` gets new profiles and policies, which the daemon has checked.
    """

    _log = Logger()

    def __init__(self, reactor: Any, pending: bytes, adopt: Callable[[RuleSettings], None]) -> None:
        self._reactor = reactor
        self._pending = b""
        self._adopt = adopt
        self._take(pending)

    def fileno(self) -> int:
        return sys.stdin.fileno()

    def doRead(self) -> None:
        """Read lines, or the end."""
        data = os.read(self.fileno(), 65536)
        if data:
            self._take(data)
        else:
            self._reactor.removeReader(self)
            self._end()

    def _take(self, data: bytes) -> None:
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            try:
                self._adopt(RuleSettings.model_validate_json(line))
            except StartError as error:
                self._log.error("profiles and policies stay as they were: {why}", why=str(error))

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends, or saw a hang-up that needs no read: epoll tells of one."""
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(ReactorNotRunning):
            self._reactor.stop()

    def logPrefix(self) -> str:
        return "lifeline"


def main() -> None:
    """Serve until told to stop."""
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the daemon reads its settings again, and tells
    first, pending = _read_order()
    order = json.loads(first)
    settings = Settings.model_validate(order["settings"])
    reactor = _reactor()

    from opencertd.wiring import Worker

    try:
        state = StateDirectory(settings.state_dir)
        kept = take_over(settings, state, order["slot"], SystemClock())
        worker = Worker(settings, state, kept, slot=order["slot"], reactor=reactor)
    except (StartError, OSError) as error:
        sys.stderr.write(f"{sentence_of(error) if isinstance(error, OSError) else error}\n")
        raise SystemExit(1) from None
    ports = [
        reactor.adoptStreamPort(
            socket["fd"], socket["family"], worker.https_factory() if socket["tls"] else worker.http_factory()
        )
        for socket in order["sockets"]
    ]
    worker.start()

    async def stop() -> None:
        for port in ports:
            await maybeDeferred(port.stopListening)
        await worker.stop()

    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(stop()))
    reactor.addReader(Lifeline(reactor, pending, worker.adopt))
    reactor.run()


def _read_order() -> tuple[bytes, bytes]:
    """The first line, and what came with it. Ends the process when there is none: the daemon has gone."""
    data = b""
    while b"\n" not in data:
        more = os.read(sys.stdin.fileno(), 65536)
        if not more:
            raise SystemExit(0)
        data += more
    first, _, pending = data.partition(b"\n")
    return first, pending


def _reactor() -> Any:
    """The reactor, which is many interfaces at once; installed by its import, hence here."""
    from twisted.internet import reactor

    return reactor


if __name__ == "__main__":
    main()
