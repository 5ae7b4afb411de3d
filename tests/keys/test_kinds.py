"""Every kind of key signs as the rest of the world verifies, and survives its file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import crypto
from twisted.internet.defer import Deferred, succeed

from opencertd.asn1 import signed
from opencertd.errors import StartError
from opencertd.first_start import run_now
from opencertd.keys.files import read_private_key, write_private_key
from opencertd.keys.kinds import KINDS, Kind, PrivateKey, Scheme, kind_of, label_of, scheme_of, verifies
from opencertd.keys.signer import SoftwareSigner
from tests.ca import NOW, spki_der

SIGNING = [kind for kind in KINDS.values() if kind.schemes]
WAYS = [(kind, scheme) for kind in SIGNING for scheme in kind.schemes]


def way(value: Kind | Scheme) -> str:
    return value.name


def foreign(key: PrivateKey, scheme: Scheme) -> tuple[bytes, bytes, bytes]:
    """To-be-signed bytes, AlgorithmIdentifier and signature as `cryptography` makes them."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    certificate = builder.sign(key, scheme.digest, rsa_padding=scheme.padding)
    return signed.split(certificate.public_bytes(Encoding.DER))


@pytest.mark.parametrize(("kind", "scheme"), WAYS, ids=way)
def test_signatures_are_those_of_the_library(kind: Kind, scheme: Scheme) -> None:
    """Same AlgorithmIdentifier, byte for byte; its signatures verify here, ours verify in a certificate there."""
    key = kind.make()
    public = key.public_key()
    tbs_der, algorithm_der, signature = foreign(key, scheme)
    assert algorithm_der == scheme.algorithm_der
    assert verifies(public, signature, tbs_der, algorithm_der)
    ours = run_now(await_(SoftwareSigner(key, here, scheme).sign(tbs_der)))
    certificate = x509.load_der_x509_certificate(signed.assemble(tbs_der, scheme.algorithm_der, ours))
    certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize(("kind", "scheme"), WAYS, ids=way)
def test_nothing_else_verifies(kind: Kind, scheme: Scheme) -> None:
    key = kind.make()
    public, data = key.public_key(), b"data"
    signature = scheme.sign(key, data)
    assert verifies(public, signature, data, scheme.algorithm_der)
    assert not verifies(public, signature, b"Data", scheme.algorithm_der)
    assert not verifies(kind.make().public_key(), signature, data, scheme.algorithm_der)
    for broken in (b"", signature[:-1], bytes(len(signature))):
        assert not verifies(public, broken, data, scheme.algorithm_der)
    for _, other in WAYS:
        if other.algorithm_der != scheme.algorithm_der:
            assert not verifies(public, signature, data, other.algorithm_der)


@pytest.mark.parametrize(("kind", "scheme"), WAYS, ids=way)
def test_slow_signatures_are_made_elsewhere(kind: Kind, scheme: Scheme) -> None:
    asked: list[Callable[[], bytes]] = []

    def elsewhere(function: Callable[[], bytes]) -> Deferred[bytes]:
        asked.append(function)
        return succeed(b"there")

    signature = run_now(await_(SoftwareSigner(kind.make(), elsewhere, scheme).sign(b"x")))
    assert (signature == b"there") is scheme.slow is bool(asked)
    assert scheme.slow is (kind.family in {"rsa", "ml-dsa"} or kind.name in {"p-521", "ed448"})


@pytest.mark.parametrize("kind", SIGNING, ids=way)
@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_a_key_survives_its_file(tmp_path: Path, kind: Kind, passphrase: bytes | None) -> None:
    path, key = tmp_path / "key.pem", kind.make()
    write_private_key(path, key, passphrase)
    assert (b"ENCRYPTED" in path.read_bytes()) is bool(passphrase)
    assert read_private_key(path, passphrase).public_key() == key.public_key()


@pytest.mark.parametrize("level", [44, 65, 87])
def test_ml_dsa_keys_as_openssl_writes_them(tmp_path: Path, level: int) -> None:
    """Seed and expanded key together, which is what `openssl genpkey` of 3.5 and newer makes."""
    key = KINDS[f"ml-dsa-{level}"].make()
    seed_alone = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    held = crypto.load_privatekey(crypto.FILETYPE_ASN1, seed_alone)
    path = tmp_path / "key"
    for form in (crypto.FILETYPE_PEM, crypto.FILETYPE_ASN1):
        path.write_bytes(crypto.dump_privatekey(form, held))
        assert len(path.read_bytes()) > 2560, "the expanded key is in it"
        assert read_private_key(path, None).public_key() == key.public_key()
        assert read_private_key(path, b"needless").public_key() == key.public_key()
    for broken in (path.read_bytes()[:-1], path.read_bytes()[:60], b"\x30\x00"):
        path.write_bytes(broken)
        with pytest.raises(StartError, match="no private key can be read"):
            read_private_key(path, None)


@pytest.mark.parametrize("make", [x25519.X25519PrivateKey.generate, mlkem.MLKEM768PrivateKey.generate])
def test_keys_that_cannot_sign_are_no_signers(tmp_path: Path, make: Callable[[], Any]) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(make().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(StartError, match="cannot sign: use RSA, EC, Ed25519, Ed448 or ML-DSA"):
        read_private_key(path, None)


def test_names() -> None:
    for name, kind in KINDS.items():
        assert kind.name == name
    assert label_of(rsa.generate_private_key(65537, 2048).public_key()) == "RSA 2048"
    assert [label_of(KINDS[n].make().public_key()) for n in ("p-384", "ed25519", "ml-dsa-87")] == [
        "EC P-384",
        "Ed25519",
        "ML-DSA-87",
    ]
    assert kind_of(mlkem.MLKEM1024PrivateKey.generate().public_key()).name == "ml-kem-1024"
    odd = ec.generate_private_key(ec.BrainpoolP384R1()).public_key()
    assert (label_of(odd), scheme_of(odd).name) == ("EC brainpoolP384r1", "ecdsa-sha384")
    with pytest.raises(ValueError, match="X25519"):
        kind_of(x25519.X25519PrivateKey.generate().public_key())
    with pytest.raises(ValueError, match="does not sign by rsa-pss"):
        scheme_of(odd, "rsa-pss")


def here(function: Callable[[], bytes]) -> Deferred[bytes]:
    return succeed(function())


async def await_(deferred: Deferred[bytes]) -> bytes:
    return await deferred


def test_sizes_are_those_of_the_standards() -> None:
    """FIPS 204 table 2: octets of public keys and signatures."""
    for name, public, signature in (("44", 1312, 2420), ("65", 1952, 3309), ("87", 2592, 4627)):
        key = KINDS[f"ml-dsa-{name}"].make()
        assert len(spki_der(key.public_key())) == public + 22
        assert len(scheme_of(key.public_key()).sign(key, b"x")) == signature
