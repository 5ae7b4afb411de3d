"""A second look before signing, by pkilint: somebody else's rules, run in processes of their own.

Pure Python rules of a few milliseconds a certificate would hold up the reactor, and in a thread the GIL. Each process
looks at one certificate at a time, is started at first need, and is ended when it takes too long.
"""

from __future__ import annotations

import binascii
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from opencertd.errors import Refusal, RefusalKind, RefusedName, StartError
from opencertd.model.names import AltName, AltNameKind

PROCESSES = 2
MOST_WAITING = 500
"""Certificates in line for a process; some seconds' work."""
LIMIT_SECONDS = 10.0
"""For one certificate, the start of the process included (a second on a small machine)."""

_COMMAND = (sys.executable, "-m", "opencertd.issuance.pkilint_child")
_HOSTS_WITHOUT_DOTS = {
    AltNameKind.DNS: "pkix.invalid_domain_name_syntax",
    AltNameKind.EMAIL: "pkix.invalid_email_address_syntax",
}
_KEPT_OF_STDERR = 2000
_SHOWN = 300


OFF, WARN, REFUSE = "off", "warn", "refuse"


@dataclass(frozen=True)
class Finding:
    """`words`: `code: message`; `in_names`: whether it is about the subject or the subjectAltName."""

    in_names: bool
    words: str


def check_installed(mode: str | None, key: str) -> None:
    """Raise StartError when the setting `key` wants pkilint, which is not there."""
    if mode not in {None, OFF} and not is_installed():
        raise StartError(
            f"{key} = {mode!r} needs pkilint: install it with pip install 'opencertd[lint]', or set it to 'off'"
        )


def is_installed() -> bool:
    """Whether there is a pkilint to ask."""
    return find_spec("pkilint") is not None


class LintFailedError(Exception):
    """pkilint gave no answer: says why."""


class PkilintCheck:
    """Asks pkilint about certificates. `mode`: what follows, where a profile does not say otherwise.

    `off`: it is not asked; `warn`: what it finds is logged; `refuse`: it stops issuance too.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        mode: str,
        processes: int = PROCESSES,
        most_waiting: int = MOST_WAITING,
        limit: float = LIMIT_SECONDS,
        command: tuple[str, ...] = _COMMAND,
    ) -> None:
        self._reactor = reactor
        self._mode = mode
        self._most_waiting = most_waiting
        self._limit = limit
        self._command = command
        self._places = DeferredSemaphore(processes)
        self._all: set[_LintProcess] = set()
        self._idle: list[_LintProcess] = []

    def is_off(self, mode: str | None = None) -> bool:
        """Whether `check` asks nobody. `mode`: the profile's, None for the usual one."""
        return (mode or self._mode) == OFF

    def check_hosts(self, names: Iterable[AltName], mode: str | None = None) -> None:
        """Raise REJECTED_NAME, when it is told to refuse, for hosts of one label, before there is a certificate.

        So that an order of ACME fails when it is made. `mode`: the profile's, None for the usual one.
        """
        if (mode or self._mode) != REFUSE:
            return
        for name in names:
            code = _HOSTS_WITHOUT_DOTS.get(name.kind)
            host = name.value.rpartition("@")[2].removeprefix("*.")
            if code is not None and "." not in host:
                why = f"pkilint finds {code}: its host has one label only"
                refused = RefusedName(RefusalKind.REJECTED_NAME, name.kind.value, name.value, why)
                words = f"names that may not be issued: {name.value[:260]} ({why})"
                raise Refusal(RefusalKind.REJECTED_NAME, words, names=(refused,))

    async def check(self, certificate_der: bytes, mode: str | None = None) -> None:
        """Refusals that name the lint, when it is told to refuse; otherwise they are logged only.

        REJECTED_NAME for what it finds in the subject or the names, INTERNAL for all else; UNAVAILABLE when pkilint
        did not answer. `mode`: the profile's, None for the usual one.
        """
        mode = mode or self._mode
        if mode == OFF:
            return
        try:
            findings = await self._ask(certificate_der)
        except LintFailedError as error:
            self._log.error("pkilint did not look at a certificate: {why}", why=str(error))
            if mode == REFUSE:
                raise Refusal(
                    RefusalKind.UNAVAILABLE, "the certificate cannot be linted at present", retry_after=30
                ) from None
            return
        if not findings:
            return
        self._log.error(
            "pkilint finds fault with a certificate: {findings}", findings=[finding.words for finding in findings]
        )
        if mode == REFUSE:
            # What the request did not choose is the daemon's own fault, or the settings'.
            worst = next((finding for finding in findings if not finding.in_names), findings[0])
            kind = RefusalKind.REJECTED_NAME if worst.in_names else RefusalKind.INTERNAL
            raise Refusal(kind, f"the certificate would not be right: pkilint finds {worst.words[:_SHOWN]}")

    async def stop(self) -> None:
        """End all processes, and come back when they have ended."""
        for process in tuple(self._all):
            await process.end()

    async def _ask(self, certificate_der: bytes) -> list[Finding]:
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

    async def _ask_one(self, process: _LintProcess, certificate_der: bytes) -> list[Finding]:
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


def _findings(line: bytes) -> list[Finding]:
    try:
        return [Finding(bool(in_names), str(words)) for in_names, words in json.loads(line)]
    except (ValueError, TypeError):
        raise LintFailedError("its answer makes no sense") from None


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
