"""The verifier takes exactly the JWS that RFC 8555 §6.2 describes, and answers anything else with a Refusal."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.acme.jwk import parse_jwk
from opencertd.acme.jws import ALGORITHMS, check_signature, parse_jws
from opencertd.errors import Refusal, RefusalKind
from tests.acme.signing import (
    algorithm_of,
    b64,
    ec_key,
    fits,
    jwk_of,
    keys_of_all_kinds,
    raw_signature,
    rsa_key,
    sign,
    spki_of,
    thumbprint_of,
)

URL = "https://ca.example/new-account"
KEY = ec_key()


def envelope(key: Any = KEY, payload: bytes = b"{}", **header: Any) -> dict[str, Any]:
    return sign(key, {"jwk": jwk_of(key), "nonce": "bm9uY2U", "url": URL, **header}, payload)


def verify(document: dict[str, Any]) -> bytes:
    jws = parse_jws(json.dumps(document).encode())
    check_signature(jws, parse_jwk(jws.jwk))
    return jws.payload


def refused(document: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        verify(document)
    return caught.value


@pytest.mark.parametrize("key", keys_of_all_kinds(), ids=algorithm_of)
def test_every_algorithm_verifies_and_notices_another_payload(key: Any) -> None:
    document = envelope(key, b'{"a": 1}')
    assert verify(document) == b'{"a": 1}'
    document["payload"] = b64(b'{"a": 2}')
    assert refused(document).kind is RefusalKind.MALFORMED


@pytest.mark.parametrize("key", keys_of_all_kinds(), ids=algorithm_of)
def test_keys_have_the_thumbprint_and_form_of_their_rfcs(key: Any) -> None:
    found = parse_jwk({"alg": "whatever", "kid": "mine", **jwk_of(key)})  # an AKP key's `alg` is its own
    assert found.jwk == jwk_of(key)
    assert found.thumbprint == thumbprint_of(key)
    assert found.spki_der == spki_of(key)


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    jwk = {
        "kty": "RSA",
        "n": (
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi"
            "FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb"
            "9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls"
            "1jF44-csFCur-kEgU8awapJzKnqDKgw"
        ),
        "e": "AQAB",
    }
    assert parse_jwk(jwk).thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_the_thumbprint_of_ed25519_is_that_of_rfc_8037() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert parse_jwk(jwk).thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
@pytest.mark.parametrize("half", ["r", "s"])
def test_an_ecdsa_signature_may_lack_a_leading_zero(curve: ec.EllipticCurve, half: str) -> None:
    key = ec_key(curve)
    for attempt in range(20000):
        document = envelope(key, b"%d" % attempt)
        signature = raw_signature(key, f"{document['protected']}.{document['payload']}".encode())
        middle = len(signature) // 2
        r, s = signature[:middle], signature[middle:]
        if (r if half == "r" else s)[0] == 0:
            break
    stripped = r[1:] + s if half == "r" else r + s[1:]
    assert verify({**document, "signature": b64(stripped)}) == b"%d" % attempt


@pytest.mark.parametrize("length", [0, 1, 32, 59, 65, 128])
def test_an_ecdsa_signature_of_another_length_is_refused(length: int) -> None:
    assert refused({**envelope(), "signature": b64(bytes(length))}).kind is RefusalKind.MALFORMED


@pytest.mark.parametrize("algorithm", ["none", "HS256", "PS384", "PS512", "ES256K", "", 5, None, ["ES256"]])
def test_other_algorithms_are_refused_with_the_list_of_those_taken(algorithm: Any) -> None:
    refusal = refused(envelope(alg=algorithm))
    assert refusal.kind is RefusalKind.BAD_SIGNATURE_ALGORITHM
    assert refusal.allowed == ALGORITHMS == ALL


ALL = (
    *("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519", "Ed448", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"),
)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("key", keys_of_all_kinds(), ids=algorithm_of)
def test_an_algorithm_must_fit_the_key(key: Any, algorithm: str) -> None:
    document = envelope(key, b'{"a": 1}', alg=algorithm)
    if fits(key, algorithm):
        assert verify(document) == b'{"a": 1}'
        assert refused({**document, "payload": b64(b"{}")}).kind is RefusalKind.MALFORMED
    else:
        assert refused(document).kind is RefusalKind.MALFORMED


def test_a_pss_signature_has_a_salt_as_long_as_its_hash() -> None:
    """RFC 7518 §3.5: another length is another algorithm."""
    key = rsa_key()
    document = envelope(key, alg="PS256")
    data = f"{document['protected']}.{document['payload']}".encode()
    for length in (0, 20, 64):
        signature = key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), length), hashes.SHA256())
        assert refused({**document, "signature": b64(signature)}).kind is RefusalKind.MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"signatures": []},
        {"header": {"nonce": "n"}},
        {"protected": None},
        {"payload": None},
        {"payload": {"a": 1}},
        {"signature": 7},
        {"protected": ""},
        {"protected": b64(b"[]")},
        {"protected": b64(b"{")},
        {"protected": b64(b'{"alg":"ES256","alg":"ES256"}')},
        {"payload": "e30="},
        {"payload": "e3 0"},
        {"payload": "e3+/"},
        {"payload": "e31"},
        {"payload": "é"},
    ],
)
def test_another_envelope_is_refused(change: dict[str, Any]) -> None:
    document = {name: value for name, value in {**envelope(), **change}.items() if value is not None}
    assert refused(document).kind in {RefusalKind.MALFORMED, RefusalKind.BAD_SIGNATURE_ALGORITHM}


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "https://ca.example/account/1"},
        {"jwk": None},
        {"jwk": "x"},
        {"jwk": None, "kid": 5},
        {"crit": ["b64"], "b64": False},
        {"url": None},
        {"url": 5},
        {"nonce": 5},
    ],
)
def test_another_header_is_refused(header: dict[str, Any]) -> None:
    assert refused(envelope(**header)).kind is RefusalKind.MALFORMED


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"null", b"{}", b"[" * 60000, b'{"a":NaN}', b'{"a":' + b"9" * 6000 + b"}"]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_jws(body)
    assert caught.value.kind is RefusalKind.MALFORMED


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(Refusal):
        parse_jws(b'{"protected": "\\ud800"}')


def test_weak_and_strange_keys_are_refused() -> None:
    good = jwk_of(KEY)
    for bad in (
        jwk_of(rsa_key(1024)),
        {**jwk_of(rsa_key()), "e": "Aw"},
        {**jwk_of(rsa_key()), "n": b64(b"\xff" * 1100)},
        {**jwk_of(rsa_key()), "n": ""},
        {**good, "x": good["y"]},
        {**good, "x": b64(bytes(31))},
        {**good, "crv": "secp256k1"},
        {"kty": "OKP", "crv": "X25519", "x": b64(bytes(32))},
        {"kty": "OKP", "crv": "Ed448", "x": b64(bytes(32))},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": b64(bytes(1952))},
        {"kty": "AKP", "alg": "ML-KEM-768", "pub": b64(bytes(1184))},
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
        {"kty": "oct"},
        {},
    ):
        with pytest.raises(Refusal) as caught:
            parse_jwk(bad)
        assert caught.value.kind is RefusalKind.BAD_PUBLIC_KEY, bad


def test_what_is_no_public_jwk_is_malformed() -> None:
    good = jwk_of(KEY)
    for bad in (
        None,
        "x",
        [],
        {**good, "d": "AA"},
        {**good, "priv": "AA"},
        {"kty": "oct", "k": "AA"},
        {**good, "x": 5},
        {"kty": "EC"},
    ):
        with pytest.raises(Refusal) as caught:
            parse_jwk(bad)
        assert caught.value.kind is RefusalKind.MALFORMED, bad


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
GOOD = {algorithm_of(key): envelope(key) for key in keys_of_all_kinds()}


@settings(max_examples=300)
@given(st.sampled_from(sorted(GOOD)), st.sampled_from(["protected", "payload", "signature", "header", "x"]), JSON)
def test_any_member_replaced_gives_a_refusal_or_the_same_payload(name: str, member: str, value: Any) -> None:
    with suppress(Refusal):
        assert verify({**GOOD[name], member: value}) == b"{}"


@settings(max_examples=300)
@given(
    st.sampled_from(["alg", "jwk", "kid", "url", "nonce", "crit"]),
    JSON | st.dictionaries(st.sampled_from(["kty", "n", "e", "crv", "x", "y"]), st.text("AQRSEP-256_", max_size=9)),
)
def test_any_header_replaced_gives_a_refusal_or_the_same_payload(member: str, value: Any) -> None:
    with suppress(Refusal):
        assert verify(envelope(**{member: value})) == b"{}"


@settings(max_examples=500)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_any_byte_changed_gives_a_refusal_or_the_same_payload(name: str, data: st.DataObject) -> None:
    body = bytearray(json.dumps(GOOD[name]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Refusal):
        jws = parse_jws(bytes(body))
        check_signature(jws, parse_jwk(jws.jwk))
        assert jws.payload == b"{}"


@given(st.binary(max_size=200))
def test_any_bytes_give_a_refusal(body: bytes) -> None:
    with pytest.raises(Refusal):
        parse_jws(body)
