"""A token that is away, refuses or forgets is said in words, found again by itself, and never locked by us."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import at_once
from opencertd.keys.pin import PinFile
from opencertd.keys.pkcs11 import PAUSE_SECONDS, Token
from opencertd.keys.token_errors import KeyNotThere, TokenAway, TokenError
from opencertd.keys.token_keys import EcTokenKey, TokenKey, bring_key, make_key
from opencertd.keys.token_signer import TokenSigner, TokenThread
from tests.softhsm import LABEL, MODULE, PIN, SoftHsm


def sign(key: TokenKey) -> None:
    """Sign and verify."""
    assert isinstance(key, EcTokenKey)
    key.public_key().verify(key.sign(b"data", ECDSA), b"data", ECDSA)


ECDSA = ec.ECDSA(hashes.SHA256())


def test_pulled_out_and_put_in_again(hsm: SoftHsm, token: Token) -> None:
    key = make_key(token, "k", "EC P-256")
    sign(key)
    hsm.remove()
    for _ in range(3):
        with pytest.raises(TokenAway, match=f"no token '{LABEL}'") as caught:
            sign(key)
        assert str(hsm.directory) not in caught.value.plain and LABEL not in caught.value.plain
    hsm.put_back()
    sign(key)


def test_other_threads_find_it_again_too(hsm: SoftHsm, token: Token) -> None:
    """Sessions of before are of no use to anybody; eight threads sign while the token comes and goes."""
    key = make_key(token, "k", "EC P-256")
    wrong: list[Exception] = []
    signatures = [0]
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            try:
                sign(key)
                signatures[0] += 1
            except TokenError:
                pass
            except Exception as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        hsm.remove()
        ended.wait(0.1)
        hsm.put_back()
        ended.wait(0.1)
    ended.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not wrong
    assert signatures[0]
    sign(key)


def test_a_token_that_failed_is_left_alone_for_a_while(hsm: SoftHsm) -> None:
    now = [0.0]
    token = hsm.token(lambda: now[0])
    key = make_key(token, "k", "EC P-256")
    hsm.remove()
    now[0] += PAUSE_SECONDS
    with pytest.raises(TokenAway):
        sign(key)
    hsm.put_back()
    now[0] += PAUSE_SECONDS / 2
    with pytest.raises(TokenAway, match="no token"):
        sign(key)
    now[0] += PAUSE_SECONDS / 2
    sign(key)
    token.close()


def test_a_key_that_is_gone(hsm: SoftHsm, token: Token) -> None:
    import pkcs11

    key = make_key(token, "k", "EC P-256")

    def destroy(session: pkcs11.Session) -> None:
        for held in list(session.get_objects({pkcs11.Attribute.ID: key.uri.id})):
            held.destroy()

    token.run(destroy, write=True)
    with pytest.raises(KeyNotThere, match="no private key pkcs11:object=k;id="):
        sign(key)
    sign(make_key(token, "k", "EC P-256"))


def test_another_key_is_not_taken_for_the_right_one(token: Token) -> None:
    key = make_key(token, "k", "EC P-256")
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(TokenError, match="does not belong"):
        TokenSigner(token, str(key.uri), other, at_once).check()
    with pytest.raises(TokenError, match="signs wrongly"):
        TokenSigner(token, str(key.uri), other, at_once).prove()
    signer = TokenSigner(token, str(key.uri), key.public_key(), at_once)
    signer.check()
    signer.prove()
    rsa_key = make_key(token, "r", "RSA 2048")
    other_rsa = rsa.generate_private_key(65537, 2048).public_key()
    TokenSigner(token, str(rsa_key.uri), rsa_key.public_key(), at_once).check()
    with pytest.raises(TokenError, match="does not belong"):
        TokenSigner(token, str(rsa_key.uri), other_rsa, at_once).check()


def test_a_wrong_pin_is_tried_once_and_never_again_before_it_changes(hsm: SoftHsm, token: Token) -> None:
    """The token's own count of failures stays at one, whatever asks, this process or the next."""
    key = make_key(token, "k", "EC P-256")
    token.close()
    hsm.pin_file.write_text("0000\n")
    with pytest.raises(TokenError, match=r"refuses the PIN in .*/pin"):
        sign(key)
    tried = Path(hsm.directory / "refused").read_bytes()
    for again in (token, hsm.token()):
        with pytest.raises(TokenError, match="not tried again") as caught:
            again.run(lambda session: None)
        assert PIN not in str(caught.value) and "0000" not in str(caught.value)
        again.close()
    assert Path(hsm.directory / "refused").read_bytes() == tried
    assert b"0000" not in tried
    hsm.pin_file.write_text(PIN + "\n")
    sign(key)
    assert Path(hsm.directory / "refused").read_bytes() == b""


FAULTS: dict[str, tuple[Callable[[SoftHsm], Token], str]] = {
    "no module": (lambda hsm: other(hsm, module=hsm.directory / "none.so"), r"no PKCS#11 module .*/none\.so"),
    "no module but a library": (
        lambda hsm: other(hsm, module=Path("/lib/x86_64-linux-gnu/libm.so.6")),
        "cannot be loaded as a PKCS#11 module",
    ),
    "no library": (lambda hsm: other(hsm, module=hsm.pin_file), "cannot be loaded as a PKCS#11 module"),
    "no token": (lambda hsm: other(hsm, label="another"), "no token 'another'"),
    "no PIN file": (lambda hsm: other(hsm, pin=hsm.directory / "no-pin"), "cannot read the PIN file"),
    "empty PIN file": (lambda hsm: other(hsm, pin=hsm.directory / "empty"), "is empty"),
    "PIN file in no text": (lambda hsm: other(hsm, pin=hsm.directory / "binary"), "not UTF-8"),
}


def other(hsm: SoftHsm, module: Path = MODULE, label: str = LABEL, pin: Path | None = None) -> Token:
    (hsm.directory / "empty").write_bytes(b"")
    (hsm.directory / "binary").write_bytes(b"\xff\xfe")
    return Token(module, label, PinFile(pin or hsm.pin_file, hsm.directory / "refused"))


@pytest.mark.parametrize("case", FAULTS)
def test_faults_in_words(hsm: SoftHsm, case: str) -> None:
    if case == "no module but a library" and not Path("/lib/x86_64-linux-gnu/libm.so.6").exists():
        pytest.skip("another machine's library")
    make, words = FAULTS[case]
    with pytest.raises(TokenError, match=words) as caught:
        make(hsm).run(lambda session: None)
    assert "/" not in caught.value.plain


def test_a_forked_child_begins_anew(token: Token) -> None:
    key = make_key(token, "k", "EC P-256")
    sign(key)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sign(key)
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sign(key)


class ThreadsReactor(Clock):
    """A clock to whose thread functions are handed by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[Any] = []
        self.more = threading.Event()

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        self.handed.append((function, arguments))
        self.more.set()

    def run(self) -> None:
        assert self.more.wait(30)
        self.more.clear()
        while self.handed:
            function, arguments = self.handed.pop(0)
            function(*arguments)


def test_its_thread_answers_in_the_reactors_thread_and_within_patience() -> None:
    reactor = ThreadsReactor()
    thread = TokenThread(reactor, patience=5)
    begun, release = threading.Event(), threading.Event()
    done: list[str] = []

    def hang() -> str:
        begun.set()
        release.wait(30)
        return "late"

    hanging, waiting = thread.run(hang), thread.run(lambda: done.append("should not be done"))
    assert begun.wait(30)
    reactor.advance(6)
    for asked in (hanging, waiting):
        assert isinstance(failure_of(asked), TokenAway)
    release.set()
    reactor.run()
    quick: Deferred[threading.Thread] = thread.run(threading.current_thread)
    reactor.run()
    results: list[threading.Thread] = []
    quick.addCallback(results.append)
    assert results[0] is not threading.current_thread() and results[0].daemon
    assert not done
    thread.stop()
    results[0].join(30)
    assert not results[0].is_alive()


def failure_of(asked: Deferred[Any]) -> Exception:
    failures: list[Any] = []
    asked.addErrback(failures.append)
    error: Exception = failures[0].value
    return error


def test_a_signer_refuses_in_words(hsm: SoftHsm, token: Token) -> None:
    key = bring_key(token, "k", ec.generate_private_key(ec.SECP256R1()))
    signer = TokenSigner(token, str(key.uri), key.public_key(), at_once)
    hsm.remove()
    refusal = failure_of(signer.sign(b""))
    assert isinstance(refusal, Refusal)
    assert refusal.kind is RefusalKind.UNAVAILABLE
    assert refusal.detail == "the issuing CA cannot sign at present: its token is not there"
    assert refusal.retry_after
