"""Only keys that are strong and well formed get into certificates."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, mlkem, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1 import der
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.key_checks import check_public_key
from opencertd.keys.kinds import KINDS, Kind
from tests.ca import last_bit_flipped, rsa_key, spki_der, spki_of


def rsa_spki(n: int, e: int) -> bytes:
    return rsa.RSAPublicNumbers(e, n).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def compressed_spki() -> bytes:
    """An SPKI with the point in its short form, which says the same in other octets."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    algorithm = der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7"))
    return der.sequence(algorithm, der.bit_string(key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)))


def restricted_spki() -> bytes:
    """An RSA key under id-RSASSA-PSS (RFC 4055 §1.2), which `cryptography` reads as a plain RSA key."""
    bits = rsa_key().public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return der.sequence(der.sequence(der.oid("1.2.840.113549.1.1.10")), der.bit_string(bits))


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.schemes], ids=lambda kind: kind.name)
def test_every_kind_that_signs_passes(kind: Kind) -> None:
    key = kind.make()
    assert check_public_key(spki_of(key)) == key.public_key()


@pytest.mark.parametrize("kind", [mlkem.MLKEM768PrivateKey, mlkem.MLKEM1024PrivateKey])
def test_ml_kem_passes(kind: Any) -> None:
    key = kind.generate().public_key()
    assert check_public_key(spki_der(key)) == key


N = rsa_key().public_key().public_numbers().n

REFUSED = {
    "RSA-1024": (lambda: spki_of(rsa.generate_private_key(65537, 1024)), "1024 bits"),
    "RSA too long": (lambda: rsa_spki((1 << 8200) + 1, 65537), "8201 bits"),
    "RSA exponent 3": (lambda: rsa_spki(N, 3), "exponent"),
    "RSA modulus with a small factor": (lambda: rsa_spki((N // 751) * 751 | 0, 65537), "factors"),
    "secp256k1": (lambda: spki_of(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
    "X25519": (lambda: spki_of(x25519.X25519PrivateKey.generate()), "of the kind X25519"),  # type: ignore[arg-type]
    "compressed point": (compressed_spki, "its encoding"),
    "RSA restricted to PSS": (restricted_spki, "its encoding"),
    "DSA": (
        lambda: (
            dsa.generate_private_key(2048).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ),
        "",
    ),
    "garbage": (lambda: b"garbage", "well-formed"),
    "empty": (lambda: b"", "well-formed"),
    "EC point off the curve": (lambda: last_bit_flipped(spki_of(ec.generate_private_key(ec.SECP256R1()))), ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(Refusal) as caught:
        check_public_key(make())
    assert caught.value.kind is RefusalKind.BAD_PUBLIC_KEY
    assert words in caught.value.detail
