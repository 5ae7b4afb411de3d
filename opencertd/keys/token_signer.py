"""Signing with a key in a token: in a thread of its own, within a time limit, refused in words while it is away."""

# mypy: disable-error-code="no-untyped-call"
# (Twisted's Failure is untyped.)

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.keys.key_uri import parse_key_uri
from opencertd.keys.kinds import PublicKey, Scheme, scheme_of
from opencertd.keys.pkcs11 import Token
from opencertd.keys.signer import Elsewhere
from opencertd.keys.token_errors import TokenAway, TokenError
from opencertd.keys.token_keys import check_there, key_in_token

T = TypeVar("T")

PATIENCE_SECONDS = 10.0
_RETRY_AFTER_SECONDS = 10


class TokenSigner:
    """A signer whose key is in a token. `elsewhere` runs a function that may block, as `TokenThread.run` does.

    `scheme`: how it signs; None for the key's usual way. Making one asks the token nothing. Raises StartError when
    `reference` is no good, or names a key that tokens do not hold.
    """

    def __init__(
        self,
        token: Token,
        reference: str,
        public_key: PublicKey,
        elsewhere: Elsewhere[bytes],
        scheme: Scheme | None = None,
    ) -> None:
        try:
            self._key = key_in_token(token, parse_key_uri(reference), public_key)
        except ValueError as error:
            raise StartError(f"the key reference {error}") from None
        self._token = token
        self._public_key = public_key
        self._elsewhere = elsewhere
        self._scheme = scheme or scheme_of(public_key)

    @property
    def public_key(self) -> PublicKey:
        return self._public_key

    @property
    def algorithm_der(self) -> bytes:
        return self._scheme.algorithm_der

    def sign(self, data: bytes) -> Deferred[bytes]:
        """Fails with a Refusal UNAVAILABLE while the token does not sign."""
        return maybeDeferred(self._elsewhere, lambda: self._sign(data)).addErrback(_refuse)

    def by(self, scheme: Scheme) -> TokenSigner:
        """What signs with the same key in the same thread."""
        other = copy.copy(self)
        other._scheme = scheme
        return other

    def check(self) -> None:
        """Make sure, in this thread, that the token has the key, without using it. Raises TokenError."""
        check_there(self._token, self._key)

    def prove(self) -> None:
        """Make sure, in this thread, that the key in the token signs as it should. Raises TokenError."""
        probe = b"opencertd asks whose key this is " + secrets.token_bytes(32)
        if not self._scheme.verifies(self._public_key, self._sign(probe), probe):
            raise TokenError(f"the token signs wrongly with the key {self._key.uri}", "its token signs wrongly")

    def _sign(self, data: bytes) -> bytes:
        return self._scheme.sign(self._key, data)


def _refuse(failure: Failure) -> Failure:
    error = failure.value
    if not isinstance(error, TokenError):
        return failure
    words = f"the issuing CA cannot sign at present: {error.plain}"
    return Failure(Refusal(RefusalKind.UNAVAILABLE, words, retry_after=_RETRY_AFTER_SECONDS))


class TokenThread:
    """The thread for what is asked of one token, begun when first needed, so that there is none before a fork.

    It is a daemon: a token that never answers keeps no process from ending. `patience`: seconds until whoever waits
    is told that the token does not answer; what was asked and has not begun by then is never done.
    """

    def __init__(self, reactor: Any, *, patience: float = PATIENCE_SECONDS) -> None:
        self._reactor = reactor
        self._patience = patience
        self._asked: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        self._begun = False

    def run(self, function: Callable[[], T]) -> Deferred[T]:
        """The result of `function`. Fails with TokenAway when it takes too long."""
        if not self._begun:
            self._begun = True
            Thread(target=self._work, name="token", daemon=True).start()
        waiting: Deferred[T] = Deferred(canceller=lambda _: None)
        self._asked.put((function, waiting))
        return waiting.addTimeout(self._patience, self._reactor, self._give_up)

    def stop(self) -> None:
        """Do nothing more than what was asked by now."""
        self._asked.put(None)

    def _give_up(self, _result: object, seconds: float) -> Any:
        words = f"the token does not answer within {seconds:g} seconds"
        return Failure(TokenAway(words, "its token does not answer"))

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            function, waiting = asked
            if waiting.called:
                continue
            outcome: Any
            try:
                outcome = function()
            except Exception:
                outcome = Failure()
            self._reactor.callFromThread(_settle, waiting, outcome)


def _settle(waiting: Deferred[Any], outcome: Any) -> None:
    if not waiting.called:
        waiting.callback(outcome)
