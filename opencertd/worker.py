"""`python -m opencertd.worker`: one of several worker processes; started by the daemon, never by hand.

The first line of standard input is an order in JSON: which slot, which listening sockets, which settings. The end of
standard input means that the daemon is gone, and ends the worker too.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure
from zope.interface import implementer

from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.errors import StartError
from opencertd.first_start import take_over
from opencertd.state import StateDirectory


@implementer(IReadDescriptor)
class Lifeline:
    """Ends the process in good order when the daemon at the other end of standard input is gone."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def fileno(self) -> int:
        return sys.stdin.fileno()

    def doRead(self) -> None:
        """There is nothing to read but the end."""
        if not os.read(self.fileno(), 1024):
            self._reactor.removeReader(self)
            self._end()

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
    order = json.loads(sys.stdin.buffer.readline())
    settings = Settings.model_validate(order["settings"])
    reactor = _reactor()

    from opencertd.wiring import Worker

    try:
        state = StateDirectory(settings.state_dir)
        kept = take_over(settings, state, order["slot"], SystemClock())
        worker = Worker(settings, state, kept, slot=order["slot"], reactor=reactor)
    except StartError as error:
        sys.stderr.write(f"{error}\n")
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
    reactor.addReader(Lifeline(reactor))
    reactor.run()


def _reactor() -> Any:
    """The reactor, which is many interfaces at once; installed by its import, hence here."""
    from twisted.internet import reactor

    return reactor


if __name__ == "__main__":
    main()
