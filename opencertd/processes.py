"""The daemon as a service: listeners, and the workers behind them, in this process or in several.

With one worker everything is in this process. With more, this process binds the listeners, hands them to its workers
and starts another worker when one dies. Nothing is shared but listeners and store, so it does not matter which worker
a client meets. A worker ends by itself when this process is gone.
"""

# mypy: disable-error-code="no-untyped-call"
# (Twisted's Service and endpoints, which this file calls, are untyped.)

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

from twisted.application.service import Service
from twisted.internet import endpoints
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from opencertd.clock import SystemClock
from opencertd.config import RuleSettings, Settings
from opencertd.errors import StartError
from opencertd.first_start import check_rules, prepare, take_over
from opencertd.hooks import NO_HOOKS, Hooks
from opencertd.reload import RulesFile, on_hangup
from opencertd.state import StateDirectory
from opencertd.wiring import Worker

BIND_PATIENCE_SECONDS = 3.0
"""How long a port may still be held by workers of a daemon that was killed a moment ago; they end within a second."""

STOP_PATIENCE_SECONDS = 20.0
"""How long deeds under way may take to end: longer than any takes while the store answers."""

MOST_FILES = 65536
_FIRST_PIPE = 3


@dataclass(frozen=True)
class Listener:
    """A bound port, and whether TLS is spoken on it."""

    port: IListeningPort
    tls: bool


class CannotServe(SystemExit, Exception):  # noqa: N818  (an end, said in words already)
    """Ends the process. An Exception as well: a twistd that daemonizes tells the waiting shell of no other end."""


class Daemon(Service):
    """The whole CA of this machine."""

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        state: StateDirectory,
        reactor: Any,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        self._hooks = hooks
        self._settings = settings
        self._state = state
        self._reactor = reactor
        self._listeners: list[Listener] = []
        self._worker: Worker | None = None
        self._processes: list[WorkerProcess] = []
        self._rules: RulesFile | None = None
        if settings.file is not None:
            self._rules = RulesFile(settings.file, settings.rules(), self._adopt, reactor)

    @classmethod
    def prepared(cls, settings: Settings, hooks: Hooks = NO_HOOKS) -> Daemon:
        """The daemon, with a CA in its state directory. Raises StartError."""
        from twisted.internet import reactor

        if hooks != NO_HOOKS and settings.workers > 1:
            raise StartError("code that decides about requests runs in this process only: leave --workers at 1")
        return cls(settings, prepare(settings, SystemClock()), reactor, hooks)

    def privilegedStartService(self) -> None:
        """Bind the listeners, while ports below 1024 may be bound. Ends the process when one cannot be."""
        raise_file_limit()
        try:
            if self._settings.workers == 1:
                kept = take_over(self._settings, self._state, 0, SystemClock())
                worker = Worker(self._settings, self._state, kept, slot=0, reactor=self._reactor, hooks=self._hooks)
                self._worker = worker
                self._listen(worker.https_factory(), worker.http_factory())
            else:
                self._listen(Factory(), Factory())
                for listener in self._listeners:
                    # Connections wait in the kernel until a worker takes them.
                    listener.port.stopReading()  # type: ignore[attr-defined]
        except StartError as error:
            sys.stderr.write(f"opencert: {error}\n")
            raise CannotServe(1) from None

    def startService(self) -> None:
        """Begin to serve, and say what a person needs next."""
        super().startService()
        if self._worker is not None:
            self._worker.start()
        else:
            self._processes = [
                WorkerProcess(self._settings, slot, self._listeners, self._reactor)
                for slot in range(self._settings.workers)
            ]
            for process in self._processes:
                self._reactor.callWhenRunning(process.start)
        if self._rules is not None:
            self._rules.start()
        on_hangup(self._reactor, self._read_again)
        base = self._settings.base_url()
        self._log.info("trust anchors:  {path}", path=self._state.trust_anchors.resolve())
        self._log.info("ACME directory: {url}/directory", url=base)
        self._log.info("EST:            {url}/.well-known/est", url=base)

    def stopService(self) -> Deferred[None]:
        """Take no more connections, finish deeds under way, end the workers."""
        super().stopService()
        if self._rules is not None:
            self._rules.stop()
        closing: list[Deferred[Any]] = [maybeDeferred(listener.port.stopListening) for listener in self._listeners]
        closing += [process.stop() for process in self._processes]
        done = DeferredList(closing)
        worker = self._worker
        if worker is None:
            return done.addCallback(lambda _: None)

        def end(_: object) -> Deferred[None]:
            ending = Deferred.fromCoroutine(worker.stop())
            return ending.addTimeout(STOP_PATIENCE_SECONDS, self._reactor, lambda _result, _timeout: None)

        return done.addCallback(end)

    def _read_again(self) -> None:
        if self._rules is None:
            self._log.info("there is no settings file (--config) to read again")
        else:
            self._rules.read_again()

    def _adopt(self, rules: RuleSettings) -> None:
        """Have every worker go by these rules, those too that are started later. Raises StartError."""
        if self._worker is not None:
            self._worker.adopt(rules)
        else:
            check_rules(self._settings, rules, SystemClock())
        self._settings = self._settings.with_rules(rules)
        for process in self._processes:
            process.adopt(self._settings)

    def _listen(self, https: IProtocolFactory, http: IProtocolFactory) -> None:
        settings = self._settings
        for description in settings.listen or _any_address(settings.port):
            self._listeners.append(Listener(self._bind(description, https), tls=True))
        if settings.http_port is not None:
            for description in _any_address(settings.http_port):
                self._listeners.append(Listener(self._bind(description, http), tls=False))

    def _bind(self, description: str, factory: IProtocolFactory) -> IListeningPort:
        deadline = time.monotonic() + BIND_PATIENCE_SECONDS
        while True:
            try:
                endpoint = endpoints.serverFromString(self._reactor, description)
                results: list[Any] = []
                endpoint.listen(factory).addBoth(results.append)
                if results and isinstance(results[0], Failure):
                    results[0].raiseException()
                port: IListeningPort = results[0]
            except CannotListenError as error:
                if time.monotonic() < deadline:
                    time.sleep(0.2)  # before the reactor runs there is nobody to hold up
                    continue
                raise StartError(
                    f"cannot listen on {description}: {error.socketError}. Choose another --port, or stop what has it."
                ) from None
            except (ValueError, TypeError, IndexError) as error:
                raise StartError(f"--listen {description!r} is not a Twisted endpoint: {error}") from None
            return port


def _any_address(port: int) -> tuple[str, ...]:
    """All addresses, IPv6 and IPv4 on one socket, or IPv4 alone on machines without IPv6."""
    import socket

    if not socket.has_dualstack_ipv6():
        return (f"tcp:{port}",)
    return (f"tcp6:{port}:interface=\\:\\:",)


def raise_file_limit() -> None:
    """Let this process and its workers hold as many connections as the system allows, not the usual 1,024.

    At its limit a process accepts nobody, so that a thousand idle connections would keep everybody out.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class WorkerProcess(ProcessProtocol):
    """One worker in a process of its own, started again whenever it ends unasked."""

    _log = Logger()

    def __init__(self, settings: Settings, slot: int, listeners: list[Listener], reactor: Any) -> None:
        self._settings = settings
        self._slot = slot
        self._listeners = listeners
        self._reactor = reactor
        self._stopped: Deferred[None] | None = None
        self._running = False
        self._started_at = 0.0
        self._unfinished: dict[int, bytes] = {}

    def start(self) -> None:
        """Start the process. Its standard input tells it what to be, and by its end that this process is gone."""
        if self._stopped is not None:
            return
        pipes: dict[int, int | str] = {0: "w", 1: "r", 2: "r"}
        for number, listener in enumerate(self._listeners, _FIRST_PIPE):
            pipes[number] = listener.port.fileno()  # type: ignore[attr-defined]
        self._started_at = self._reactor.seconds()
        self._reactor.spawnProcess(
            self, sys.executable, [sys.executable, "-m", "opencertd.worker"], env=None, childFDs=pipes
        )
        self._running = True

    def connectionMade(self) -> None:
        """Tell the worker what to be."""
        sockets = [
            {"fd": number, "family": int(listener.port.socket.family), "tls": listener.tls}  # type: ignore[attr-defined]
            for number, listener in enumerate(self._listeners, _FIRST_PIPE)
        ]
        order = {"slot": self._slot, "sockets": sockets, "settings": self._settings.model_dump(mode="json")}
        assert self.transport is not None  # noqa: S101  (Twisted sets it before it calls this)
        self.transport.write(json.dumps(order).encode() + b"\n")

    def adopt(self, settings: Settings) -> None:
        """Tell the worker, and those that come after it, of other profiles and policies."""
        self._settings = settings
        if self._running and self.transport is not None:
            self.transport.write(json.dumps(settings.rules().model_dump(mode="json")).encode() + b"\n")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Pass the worker's log on, in whole lines."""
        *lines, self._unfinished[childFD] = (self._unfinished.get(childFD, b"") + data).split(b"\n")
        for line in lines:
            self._pass_on(line)

    def _pass_on(self, line: bytes) -> None:
        self._log.info("[{slot}] {line}", slot=self._slot, line=line.decode("utf-8", errors="replace"))

    def processEnded(self, reason: Failure) -> None:
        """Start another one, at once the first time, later when it fails again and again."""
        self._running = False
        for line in filter(None, self._unfinished.values()):
            self._pass_on(line)
        self._unfinished.clear()
        if self._stopped is not None:
            self._stopped.callback(None)
            return
        self._log.error("worker {slot} ended: {why}", slot=self._slot, why=reason.getErrorMessage())
        lived = self._reactor.seconds() - self._started_at
        self._reactor.callLater(0 if lived > 5 else 2, self.start)

    def stop(self) -> Deferred[None]:
        """Ask the process to end; make it end after a while."""
        self._stopped = Deferred()
        if not self._running or self.transport is None:
            self._stopped.callback(None)
            return self._stopped
        self.transport.signalProcess("TERM")
        kill = self._reactor.callLater(STOP_PATIENCE_SECONDS, self._kill)

        def cancel(result: None) -> None:
            if kill.active():
                kill.cancel()

        return self._stopped.addCallback(cancel)

    def _kill(self) -> None:
        if self._running and self.transport is not None:
            self.transport.signalProcess("KILL")
