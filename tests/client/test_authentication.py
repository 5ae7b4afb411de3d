"""Challenges are read as RFC 9110 §11.6.1 writes them, and answered as RFC 7617 and RFC 7616 say."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.client.authentication import Credentials, authorization, parse_challenges
from opencertd.client.errors import ClientError


def test_several_challenges_in_one_header_and_in_many() -> None:
    found = parse_challenges(
        ['Basic realm="a, b=\\"c\\"", Bearer', 'Digest realm=x, qop="auth,auth-int", algorithm=MD5 , nonce="n=="']
    )
    assert [one.scheme for one in found] == ["basic", "bearer", "digest"]
    assert found[0].parameters == {"realm": 'a, b="c"'}
    assert found[2].parameters == {"realm": "x", "qop": "auth,auth-int", "algorithm": "MD5", "nonce": "n=="}


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_header_is_read_without_failing(values: list[str]) -> None:
    parse_challenges(values)


def test_basic_carries_utf8_and_goes_before_digest() -> None:
    challenges = parse_challenges(['Digest realm="r", nonce="n", qop="auth"', 'Basic realm="r"'])
    answer = authorization(challenges, Credentials("mufasa", "zirkel öffnen"), "GET", "/", bytes)
    assert answer is not None
    assert base64.b64decode(answer.removeprefix("Basic ")).decode() == "mufasa:zirkel öffnen"


def test_digest_gives_the_answers_of_rfc_7616_section_3_9_1() -> None:
    nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"

    class Fixed(bytes):
        def hex(self, *_: object) -> str:  # type: ignore[override]
            return cnonce

    def ask(algorithm: str) -> str:
        header = f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, nonce="{nonce}"'
        answer = authorization(
            parse_challenges([header]),
            Credentials("Mufasa", "Circle of Life"),
            "GET",
            "/dir/index.html",
            lambda _: Fixed(),
        )
        assert answer is not None
        return answer

    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in ask("SHA-256")
    assert 'response="8ca523f5e9506fed4657c9700eebdbec"' in ask("MD5")


def test_sha_256_is_preferred_to_md5_and_unknown_ways_are_not_answered() -> None:
    credentials = Credentials("a", "b")
    both = parse_challenges([f'Digest realm="r", nonce="n", qop="auth", algorithm={a}' for a in ("MD5", "SHA-256")])
    assert "algorithm=SHA-256" in (authorization(both, credentials, "GET", "/", bytes) or "")
    for other in ("Negotiate", 'Digest realm="r", nonce="n", qop="auth-int"', 'Digest realm="r", qop="auth"', ""):
        assert authorization(parse_challenges([other]), credentials, "GET", "/", bytes) is None


def test_a_name_with_a_colon_is_refused_and_the_password_is_not_shown() -> None:
    with pytest.raises(ClientError):
        Credentials("a:b", "c")
    assert "geheim" not in repr(Credentials("a", "geheim"))
