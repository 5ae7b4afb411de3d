"""`python -m opencertd.worker`: one of several worker processes; started by the daemon, never by hand.

The first line of standard input is an order in JSON: which slot, which listening sockets, which settings. Each further
line has other profiles and policies. The end of standard input means that the daemon is gone, and ends the worker too.
"""

# mypy: disable-error-code="no-untyped-call"
# (Twisted's ports, which this file extends, are untyped.)

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IProtocolFactory, IReadDescriptor
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


class SharedUnixPort(unix.Port):
    """A worker's share of a Unix socket that the daemon has bound, and will remove.

    Twisted's own would give the socket mode 666, and when this worker ends shut and remove it for all.
    """

    _shouldShutdown = False  # noqa: N815  (Twisted's name)

    def startListening(self) -> None:  # noqa: N802  (Twisted's name)
        """Begin, with the mode that the socket has."""
        if not self._bindPath.startswith(b"\0"):  # which is a name in no directory
            self.mode = stat.S_IMODE(Path(os.fsdecode(self._bindPath)).stat().st_mode)
        super().startListening()

    def connectionLost(self, reason: Failure) -> None:
        """Close this worker's share."""
        tcp.Port.connectionLost(self, reason)


def adopt_port(reactor: Any, descriptor: int, family: int, factory: IProtocolFactory) -> Any:
    """Listen on a socket that the daemon has bound."""
    if family != socket.AF_UNIX:
        return reactor.adoptStreamPort(descriptor, family, factory)
    port = SharedUnixPort._fromListeningDescriptor(reactor, descriptor, factory)
    port.startListening()
    return port


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
        adopt_port(
            reactor, given["fd"], given["family"], worker.https_factory() if given["tls"] else worker.http_factory()
        )
        for given in order["sockets"]
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
