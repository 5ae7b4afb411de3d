"""Profiles and policies change without a restart: when the settings file does, or when SIGHUP asks for it.

One process of a node reads the file, so that all its workers go by the same rules. A file that is wrong changes
nothing: the log says in one sentence what is wrong with it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from opencertd.config import RuleSettings, read_rules
from opencertd.errors import StartError

LOOK_SECONDS = 1.0

_Mark = tuple[int, int, int]


class RulesFile:
    """Reads `file` again when it has changed and has then stayed the same for a second; editors write in steps.

    `adopt` puts new rules to use, or raises StartError and changes nothing. `held`: those in use.
    """

    _log = Logger()

    def __init__(
        self, file: Path, held: RuleSettings, adopt: Callable[[RuleSettings], None], reactor: IReactorTime
    ) -> None:
        self._file = file
        self._held = held
        self._adopt = adopt
        self._read: _Mark | None = None
        self._seen: _Mark | None = None
        self._loop = LoopingCall(self.look)
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin to look at the file."""
        self._loop.start(LOOK_SECONDS)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def look(self) -> None:
        """Read the file if it is another than the one read last, and is not being written just now."""
        mark = self._mark()
        if mark is not None and mark == self._seen and mark != self._read:
            self.read_again()
        self._seen = mark

    def read_again(self) -> None:
        """Read the file now, whatever it looks like from outside."""
        self._read = self._mark()
        try:
            rules = read_rules(self._file)
            if rules == self._held:
                return
            self._adopt(rules)
        except StartError as error:
            self._log.error("profiles and policies stay as they were: {why}", why=str(error))
            return
        self._held = rules
        self._log.info("profiles and policies are now as {file} says", file=str(self._file))

    def _mark(self) -> _Mark | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def on_hangup(reactor: Any, deed: Callable[[], None]) -> None:
    """Have SIGHUP do `deed` in the reactor, unless the process has given it another meaning already."""
    try:
        if signal.getsignal(signal.SIGHUP) in (signal.SIG_DFL, signal.SIG_IGN):
            signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(deed))
    except ValueError:
        return  # not the main thread: an application around us decides about signals
