"""The signature under a revocation: every form that signing programs make is read, and no other words pass."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from opencertd.ca_api.proof import check_signature
from opencertd.errors import Refusal, RefusalKind
from opencertd.keys.kinds import KINDS, PrivateKey
from tests.est.rig import START, some_key, some_rsa_key

SN, REASON = "0A:bc", "keyCompromise"
WORDS = (SN + REASON).encode()


def certificate(key: PrivateKey) -> x509.Certificate:
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, START, START + timedelta(1))
    return builder.sign(some_key(), hashes.SHA256())


def pss(salt: int) -> bytes:
    return some_rsa_key().sign(WORDS, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())


def ecdsa() -> bytes:
    return some_key().sign(WORDS, ec.ECDSA(hashes.SHA256()))


def pkcs1() -> bytes:
    return some_rsa_key().sign(WORDS, padding.PKCS1v15(), hashes.SHA256())


FORMS = {
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).decode(),
    "unpadded": lambda raw: base64.b64encode(raw).decode().rstrip("="),
    "base64url unpadded": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
    "plus as space": lambda raw: base64.b64encode(raw).decode().replace("+", " "),
    "newline after": lambda raw: base64.b64encode(raw).decode() + "\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form: str) -> None:
    for _ in range(20):
        check_signature(certificate(some_key()), SN, REASON, FORMS[form](ecdsa()))
    check_signature(certificate(some_rsa_key()), SN, REASON, FORMS[form](pkcs1()))


@pytest.mark.parametrize("salt", [0, 1, 20, 32, 64, padding.PSS.MAX_LENGTH])
def test_pss_with_any_salt_length(salt: int) -> None:
    check_signature(certificate(some_rsa_key()), SN, REASON, base64.b64encode(pss(salt)).decode())


@pytest.mark.parametrize("kind", ["ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def test_keys_with_a_hash_of_their_own(kind: str) -> None:
    key = KINDS[kind].make()
    signature = key.sign(WORDS)  # type: ignore[call-arg]  # of these kinds it takes no more
    check_signature(certificate(key), SN, REASON, base64.b64encode(signature).decode())
    for words, holder in ((SN.lower(), key), (SN, KINDS[kind].make())):
        with pytest.raises(Refusal) as refused:
            check_signature(certificate(holder), words, REASON, base64.b64encode(signature).decode())
        assert refused.value.kind is RefusalKind.UNAUTHENTICATED


@pytest.mark.parametrize("sign", [ecdsa, pkcs1, lambda: pss(32)])
@pytest.mark.parametrize(("sn", "reason"), [("0ABC", REASON), (SN, "superseded"), (SN.upper(), REASON), (SN, "")])
def test_other_words_do_not_pass(sign: object, sn: str, reason: str) -> None:
    key = some_key() if sign is ecdsa else some_rsa_key()
    with pytest.raises(Refusal) as refused:
        check_signature(certificate(key), sn, reason, base64.b64encode(sign()).decode())  # type: ignore[operator]
    assert refused.value.kind is RefusalKind.UNAUTHENTICATED


@given(
    st.sampled_from([some_key(9), some_rsa_key(), ed25519.Ed25519PrivateKey.generate()]),
    st.text(max_size=100) | st.binary(max_size=300).map(lambda raw: base64.b64encode(raw).decode()),
)
def test_anything_else_is_refused(key: rsa.RSAPrivateKey, signature: str) -> None:
    with pytest.raises(Refusal) as refused:
        check_signature(certificate(key), SN, REASON, signature)
    assert refused.value.kind is RefusalKind.UNAUTHENTICATED


def test_another_digest_is_refused() -> None:
    signature = some_key().sign(WORDS, ec.ECDSA(hashes.SHA384()))
    with pytest.raises(Refusal):
        check_signature(certificate(some_key()), SN, REASON, base64.b64encode(signature).decode())
