"""Only keys that are strong and well formed get into certificates."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.key_checks import check_public_key
from tests.ca import rsa_key, spki_of


def rsa_spki(n: int, e: int) -> bytes:
    return rsa.RSAPublicNumbers(e, n).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_nist_curves_pass(curve: ec.EllipticCurve) -> None:
    check_public_key(spki_of(ec.generate_private_key(curve)))


def test_rsa_2048_passes() -> None:
    check_public_key(spki_of(rsa_key()))


N = rsa_key().public_key().public_numbers().n

REFUSED = {
    "RSA-1024": (lambda: spki_of(rsa.generate_private_key(65537, 1024)), "1024 bits"),
    "RSA too long": (lambda: rsa_spki((1 << 8200) + 1, 65537), "8201 bits"),
    "RSA exponent 3": (lambda: rsa_spki(N, 3), "exponent"),
    "RSA modulus with a small factor": (lambda: rsa_spki((N // 751) * 751 | 0, 65537), "factors"),
    "secp256k1": (lambda: spki_of(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
    "Ed25519": (
        lambda: (
            ed25519.Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ),
        "only RSA and EC",
    ),
    "DSA": (
        lambda: (
            dsa.generate_private_key(2048).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ),
        "",
    ),
    "garbage": (lambda: b"garbage", "well-formed"),
    "empty": (lambda: b"", "well-formed"),
    "EC point off the curve": (lambda: spki_of(ec.generate_private_key(ec.SECP256R1()))[:-1] + b"\x00", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(Refusal) as caught:
        check_public_key(make())
    assert caught.value.kind is RefusalKind.BAD_PUBLIC_KEY
    assert words in caught.value.detail
