"""Signers keep the same promises whether the key is in memory or in a token; openssl is the judge."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1.dn import parse_dn
from opencertd.errors import StartError
from opencertd.first_start import at_once
from opencertd.keys.kinds import RSA_PSS, PrivateKey, scheme_of
from opencertd.keys.pkcs11 import Token
from opencertd.keys.signer import Signer, SoftwareSigner
from opencertd.keys.token_keys import RsaTokenKey, TokenKey, bring_key, make_key
from opencertd.keys.token_signer import TokenSigner

KINDS: dict[str, Callable[[], PrivateKey]] = {
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "EC P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EC P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EC P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
}


def signed(signer: Signer, data: bytes) -> bytes:
    results: list[bytes] = []
    signer.sign(data).addCallback(results.append)
    return results[0]


@pytest.fixture(params=["in memory", "made in a token", "brought into a token"])
def make(request: pytest.FixtureRequest) -> Callable[[str], tuple[PrivateKey, Signer]]:
    """Makes a key of a kind, and its signer."""
    if request.param == "in memory":

        def in_memory(kind: str) -> tuple[PrivateKey, Signer]:
            key = KINDS[kind]()
            return key, SoftwareSigner(key, at_once)

        return in_memory
    token: Token = request.getfixturevalue("token")

    def in_token(kind: str) -> tuple[PrivateKey, Signer]:
        made = request.param == "made in a token"
        key = make_key(token, "a key", kind) if made else bring_key(token, "a key", KINDS[kind]())
        return key, TokenSigner(token, str(key.uri), key.public_key(), at_once)

    return in_token


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_verifies(make: Callable[[str], tuple[PrivateKey, Signer]], kind: str, tmp_path: Path) -> None:
    _, signer = make(kind)
    public, data, signature = (tmp_path / name for name in ("public.pem", "data", "signature"))
    public.write_bytes(signer.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for content in (b"", b"x" * 100_000, b"\0\xff"):
        data.write_bytes(content)
        signature.write_bytes(signed(signer, content))
        assert scheme_of(signer.public_key).verifies(signer.public_key, signature.read_bytes(), content)
        digest = f"-{scheme_of(signer.public_key).digest.name}"
        command = ["openssl", "dgst", digest, "-verify", public, "-signature", signature, data]
        subprocess.run(command, check=True, capture_output=True, timeout=30)


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_and_requests(make: Callable[[str], tuple[PrivateKey, Signer]], kind: str, tmp_path: Path) -> None:
    """`cryptography`'s builders sign with the key, and openssl takes what they make."""
    key, signer = make(kind)
    builder = x509.CertificateSigningRequestBuilder().subject_name(parse_dn("CN=a"))
    csr = tmp_path / "a.csr"
    csr.write_bytes(builder.sign(key, scheme_of(key.public_key()).digest).public_bytes(Encoding.PEM))
    said = subprocess.run(
        ["openssl", "req", "-verify", "-noout", "-in", csr], check=True, capture_output=True, timeout=30
    )
    assert b"verify OK" in said.stderr + said.stdout
    assert key.public_key() == signer.public_key


def test_pss(token: Token) -> None:
    key = make_key(token, "pss", "RSA 2048")
    signature = signed(TokenSigner(token, str(key.uri), key.public_key(), at_once, RSA_PSS), b"data")
    assert RSA_PSS.verifies(key.public_key(), signature, b"data")


@pytest.mark.parametrize("kind", ["Ed25519", "ML-DSA-65", "RSA", "EC P-192", ""])
def test_kinds_that_tokens_do_not_hold_are_said(token: Token, kind: str) -> None:
    with pytest.raises(StartError, match="can be made in a token"):
        make_key(token, "x", kind)


def test_a_key_in_a_token_cannot_be_read(token: Token) -> None:
    import pkcs11

    keys: list[TokenKey] = [make_key(token, "a", "RSA 2048"), bring_key(token, "b", KINDS["EC P-256"]())]
    for key in keys:
        with pytest.raises(TypeError):
            key.private_numbers()

        def attributes(session: pkcs11.Session, key: TokenKey = key) -> list[object]:
            (held,) = session.get_objects(
                {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.Attribute.ID: key.uri.id}
            )
            with pytest.raises(pkcs11.exceptions.AttributeSensitive):
                _ = held[pkcs11.Attribute.PRIVATE_EXPONENT if isinstance(key, RsaTokenKey) else pkcs11.Attribute.VALUE]
            return [held[pkcs11.Attribute.EXTRACTABLE], held[pkcs11.Attribute.SENSITIVE]]

        assert token.run(attributes) == [False, True]


def test_bringing_twice_is_bringing_once(token: Token) -> None:
    key = KINDS["EC P-256"]()
    assert bring_key(token, "k", key).uri == bring_key(token, "k", key).uri
    bring_key(token, "k", key).sign(b"", ec.ECDSA(hashes.SHA256()))  # which fails when there are two
