"""A second look before signing, by pkilint: somebody else's rules, run in processes of their own.

Pure Python rules of a few milliseconds a certificate would hold up the reactor, and in a thread the GIL. Each process
looks at one certificate at a time, is started at first need, and is ended when it takes too long.
"""

from __future__ import annotations

import binascii
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from opencertd.errors import Refusal, RefusalKind

PROCESSES = 2
MOST_WAITING = 500
"""Certificates in line for a process; some seconds' work."""
LIMIT_SECONDS = 10.0
"""For one certificate, the start of the process included (a second on a small machine)."""

_COMMAND = (sys.executable, "-m", "opencertd.issuance.pkilint_child")
_KEPT_OF_STDERR = 2000
_SHOWN = 300


def is_installed() -> bool:
    """Whether there is a pkilint to ask."""
    return find_spec("pkilint") is not None


class LintFailedError(Exception):
    """pkilint gave no answer: says why."""


class PkilintCheck:
    """Asks pkilint about certificates. `refuse`: whether what it finds stops issuance, or is logged only."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        refuse: bool,
        processes: int = PROCESSES,
        most_waiting: int = MOST_WAITING,
        limit: float = LIMIT_SECONDS,
        command: tuple[str, ...] = _COMMAND,
    ) -> None:
        self._reactor = reactor
        self._refuse = refuse
        self._most_waiting = most_waiting
        self._limit = limit
        self._command = command
        self._places = DeferredSemaphore(processes)
        self._all: set[_LintProcess] = set()
        self._idle: list[_LintProcess] = []

    async def check(self, certificate_der: bytes) -> None:
        """Refusals, when it is told to refuse: INTERNAL, which names the lint; UNAVAILABLE when pkilint did not answer.

        Otherwise both are logged.
        """
        try:
            findings = await self._ask(certificate_der)
        except LintFailedError as error:
            self._log.error("pkilint did not look at a certificate: {why}", why=str(error))
            if self._refuse:
                raise Refusal(
                    RefusalKind.UNAVAILABLE, "the certificate cannot be linted at present", retry_after=30
                ) from None
            return
        if not findings:
            return
        self._log.error("pkilint finds fault with a certificate: {findings}", findings=findings)
        if self._refuse:
            detail = f"the certificate would not be right: pkilint finds {findings[0][:_SHOWN]}"
            raise Refusal(RefusalKind.INTERNAL, detail)

    async def stop(self) -> None:
        """End all processes, and come back when they have ended."""
        for process in tuple(self._all):
            await process.end()

    async def _ask(self, certificate_der: bytes) -> list[str]:
        if len(self._places.waiting) >= self._most_waiting:
            raise LintFailedError("too many certificates wait for it")
        await self._places.acquire()
        try:
            return await self._ask_one(self._process(), certificate_der)
        except DeferredTimeout:
            raise LintFailedError(f"it took longer than {self._limit:g} seconds") from None
        except OSError as error:
            raise LintFailedError(f"no process can be started: {error.strerror}") from None
        finally:
            self._places.release()

    async def _ask_one(self, process: _LintProcess, certificate_der: bytes) -> list[str]:
        try:
            findings = _findings(await process.ask(certificate_der).addTimeout(self._limit, self._reactor))
        except BaseException:
            process.end()  # an answer that comes late would be taken for another certificate's
            raise
        self._idle.append(process)
        return findings

    def _process(self) -> _LintProcess:
        while self._idle:
            process = self._idle.pop()
            if process in self._all:
                return process
        process = _LintProcess(self._all.discard)
        self._reactor.spawnProcess(process, self._command[0], self._command, env=None)
        self._all.add(process)
        return process


def pkilint_for(mode: str, reactor: Any) -> PkilintCheck | None:
    """What `[lint] pkilint` asks for: "off", "warn" or "refuse"."""
    return None if mode == "off" else PkilintCheck(reactor, refuse=mode == "refuse")


def _findings(line: bytes) -> list[str]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise LintFailedError("its answer makes no sense")
    return [str(finding) for finding in found]


class _LintProcess(ProcessProtocol):
    """One process: a question, its answer, and so on. `ended` is told when it is no more."""

    def __init__(self, ended: Callable[[_LintProcess], None]) -> None:
        self._tell_ended = ended
        self._answer: Deferred[bytes] | None = None
        self._received = b""
        self._complaint = b""
        self._running = True
        self._gone: list[Deferred[None]] = []

    def ask(self, certificate_der: bytes) -> Deferred[bytes]:
        """The line that answers; fails with LintFailedError when the process ends instead."""
        self._answer = Deferred()
        assert self.transport is not None  # noqa: S101  (Twisted sets it in spawnProcess)
        self.transport.write(binascii.b2a_base64(certificate_der))
        return self._answer

    def end(self) -> Deferred[None]:
        """Kill the process, which has nothing to lose; fires when it is gone."""
        if not self._running or self.transport is None:
            return succeed(None)
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._gone.append(gone)
        return gone

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """An answer, or a complaint on standard error."""
        if childFD != 1:
            self._complaint = (self._complaint + data)[-_KEPT_OF_STDERR:]
            return
        self._received += data
        line, end, rest = self._received.partition(b"\n")
        if not end:
            return
        self._received = rest
        answer, self._answer = self._answer, None
        if answer is not None and not answer.called:
            answer.callback(line)

    def processEnded(self, reason: Failure) -> None:
        """Whoever waits learns that no answer will come."""
        self._running = False
        self._tell_ended(self)
        answer, self._answer = self._answer, None
        if answer is not None and not answer.called:
            last = self._complaint.decode("utf-8", errors="replace").strip().rpartition("\n")[2]
            answer.errback(LintFailedError(f"its process ended: {last or reason.getErrorMessage()}"))
        for gone in self._gone:
            gone.callback(None)
