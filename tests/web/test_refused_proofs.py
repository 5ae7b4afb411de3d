"""Every proof that proves nothing, one by one: the status, the words, and how to do better; and nobody is let in.

Headers that only proxies may send are in `test_proxy` too, certificates that others made in `test_client_trust`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.clock import FixedClock
from opencertd.model.enrolment_password import digest_of
from opencertd.web.authentication import Authenticator
from opencertd.web.client_trust import ClientTrust
from opencertd.web.digest import Digest, DigestCredentials, expected_response
from opencertd.web.users import digest_secret

from .oidc import Idp, forge, key
from .people import NOW, Used, person, users_of
from .pki import CLIENT, build, issuing
from .test_authentication import Known, basic, guarded, record
from .test_enrolment_passwords import GOOD, KEY, passwords
from .wire import Wire, edge, get, parse, wire

PATH = "/api/who?a=1"


class Gate:
    """An edge that lets in who proves anything, by every kind of proof there is."""

    def __init__(self, directory: Path) -> None:
        self.clock = FixedClock(NOW)
        self.idp = Idp("RSA", "P-256")
        users = users_of(directory / "users", person("ann", "a", digest=True), clock=self.clock)
        self.digest = Digest(users=users, key=b"k" * 32, redeem=Used().redeem, clock=self.clock)
        self.certificate = build("host.test", issuing(), usages=(CLIENT,))
        asked = Authenticator(
            recognise=Known(record(self.certificate)),
            clock=self.clock,
            trust=ClientTrust(lambda: (issuing().certificate,)),
            users=users,
            digest=self.digest,
            bearer=self.idp.verifier,
            enrolment_passwords=passwords(GOOD),
        )
        self.app = guarded(asked)

    def wire(self) -> Wire:
        return wire(edge(self.app))

    def answer(self, **changes: str) -> str:
        """A right Digest answer, unless changed."""
        found = re.search(r'nonce="([^"]+)"', self.digest.challenges()[0])
        values = {"username": "ann", "realm": "opencertd", "uri": PATH, "nc": "00000001", "algorithm": "SHA-256"}
        values |= {"nonce": found[1] if found else "", "password": "a", "qop": "auth"} | changes
        said = DigestCredentials(
            values["username"], values["nonce"], values["uri"], "", values["nc"], "c", values["algorithm"]
        )
        secret = digest_secret(values["algorithm"], values["username"], values.pop("password"))
        response = expected_response(secret, said, "GET")
        return (
            f'Authorization: Digest username="{values["username"]}", realm="{values["realm"]}", '
            f'nonce="{values["nonce"]}", uri="{values["uri"]}", cnonce="c", nc={values["nc"]}, qop={values["qop"]}, '
            f'response="{response}", algorithm={values["algorithm"]}'
        )

    def bearer(self, kind: str = "RSA", **changes: Any) -> str:
        return f"Authorization: Bearer {self.idp.token(kind, **changes)}"


@pytest_twisted.async_fixture
async def gate(tmp_path: Path) -> Gate:
    made = Gate(tmp_path)
    await made.idp.verifier.verify(made.idp.token())  # the keys are known: nobody waits for them
    return made


def public_pem() -> bytes:
    return bytes(key("RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def by_public_key(gate: Gate) -> str:
    """HS256 with the authority's public key as the shared secret (RFC 8725 §2.1)."""
    token = forge({"alg": "HS256", "kid": "RSA"}, gate.idp.claims())
    signed = token.rpartition(".")[0]
    mac = hmac.digest(public_pem(), signed.encode(), hashlib.sha256)
    return f"Authorization: Bearer {signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def clear(gate: Gate) -> int:
    return int(gate.clock.now().timestamp())


def pair(data: bytes) -> str:
    return "Authorization: Basic " + base64.b64encode(data).decode()


GOOD_ONES: dict[str, Callable[[Gate], str]] = {
    "Basic": lambda gate: "Authorization: " + basic("ann", "a"),
    "Basic, a one-time password": lambda gate: "Authorization: " + basic("otp-a", "secret"),
    "Digest by SHA-256": lambda gate: gate.answer(),
    "Digest by MD5": lambda gate: gate.answer(algorithm="MD5"),
    "bearer, RS256": lambda gate: gate.bearer(),
    "bearer, ES256": lambda gate: gate.bearer("P-256"),
}

Refused = tuple[Callable[[Gate], str | tuple[str, ...]], int, str]
REFUSED: dict[str, Refused] = {
    "nothing": (lambda gate: (), 401, "brings none"),
    "an empty header": (lambda gate: "Authorization:", 401, "not accepted"),
    "two headers": (lambda gate: ("Authorization: " + basic("ann", "a"),) * 2, 401, "more than one"),
    "another scheme": (lambda gate: "Authorization: Negotiate YQ==", 401, "not accepted"),
    # headers that only proxies may send
    "Client-Cert from nobody's proxy": (
        lambda gate: f"Client-Cert: :{base64.b64encode(gate.certificate.der).decode()}:", 401, "brings none",
    ),
    "an escaped certificate from nobody's proxy": (
        lambda gate: f"X-SSL-Client-Cert: {quote(gate.certificate.pem)}", 401, "brings none",
    ),
    "Forwarded from nobody's proxy": (
        lambda gate: ("Forwarded: for=127.0.0.1", "X-Forwarded-For: 127.0.0.1", "Remote-User: ann"), 401, "brings none",
    ),
    # Basic
    "Basic, wrong password": (lambda gate: "Authorization: " + basic("ann", "b"), 401, "is wrong"),
    "Basic, nobody": (lambda gate: "Authorization: " + basic("eve", "a"), 401, "is wrong"),
    "Basic, no base64": (lambda gate: "Authorization: Basic ann:a", 401, "not base64"),
    "Basic, no colon": (lambda gate: pair(b"ann"), 401, "no colon"),
    "Basic in UTF-16": (lambda gate: pair("ann:a".encode("utf-16")), 401, "is wrong"),
    "Basic in no charset": (lambda gate: pair(b"ann:\xff\xfea"), 401, "is wrong"),
    "Basic with a NUL": (lambda gate: pair(b"ann\0:a"), 401, "is wrong"),
    "one-time, wrong password": (lambda gate: "Authorization: " + basic("otp-a", "x"), 401, "is wrong"),
    "one-time, nobody's": (lambda gate: "Authorization: " + basic("otp-b", "secret"), 401, "is wrong"),
    "one-time, its hash": (
        lambda gate: "Authorization: " + basic("otp-a", digest_of(KEY, "otp-a", "secret")), 401, "is wrong",
    ),
    # Digest
    "Digest, wrong password": (lambda gate: gate.answer(password="b"), 401, "is wrong"),
    "Digest, nobody": (lambda gate: gate.answer(username="eve"), 401, "is wrong"),
    "Digest, another URI": (lambda gate: gate.answer(uri="/api/who?a=2"), 401, "another URI"),
    "Digest, another realm": (lambda gate: gate.answer(realm="other"), 401, "another realm"),
    "Digest, another nonce": (lambda gate: gate.answer(nonce="AAAA"), 401, "too old"),
    "Digest, auth-int": (lambda gate: gate.answer(qop="auth-int"), 401, "qop=auth"),
    "Digest, another algorithm": (
        lambda gate: gate.answer().replace("SHA-256", "SHA-512-256"), 401, "algorithm is none of",
    ),
    "Digest by a one-time password": (lambda gate: gate.answer(username="otp-a", password="secret"), 401, "is wrong"),
    # tokens
    "a token of another issuer": (lambda gate: gate.bearer(iss="https://evil.test/realm"), 401, "another issuer"),
    "a token of a like issuer": (lambda gate: gate.bearer(iss="https://idp.test/realm/"), 401, "another issuer"),
    "a token for another audience": (lambda gate: gate.bearer(aud="other"), 401, "another audience"),
    "a token for no audience": (lambda gate: gate.bearer(aud=None), 401, "no aud"),
    "a token that has expired": (lambda gate: gate.bearer(exp=clear(gate) - 60), 401, "expired"),
    "a token that never expires": (lambda gate: gate.bearer(exp=None), 401, "no exp"),
    "a token that is not valid yet": (lambda gate: gate.bearer(nbf=clear(gate) + 61), 401, "not valid yet"),
    "a token of nobody": (lambda gate: gate.bearer(sub=None), 401, "no sub"),
    "a token without a signature": (
        lambda gate: "Authorization: Bearer " + forge({"alg": "none"}, gate.idp.claims()), 401, "algorithm is none of",
    ),
    "a token by the public key as a secret": (by_public_key, 401, "algorithm is none of"),
    "a token by an algorithm of another key": (
        lambda gate: gate.bearer("P-256", header={"kid": "RSA"}), 401, "not one of the authority's",
    ),
    "a token by a key of its own": (
        lambda gate: gate.bearer("P-384", header={"kid": "P-384", "jku": "https://evil.test/"}),
        401,
        "not one of the authority's",
    ),
    "no token": (lambda gate: "Authorization: Bearer", 401, "no signed JWT"),
    # sizes
    "a long header": (lambda gate: "Authorization: Basic " + "YTph" * 20_000, 431, "too l"),
    "many headers": (lambda gate: tuple(f"X-{number}: x" for number in range(1000)), 431, "too l"),
}  # fmt: skip


def headers_of(made: str | tuple[str, ...]) -> tuple[str, ...]:
    return (made,) if isinstance(made, str) else made


@pytest.mark.parametrize("name", GOOD_ONES)
@pytest_twisted.ensureDeferred
async def test_the_gate_lets_in_who_proves_who_they_are(gate: Gate, name: str) -> None:
    """Else what follows would say nothing."""
    status, _, body = parse(gate.wire().send(get(PATH, GOOD_ONES[name](gate))))
    assert status == 200, body


@pytest.mark.parametrize("name", REFUSED)
@pytest_twisted.ensureDeferred
async def test_what_proves_nothing_is_refused(gate: Gate, name: str) -> None:
    make, status, words = REFUSED[name]
    code, headers, body = parse(gate.wire().send(get(PATH, *headers_of(make(gate)))))
    assert (code, words in body.decode()) == (status, True), body
    if status == 401:
        assert headers["www-authenticate"], "the last of those that say how to do better"


@pytest_twisted.ensureDeferred
async def test_a_digest_answer_is_good_once_and_the_next_challenge_says_why(gate: Gate) -> None:
    said = gate.answer()
    assert parse(gate.wire().send(get(PATH, said)))[0] == 200
    for again in (said, said.replace("nc=00000001", "nc=00000002")):
        answer = gate.wire().send(get(PATH, again))
        assert parse(answer)[0] == 401
        assert (b"stale=true" in answer) is (again == said), "only the nonce is at fault"


@pytest_twisted.ensureDeferred
async def test_an_old_nonce_is_stale(gate: Gate) -> None:
    said = gate.answer()
    gate.clock.advance(timedelta(minutes=5))
    answer = gate.wire().send(get(PATH, said))
    assert parse(answer)[0] == 401 and b"stale=true" in answer


@pytest_twisted.ensureDeferred
async def test_who_guesses_is_told_when_to_come_back_whether_or_not_there_is_such_a_user(gate: Gate) -> None:
    for name in ("ann", "eve"):
        for _ in range(5):
            assert parse(gate.wire().send(get(PATH, "Authorization: " + basic(name, "wrong"))))[0] == 401
        code, headers, _ = parse(gate.wire().send(get(PATH, "Authorization: " + basic(name, "a"))))
        assert (code, headers["retry-after"]) == (429, "1")


@pytest_twisted.ensureDeferred
async def test_user_hash_is_not_offered_and_the_stronger_algorithm_comes_first(gate: Gate) -> None:
    answer = gate.wire().send(get(PATH)).decode()
    offered = re.findall(r"WWW-Authenticate: (.*)\r\n", answer)
    assert [value.split()[0] for value in offered] == ["Basic", "Digest", "Digest", "Bearer"]
    assert ["algorithm=SHA-256" in offered[1], "algorithm=MD5" in offered[2]] == [True, True]
    assert "userhash=true" not in answer
