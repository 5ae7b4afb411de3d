"""What the EST client asks, accepts and says, over HTTP in memory."""

from __future__ import annotations

import base64
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock as ReactorClock

from opencertd.client.authentication import Credentials
from opencertd.client.errors import ClientError, StillPending
from opencertd.client.est import EstClient, Patience, issuing_chain, parse_est_url
from opencertd.client.generated import read_generated
from opencertd.client.http import HttpsClient
from opencertd.client.redirects import Redirect, never, origin, redirected
from opencertd.clock import FixedClock
from tests.client import pki
from tests.client.fake_est import BASIC, PASSWORD, USER, WISHES, FakeEst, ec_key

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
HOST = "ca.example:5001"


class Talk:
    """A client and the server it speaks to, on a reactor's clock that moves when told."""

    def __init__(self, label: str = "", *, user: bool = True, patience: float = 0.0, **fake: Any) -> None:
        self.fake = FakeEst(**fake)
        self.reactor = ReactorClock()
        self.pauses: list[int] = []
        self.agent = RequestTraversalAgent(self.fake.app.resource())
        http = HttpsClient(self.agent, Credentials(USER, PASSWORD) if user else None)
        self.client = EstClient(
            http,
            parse_est_url(f"https://{HOST}/.well-known/est/{label}"),
            reactor=self.reactor,
            clock=FixedClock(NOW),
            patience=Patience(patience, self.pauses.append),
        )

    def now(self, deed: Any) -> Any:
        """The result of a deed that has to be over."""
        outcome: list[Any] = []
        Deferred.fromCoroutine(deed).addBoth(outcome.append)
        self.agent.flush()
        assert outcome, "still waiting"
        if hasattr(outcome[0], "value") and isinstance(outcome[0].value, BaseException):
            raise outcome[0].value
        return outcome[0]

    def enrol(self, key: Any = None) -> Any:
        return self.now(self.client.simpleenroll(pki.request(key or ec_key(), "www.example.com", "10.0.0.1")))

    def cacerts(self) -> tuple[x509.Certificate, ...]:
        return self.now(self.client.cacerts())


def refusal(deed: Any) -> str:
    with pytest.raises(ClientError) as caught:
        deed()
    words = str(caught.value)
    assert "\n" not in words and words.isprintable()
    return words


def test_cacerts_are_read_without_showing_the_password() -> None:
    talk = Talk()
    assert set(talk.cacerts()) == {talk.fake.root.certificate, talk.fake.issuing.certificate}
    assert talk.fake.seen == [("GET", "/.well-known/est/cacerts", None)]


def test_csrattrs_are_der_or_nothing() -> None:
    talk = Talk("wishes")
    assert talk.now(talk.client.csrattrs()) == bytes.fromhex(WISHES)
    for label in ("nothing", "empty"):
        talk = Talk(label)
        assert talk.now(talk.client.csrattrs()) is None
    for label, words in [("html", "no request attributes"), ("forbidden", "HTTP 403")]:
        talk = Talk(label)
        assert words in refusal(lambda talk=talk: talk.now(talk.client.csrattrs()))


def test_a_key_from_the_server_fits_its_certificate() -> None:
    talk = Talk("keygen")
    made = talk.now(talk.client.serverkeygen(pki.request(ec_key(), "www.example.com")))
    assert made.certificate.public_key() == made.key.public_key()
    assert "PrivateKey" not in repr(made)


@pytest.mark.parametrize(
    ("label", "kind", "words"),
    [
        ("otherpair", "application/pkcs7-mime", "do not belong together"),
        ("keygen", "application/pkcs7-mime; smime-type=server-generated-key", "encrypted"),
        ("keygen", "text/plain", "no key and certificate"),
        ("html", "", "no key and certificate"),
        ("empty", "", "no key and certificate"),
        ("forbidden", "", "HTTP 403"),
    ],
)
def test_what_is_no_key_is_refused(label: str, kind: str, words: str) -> None:
    talk = Talk(label, **({"kind": kind} if kind else {}))
    said = refusal(lambda: talk.now(talk.client.serverkeygen(pki.request(ec_key(), "www.example.com"))))
    assert words in said


@pytest.mark.parametrize("boundary", ["", "; boundary=", '; boundary="x', "; boundary=x"])
def test_no_answer_makes_the_reader_fail(boundary: str) -> None:
    part = b"--x\r\nContent-Type: application/pkcs8\r\n\r\n"
    for body in (b"", b"--x--", part, part * 2, part + b"\xff\xfe\r\n--x--\r\n", part + b"MAA=\r\n" + part + b"--x--"):
        with pytest.raises(ClientError):
            read_generated("multipart/mixed" + boundary, body)


def test_the_password_is_shown_only_when_asked_for() -> None:
    talk, key = Talk(), ec_key()
    enrolled = talk.enrol(key)
    assert enrolled.certificate.public_key() == key.public_key()
    assert enrolled.others == ()
    assert [proof for _, _, proof in talk.fake.seen] == [None, BASIC]


def test_requests_are_base64_of_der() -> None:
    talk = Talk()
    talk.enrol()
    assert x509.load_der_x509_csr(base64.b64decode(talk.fake.bodies[-1])).is_signature_valid


@pytest.mark.parametrize("operation", ["cacerts", "enrol"])
def test_digest_alone_is_answered(operation: str) -> None:
    assert getattr(Talk("digest"), operation)()


def test_a_label_is_part_of_every_url() -> None:
    talk = Talk("devices")
    talk.cacerts()
    talk.enrol()
    assert {path for _, path, _ in talk.fake.seen} == {
        "/.well-known/est/devices/cacerts",
        "/.well-known/est/devices/simpleenroll",
    }


def test_a_202_is_asked_again_after_the_time_it_says() -> None:
    talk = Talk(pending=2, patience=100, retry_after="7")
    outcome: list[Any] = []
    Deferred.fromCoroutine(talk.client.simpleenroll(pki.request(ec_key(), "a.example"))).addBoth(outcome.append)
    talk.agent.flush()
    assert (outcome, talk.pauses) == ([], [7])
    talk.reactor.advance(6.9)
    assert len(talk.fake.seen) == 2
    for _ in range(2):
        talk.reactor.advance(7)
        talk.agent.flush()
    assert talk.pauses == [7, 7]
    assert outcome[0].certificate.subject == pki.name("a.example")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90", 90),
        ("0", 1),
        ("Sun, 01 Mar 2026 12:02:00 GMT", 120),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 1),
        ("soon", 30),
        ("-5", 30),
        ("9" * 40, 30),
        ("Mon, 99999999999999999999 Jan 2026 00:00:00 GMT", 30),
        ("Mon, 01 Jan 2026 00:00:00 +99999999999999", 30),
        ("b\xe4ld", 30),
    ],
)
def test_patience_ends_with_what_the_server_asked(value: str, seconds: int) -> None:
    talk = Talk(pending=1, patience=0, retry_after=value)
    with pytest.raises(StillPending) as caught:
        talk.enrol()
    assert caught.value.retry_after == seconds


def test_a_wrong_or_missing_password_is_said_with_the_servers_words() -> None:
    assert refusal(Talk(user=False).enrol) == (
        "the server wants a password or another client certificate: User name or password is wrong"
    )
    talk = Talk()
    talk.client._http.credentials = Credentials(USER, "wrong")
    assert refusal(talk.enrol) == ("the server does not accept this user and password: User name or password is wrong")
    assert len(talk.fake.seen) == 2  # no third guess


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("html", "the server's answer (text/html) holds no certificates that can be read"),
        ("empty", "holds no certificates that can be read"),
        ("forbidden", "the server refused (HTTP 403): Not allowed: ?[31mevil.example and more"),
        ("busy", "the server is busy, try again in 17 seconds"),
        ("negotiate", "asks for a proof other than a password (neither Basic nor Digest)"),
        ("elsewhere", f"{HOST} redirects to another server (https://evil.example/.well-known/est/cacerts)"),
        ("plain", "which is no https:// URL"),
        ("loop", f"{HOST} redirects more than 3 times"),
        ("a/b", "the server refused (HTTP 404)"),
    ],
)
def test_what_goes_wrong_is_one_sentence(label: str, words: str) -> None:
    talk = Talk(label.partition("/")[0])
    if "/" in label:
        talk.client._base_url += "/nowhere/at/all"
        words = "the server has no EST at this URL (HTTP 404)"
    assert words in refusal(talk.cacerts)


@pytest.mark.parametrize("label", ["redirect", "moved"])
def test_a_redirect_within_the_origin_is_followed_with_the_same_request(label: str) -> None:
    talk = Talk(label)
    assert len(talk.cacerts()) == 2
    assert talk.enrol().certificate
    posts = [body for (method, *_), body in zip(talk.fake.seen, talk.fake.bodies, strict=True) if method == "POST"]
    assert len(posts) >= 2 and len(set(posts)) == 1


def test_see_other_is_followed_for_get_only() -> None:
    talk = Talk("seeother")
    assert len(talk.cacerts()) == 2
    assert "answers this request by HTTP 303" in refusal(talk.enrol)


def test_another_server_is_gone_to_only_by_a_persons_word() -> None:
    """Whatever it is that is asked; and who says no is told where it would have gone."""
    here, there = "https://a.example/x", "https://b.example/y"
    for method, status in itertools.product(("GET", "POST", "DELETE"), (301, 302, 307, 308)):
        asked: list[Redirect] = []
        assert redirected(method, here, status, there, lambda it, asked=asked: not asked.append(it)) == there
        assert asked == [Redirect(method, here, there)]
        with pytest.raises(ClientError) as caught:
            redirected(method, here, status, there, never)
        assert str(caught.value) == f"a.example redirects to another server ({there}), which is not followed"


@pytest.mark.parametrize(
    "location",
    ["http://a.example/x", "http://b.example/", "ftp://a.example/", "https://ä.example/", "https://a:b/"],
)
def test_nobody_is_asked_about_what_is_no_https(location: str) -> None:
    with pytest.raises(ClientError, match="no https:// URL"):
        redirected("GET", "https://a.example/x", 302, location, lambda _: True)


@pytest.mark.parametrize(
    "location", ["https://[b", "//[", "https://b]c/", "https://ex\uff0fample/", "/a b", "/\xe4", "/\x7f"]
)
def test_what_is_no_url_is_not_followed(location: str) -> None:
    with pytest.raises(ClientError, match="which is no "):
        redirected("GET", "https://a.example/x", 302, location, lambda _: True)


@pytest.mark.parametrize("location", ["/y", "y", "//a.example/y", "https://A.example:443/y", "https://a.example/y"])
def test_the_same_origin_may_be_spelled_in_many_ways(location: str) -> None:
    target = redirected("POST", "https://a.example/x", 307, location, never)
    assert origin(target) == ("https", "a.example", 443)


def test_a_certificate_for_another_key_is_refused() -> None:
    assert refusal(Talk("otherkey").enrol) == "the server sent a certificate for another key than the one that asked"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("https://ca.example", "https://ca.example/.well-known/est"),
        ("https://ca.example:5001/", "https://ca.example:5001/.well-known/est"),
        ("ca.example:5001", "https://ca.example:5001/.well-known/est"),
        ("https://ca.example/.well-known/est/", "https://ca.example/.well-known/est"),
        ("https://ca.example/.well-known/est/rsa", "https://ca.example/.well-known/est/rsa"),
        ("https://ca.example/.well-known/est/a%20b", "https://ca.example/.well-known/est/a%20b"),
        ("https://[::1]:8443", "https://[::1]:8443/.well-known/est"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example/.well-known/est"),
    ],
)
def test_urls_people_type(typed: str, meant: str) -> None:
    assert parse_est_url(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "http://ca.example",
        "https://",
        "https://u:p@ca.example",
        "https://ca.example/other",
        "https://ca.example/.well-known/est/a/b",
        "https://ca.example:port",
        "https://ca.example:99999",
        "https://ca.example/?x",
        "https://[::1",
        "https://" + "a" * 70 + ".example",
    ],
)
def test_urls_that_are_refused(typed: str) -> None:
    refusal(lambda: parse_est_url(typed))


def test_the_chain_is_what_stands_between_leaf_and_root() -> None:
    root = pki.authority("Root")
    middle = pki.authority("Middle", root)
    low = pki.authority("Low", middle)
    impostor = pki.authority("Low", pki.authority("Middle"))
    leaf = pki.leaf(low, "www.example.com")
    found = issuing_chain(leaf.certificate, [p.certificate for p in (root, impostor, leaf, middle, low)])
    assert found == (low.certificate, middle.certificate)
    assert issuing_chain(leaf.certificate, []) == ()
