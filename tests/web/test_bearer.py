"""A token counts when the authority signed it for this CA and now; nothing else does."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.model.requester import ANY_NAME, NameGrant, Proof
from opencertd.web.authority import Authority, parse_keys
from opencertd.web.bearer import BearerVerifier
from opencertd.web.claims import Claims

from .oidc import URL, Idp, forge, jwk, key

DOCUMENTS = [".well-known/openid-configuration", "keys"]


async def refused(idp: Idp, token: str, kind: RefusalKind = RefusalKind.UNAUTHENTICATED) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await idp.verifier.verify(token)
    assert caught.value.kind is kind
    return caught.value


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("RSA", "RS256"), ("RSA", "PS256"), ("P-256", "ES256"), ("P-384", "ES384"), ("Ed25519", "EdDSA")],
)
@pytest_twisted.ensureDeferred
async def test_a_good_token_is_its_subject(kind: str, algorithm: str) -> None:
    idp = Idp("RSA", "P-256", "P-384", "Ed25519")
    token = idp.token(kind, algorithm, preferred_username="ann", roles=["revoker", 7, "admin"], aud=["x", "ca"])
    requester = await idp.verifier.verify(token)
    assert requester.proof is Proof.BEARER_TOKEN
    assert (requester.id, requester.label) == (f"{URL}|s-1", "ann")
    assert (requester.grant, requester.roles) == (ANY_NAME, frozenset({"revoker", "admin"}))
    assert requester.certificate_der is None


@pytest.mark.parametrize("roles", [None, "", {"admin": 1}, 5])
@pytest.mark.parametrize("name", [None, "", "a\nb", 5])
@pytest_twisted.ensureDeferred
async def test_odd_roles_are_none_and_odd_names_the_subject(roles: Any, name: Any) -> None:
    idp = Idp("RSA")
    requester = await idp.verifier.verify(idp.token(roles=roles, preferred_username=name))
    assert (requester.roles, requester.label) == (frozenset(), "s-1")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"},
        {"aud": None},
        {"aud": []},
        {"aud": ["ca2"]},
        {"iss": "https://idp.test/realm/"},
        {"iss": "https://idp.test"},
        {"iss": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\x00"},
        {"sub": "a" * 256},
        {"exp": None},
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_or_missing_claims_are_refused(changes: dict[str, Any]) -> None:
    idp = Idp("RSA")
    await refused(idp, idp.token(**changes))


@pytest.mark.parametrize("value", ["soon", True, [], {}, -1, 1e300, float("nan"), float("inf")])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest_twisted.ensureDeferred
async def test_times_are_numbers(claim: str, value: Any) -> None:
    idp = Idp("RSA")
    signed = jwt.api_jws.encode(json.dumps(idp.claims(**{claim: value})).encode(), key("RSA"), "RS256", {"kid": "RSA"})
    await refused(idp, signed)


@pytest_twisted.ensureDeferred
async def test_a_token_is_good_for_its_time_and_a_minute() -> None:
    idp = Idp("RSA")
    now = int(idp.clock.now().timestamp())
    await idp.verifier.verify(idp.token(exp=now - 59, iat=None))
    await refused(idp, idp.token(exp=now - 60, iat=None))
    await idp.verifier.verify(idp.token(nbf=now + 60, iat=now + 60))
    await refused(idp, idp.token(nbf=now + 61))
    await refused(idp, idp.token(iat=now + 61))


@pytest_twisted.ensureDeferred
async def test_unsigned_tokens_and_shared_secrets_are_refused_without_asking() -> None:
    idp = Idp("RSA")
    public = key("RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for algorithm in ("none", "None", "NONE", "", None, 5, ["RS256"], {"a": 1}, "HS256", "HS384", "HS512", "RS512"):
        signature = hmac.digest(public, b"x", hashlib.sha256)
        await refused(idp, forge({"alg": algorithm, "kid": "RSA"}, idp.claims(), signature))
        await refused(idp, forge({"alg": algorithm}, idp.claims()))
    assert idp.asked == []


@pytest_twisted.ensureDeferred
async def test_the_public_key_is_no_secret() -> None:
    """The classic confusion: a token MACed with the PEM of the public key."""
    idp = Idp("RSA")
    public = key("RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    token = forge({"alg": "HS256", "kid": "RSA"}, idp.claims())
    signed = token.rpartition(".")[0]
    mac = hmac.digest(public, signed.encode(), hashlib.sha256)
    await refused(idp, forge({"alg": "HS256", "kid": "RSA"}, idp.claims(), mac))


@pytest_twisted.ensureDeferred
async def test_a_token_brings_no_key_of_its_own() -> None:
    idp = Idp("RSA")
    own = {"jwk": jwk("RSA#other", kid="x"), "jku": "https://evil.test/keys", "x5u": "https://evil.test/"}
    await refused(idp, idp.token("RSA#other", header=own))
    await refused(idp, idp.token("RSA#other", header=own | {"kid": "RSA"}))
    assert idp.asked == DOCUMENTS


@pytest_twisted.ensureDeferred
async def test_another_key_another_algorithm_and_changed_bytes_are_refused() -> None:
    idp = Idp("RSA", "P-256", "P-384")
    await refused(idp, idp.token("RSA#other", header={"kid": "RSA"}))
    await refused(idp, idp.token("P-256", header={"kid": "P-384"}))
    head, body, signature = idp.token().split(".")
    other = idp.token(sub="root").split(".")[1]
    for token in (f"{head}.{other}.{signature}", f"{head}.{body}.{signature[:-8]}AAAAAAAA", f"{head}.{body}."):
        await refused(idp, token)


@pytest_twisted.ensureDeferred
async def test_critical_extensions_are_refused() -> None:
    idp = Idp("RSA")
    for crit in ([], ["exp"], ["b64"]):
        await refused(idp, idp.token(header={"kid": "RSA", "crit": crit, "exp": 1}))


@pytest_twisted.ensureDeferred
async def test_without_a_key_id_every_key_that_fits_is_tried() -> None:
    idp = Idp("RSA", "P-256", "RSA#2")
    assert (await idp.verifier.verify(idp.token("RSA#2", header={}))).id.endswith("s-1")
    await refused(idp, idp.token("RSA#3", header={}))
    assert idp.asked == DOCUMENTS


@pytest.mark.parametrize(
    "member",
    [
        {"use": "enc"},
        {"alg": "RS512"},
        {"alg": "PS256"},
        {"kid": 5},
        {"kty": "oct", "k": "AAAA"},
        {"kty": []},
        {"n": "!"},
    ],
)
def test_keys_that_are_for_something_else_are_left(member: dict[str, Any]) -> None:
    keys = parse_keys({"keys": [jwk("RSA", **member), "nonsense", {}]})
    assert all("RS256" not in each.algorithms for each in keys)


def test_weak_private_and_unknown_keys_are_left() -> None:
    private = jwt.get_algorithm_by_name("RS256").to_jwk(key("RSA"), as_dict=True)  # type: ignore[attr-defined]
    assert parse_keys({"keys": [jwk("RSA-1024"), jwk("P-521"), private]}) == ()


@pytest_twisted.ensureDeferred
async def test_keys_are_kept_for_ten_minutes() -> None:
    idp = Idp("RSA")
    for _ in range(3):
        await idp.verifier.verify(idp.token())
        idp.clock.advance(timedelta(minutes=3))
    assert idp.asked == DOCUMENTS
    idp.clock.advance(timedelta(minutes=1))
    await idp.verifier.verify(idp.token())
    assert idp.asked == DOCUMENTS * 2


@pytest_twisted.ensureDeferred
async def test_an_unknown_key_id_is_asked_for_once_a_minute() -> None:
    idp = Idp("RSA")
    await idp.verifier.verify(idp.token())
    idp.keys["keys"].append(jwk("RSA#new"))
    for number in range(20):
        await refused(idp, idp.token("RSA#new", header={"kid": f"made-up-{number}"}))
    assert idp.asked == DOCUMENTS
    idp.clock.advance(timedelta(minutes=1))
    await idp.verifier.verify(idp.token("RSA#new"))
    await refused(idp, idp.token("RSA#new", header={"kid": "made-up"}))
    assert idp.asked == DOCUMENTS * 2


@pytest.mark.parametrize(
    "spoil",
    [
        {"code": 500},
        {"code": 302},
        {"metadata": b"{"},
        {"metadata": []},
        {"metadata": {"issuer": URL}},
        {"metadata": {"issuer": "https://evil.test", "jwks_uri": URL + "/keys"}},
        {"metadata": {"issuer": URL, "jwks_uri": "http://idp.test/realm/keys"}},
        {"metadata": {"issuer": URL, "jwks_uri": "file:///etc/passwd"}},
        {"keys": b"[" * 5000},
        {"keys": {"keys": 5}},
        {"keys": b" " * (1024 * 1024 + 1)},
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_authority_that_makes_no_sense_is_unavailable(spoil: dict[str, Any]) -> None:
    idp = Idp("RSA")
    for name, value in spoil.items():
        setattr(idp, name, value)
    assert (await refused(idp, idp.token(), RefusalKind.UNAVAILABLE)).retry_after
    asked = len(idp.asked)
    await refused(idp, idp.token(), RefusalKind.UNAVAILABLE)
    assert len(idp.asked) == asked, "it is not asked again at once"
    sound = Idp("RSA")
    idp.code, idp.metadata, idp.keys = sound.code, sound.metadata, sound.keys
    idp.clock.advance(timedelta(seconds=5))
    assert await idp.verifier.verify(idp.token())


@pytest_twisted.ensureDeferred
async def test_known_keys_serve_while_the_authority_is_away() -> None:
    idp = Idp("RSA")
    await idp.verifier.verify(idp.token())
    idp.code = 500
    idp.clock.advance(timedelta(minutes=5))
    await refused(idp, idp.token(header={"kid": "unknown"}), RefusalKind.UNAVAILABLE)
    assert await idp.verifier.verify(idp.token())


@pytest_twisted.ensureDeferred
async def test_an_authority_that_does_not_answer_is_given_up_and_asked_once_for_all() -> None:
    idp = Idp("RSA")
    idp.hang = Deferred()
    waiting = [Deferred.fromCoroutine(idp.verifier.verify(idp.token())) for _ in range(5)]
    idp.http.flush()
    assert idp.asked == DOCUMENTS[:1]
    idp.reactor.advance(10)
    for each in waiting:
        with pytest.raises(Refusal) as caught:
            await each
        assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert idp.asked == DOCUMENTS[:1]


@pytest_twisted.ensureDeferred
async def test_a_client_that_hangs_up_ends_nobody_elses_fetch() -> None:
    idp = Idp("RSA")
    idp.hang = Deferred()
    first = Deferred.fromCoroutine(idp.verifier.verify(idp.token()))
    second = Deferred.fromCoroutine(idp.verifier.verify(idp.token()))
    idp.http.flush()
    first.cancel()
    with pytest.raises(CancelledError):
        await first
    idp.hang, hung = None, idp.hang
    hung.callback(json.dumps(idp.metadata).encode())
    idp.http.flush()
    assert (await second).label == "s-1"
    assert idp.asked == DOCUMENTS


@pytest.mark.parametrize(
    "url",
    ["http://idp.test", "http://127.0.0.1:9", "idp.test", "https://", "https://a@idp.test", "https://idp.test?x=1",
     "https://idp.test:x", "file:///x", ""],
)  # fmt: skip
def test_the_authority_is_asked_by_https_only(url: str) -> None:
    idp = Idp()
    with pytest.raises(StartError):
        Authority(url, client=idp.http, reactor=idp.reactor, clock=idp.clock)


def test_loopback_may_be_plain_when_asked_for() -> None:
    idp = Idp()
    for url in ("http://127.0.0.1:9", "http://[::1]:9", "http://localhost"):
        Authority(url, client=idp.http, reactor=idp.reactor, clock=idp.clock, loopback_http=True)
    with pytest.raises(StartError):
        Authority("http://192.0.2.1", client=idp.http, reactor=idp.reactor, clock=idp.clock, loopback_http=True)
    with pytest.raises(StartError):
        BearerVerifier(idp.authority, "", clock=idp.clock)


@given(st.one_of(
    st.text(),
    st.builds(".".join, st.lists(st.text("ABCabc012-_=", max_size=12), max_size=5)),
    st.builds(forge, st.fixed_dictionaries({"alg": st.sampled_from(["RS256", "ES256", "EdDSA"])}, optional={
        "kid": st.one_of(st.none(), st.text(), st.integers()), "typ": st.integers(), "b64": st.booleans(),
    }), st.recursive(st.one_of(st.none(), st.integers(), st.text()), lambda each: st.lists(each) | st.dictionaries(
        st.sampled_from(["exp", "iss", "aud", "sub"]), each)), st.binary()),
))  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_nonsense_is_refused(token: str) -> None:
    await refused(Idp("RSA", "P-256"), token)


@pytest.mark.parametrize(
    ("keys_at", "hosts", "asked"),
    [
        ("https://idp.test/elsewhere", (), True),
        ("https://idp.test:443/realm/keys", (), True),
        ("https://keys.test/realm/keys", (), False),
        ("https://keys.test/realm/keys", ("keys.test",), True),
        ("https://keys.test:8443/realm/keys", ("keys.test",), False),
        ("https://keys.test:8443/realm/keys", ("keys.test:8443",), True),
        ("https://[2001:db8::1]/realm/keys", ("[2001:db8::1]",), True),
        ("https://idp.test:22/realm/keys", (), False),
        ("https://169.254.169.254/latest", (), False),
        ("https://idp.test.evil.test/realm/keys", (), False),
        ("http://idp.test/realm/keys", (), False),
        ("http://keys.test/realm/keys", ("keys.test",), False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_keys_are_asked_of_the_authority_and_of_hosts_that_are_named(
    keys_at: str, hosts: tuple[str, ...], asked: bool
) -> None:
    """Whatever its metadata say: this CA is nobody's way into networks."""
    idp = Idp("RSA")
    idp.metadata = {"issuer": URL, "jwks_uri": keys_at}
    fetched: list[str] = []

    class Client:
        def get(self, url: str, **options: Any) -> Any:
            fetched.append(url)
            return idp.http.get(URL + "/keys" if url == keys_at else url, **options)

    authority = Authority(URL, client=Client(), reactor=idp.reactor, clock=idp.clock, key_hosts=hosts)
    verifier = BearerVerifier(authority, "ca", clock=idp.clock)
    if asked:
        assert (await verifier.verify(idp.token())).proof is Proof.BEARER_TOKEN
    else:
        with pytest.raises(Refusal) as caught:
            await verifier.verify(idp.token())
        assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert (keys_at in fetched) is asked


@pytest.mark.parametrize(
    ("claim", "said", "roles"),
    [
        ("roles", {"roles": ["a", "b"]}, {"a", "b"}),
        ("realm_access.roles", {"realm_access": {"roles": ["a"]}, "roles": ["b"]}, {"a"}),
        ("https://ca.test/roles", {"https://ca.test/roles": ["a"]}, {"a"}),
        ("scope", {"scope": "a b"}, {"a", "b"}),
        ("realm_access.roles", {"realm_access": ["roles"]}, set()),
        ("roles", {"roles": ["a", 5, "", None, "x" * 256]}, {"a"}),
        ("roles", {"roles": [str(number) for number in range(101)]}, set()),
        ("roles", {"roles": ["registration-authority", "a"]}, {"a"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_roles_are_where_settings_say(claim: str, said: dict[str, Any], roles: set[str]) -> None:
    idp = Idp("RSA")
    verifier = BearerVerifier(idp.authority, "ca", clock=idp.clock, claims=Claims(roles=claim))
    assert (await verifier.verify(idp.token(**said))).roles == roles


@pytest_twisted.ensureDeferred
async def test_names_are_where_settings_say_and_without_them_there_are_none() -> None:
    idp = Idp("RSA")
    verifier = BearerVerifier(idp.authority, "ca", clock=idp.clock, claims=Claims(names="dns"))
    named = (await verifier.verify(idp.token(dns=["*.a.test", "b.test", 7]))).grant
    assert named.patterns == ("*.a.test", "b.test")
    for said in ({}, {"dns": None}, {"dns": []}, {"dns": {"*": 1}}):
        assert (await verifier.verify(idp.token(**said))).grant == NameGrant()


@pytest_twisted.ensureDeferred
async def test_clocks_may_differ_by_what_settings_say() -> None:
    idp = Idp("RSA")
    verifier = BearerVerifier(idp.authority, "ca", clock=idp.clock, leeway=timedelta(seconds=5))
    now = int(idp.clock.now().timestamp())
    await verifier.verify(idp.token(exp=now - 4))
    await verifier.verify(idp.token(nbf=now + 5))
    for late in ({"exp": now - 5}, {"nbf": now + 6}):
        with pytest.raises(Refusal):
            await verifier.verify(idp.token(**late))
