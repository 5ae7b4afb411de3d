"""A PKCS#11 token: logged in to when first needed, used by one thread at a time, found again after it was away.

The standard's rules that shape this file (PKCS#11 v3.1 §5): a module is initialised once a process, and anew in a
forked child; initialised without locking arguments, which is the library's way, it bears one thread at a time; a
session belongs to one thread. A module keeps its picture of a token that has gone, so what helps is to finalise it and
begin again. Whoever wants more signatures at once than one thread makes has several processes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
from pkcs11.exceptions import (
    NoSuchKey,
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
    UserPinNotInitialized,
)
from twisted.logger import Logger

from opencertd.keys.pin import PinFile
from opencertd.keys.token_errors import KeyNotThere, TokenAway, TokenError

T = TypeVar("T")

PAUSE_SECONDS = 2.0
"""How long a token that could not be reached, or that fails though it was just begun with anew, is left alone."""

_WRONG_PIN = (PinIncorrect, PinInvalid, PinLenRange)
_NO_LOGIN = (PinLocked, PinExpired, UserPinNotInitialized)


class Token:
    """One token of one module. Nothing is touched before `run`. Every method may block and is safe in any thread."""

    _log = Logger()

    def __init__(
        self, module: Path, label: str, pin: PinFile, *, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.label = label
        self._module = module
        self._pin = pin
        self._seconds = seconds
        self._fault: TokenError | None = None
        self._tried_at: float | None = None
        self._repaired_at: float | None = None
        self._library: Any = None
        self._begin()

    def run(self, deed: Callable[[pkcs11.Session], T], *, write: bool = False) -> T:
        """The result of `deed` on a session that is logged in; `deed` may run twice, the second time after a new login.

        Raises TokenError: TokenAway while the token is away or fails, KeyNotThere when `deed` raises NoSuchKey.
        """
        if self._process != os.getpid():
            self._begin()
        with self._turn:
            try:
                return self._do(deed, write)
            except PKCS11Error as error:
                if self._is_young(self._repaired_at):
                    raise self._explain(error) from error
            self._repaired_at = self._seconds()
            self._let_go()
            try:
                return self._do(deed, write)
            except PKCS11Error as error:
                raise self._explain(error) from error

    def close(self) -> None:
        """Log out and let go of the module, as before a fork. The next `run` begins anew."""
        with self._turn:
            self._let_go()

    def _begin(self) -> None:
        """As in a process that has never used the token, which a forked child is too."""
        self._process = os.getpid()
        self._turn = threading.Lock()
        self._token: pkcs11.Token | None = None
        self._own = threading.local()

    def _do(self, deed: Callable[[pkcs11.Session], T], write: bool) -> T:
        """Sessions share the login of the process, so they are opened without a PIN and never log out."""
        if self._token is None:
            self._token = self._connect()
        if write:
            session = self._token.open(rw=True)
            try:
                return deed(session)
            finally:
                with contextlib.suppress(PKCS11Error):
                    session.close()
        if getattr(self._own, "token", None) is not self._token:
            self._own.session, self._own.token = self._token.open(), self._token
        return deed(self._own.session)

    def _connect(self) -> pkcs11.Token:
        """Begin with the module, find the token, log in; but leave a token alone that has just failed."""
        if self._fault and self._is_young(self._tried_at):
            raise type(self._fault)(self._fault.detail, self._fault.plain)
        self._tried_at = self._seconds()
        self._let_go()
        try:
            token = self._find()
            self._log_in(token)
        except TokenError as error:
            if self._fault is None or self._fault.detail != error.detail:
                self._log.error("{why}", why=error.detail)
            self._fault = error
            self._let_go()
            raise
        if self._fault:
            self._log.info("the token {label} is back", label=self.label)
        self._fault = None
        return token

    def _is_young(self, moment: float | None) -> bool:
        """Whether what was tried then is so young that another try would find the same."""
        return moment is not None and self._seconds() < moment + PAUSE_SECONDS

    def _let_go(self) -> None:
        self._token = None
        if self._library is not None and self._library.initialized:
            with contextlib.suppress(PKCS11Error):  # a module whose token is gone may fail even here
                self._library.finalize()

    def _find(self) -> pkcs11.Token:
        if not self._module.is_file():
            raise TokenError(f"there is no PKCS#11 module {self._module}", "its token cannot be reached")
        try:
            self._library = pkcs11.lib(str(self._module))
            found: list[pkcs11.Token] = [t for t in self._library.get_tokens() if t.label == self.label]
        except PKCS11Error as error:
            if str(error).startswith("OS exception"):
                raise TokenError(
                    f"{self._module} cannot be loaded as a PKCS#11 module: {error}", "its token cannot be reached"
                ) from None
            raise self._away(f"the PKCS#11 module {self._module} finds no tokens ({_name(error)})") from error
        if not found:
            raise self._away(f"there is no token {self.label!r} for the PKCS#11 module {self._module}")
        if len(found) > 1:
            raise TokenError(
                f"there are {len(found)} tokens {self.label!r} for the PKCS#11 module {self._module}: give each "
                "its own label",
                "its token cannot be told from others",
            )
        return found[0]

    def _log_in(self, token: pkcs11.Token) -> None:
        with self._pin.trying() as attempt:
            try:
                token.open(user_pin=attempt.pin)
                attempt.accepted = True
            except _WRONG_PIN:
                attempt.accepted = False
                raise TokenError(
                    f"the token {self.label!r} refuses the PIN in {self._pin}: put the right one there before a few "
                    "more tries lock the token",
                    "its token refuses the login",
                ) from None
            except _NO_LOGIN as error:
                words = {PinLocked: "is locked", PinExpired: "has expired"}.get(type(error), "has not been set")
                raise TokenError(
                    f"the user PIN of the token {self.label!r} {words}", "its token refuses the login"
                ) from None
            except PKCS11Error as error:
                raise self._away(f"the token {self.label!r} cannot be logged in to ({_name(error)})") from error

    def _away(self, detail: str) -> TokenAway:
        return TokenAway(detail, "its token is not there")

    def _explain(self, error: PKCS11Error) -> TokenError:
        if isinstance(error, NoSuchKey):
            return KeyNotThere(f"the token {self.label!r} has {error}", "its token does not have the key")
        return TokenAway(f"the token {self.label!r} fails ({_name(error)})", "its token fails")


def _name(error: PKCS11Error) -> str:
    """The standard's word for it, which the library makes a class of."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
