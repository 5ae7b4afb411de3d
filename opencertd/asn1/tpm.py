"""What a TPM 2.0 says of its keys: public areas and certify attestations (TCG TPM 2.0 Library, Part 2: Structures)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

_GENERATED = 0xFF544347  # TPM_GENERATED_VALUE: what no outside data can begin with in a restricted key's signature
_ATTEST_CERTIFY = 0x8017  # TPM_ST_ATTEST_CERTIFY
_ALG_NULL = 0x0010
_HASHES = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
_RSA, _ECC = 0x0001, 0x0023
_CURVES: dict[int, type[ec.EllipticCurve]] = {0x0003: ec.SECP256R1, 0x0004: ec.SECP384R1, 0x0005: ec.SECP521R1}
_RSASSA, _RSAPSS, _ECDSA = 0x0014, 0x0016, 0x0018

FIXED_TPM = 1 << 1
FIXED_PARENT = 1 << 4
SENSITIVE_DATA_ORIGIN = 1 << 5


class TpmError(ValueError):
    """The octets are no structure that is read here; the words say why."""


@dataclass(frozen=True)
class TpmPublic:
    """TPMT_PUBLIC: the key, its attributes (TPMA_OBJECT), and its name as the TPM computes it."""

    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    attributes: int
    name: bytes


@dataclass(frozen=True)
class TpmCertification:
    """TPMS_ATTEST of type certify: the caller's data, and the name of the object that was certified."""

    extra_data: bytes
    name: bytes


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise TpmError("it ends too soon")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        """A TPM2B: two octets of length, then as many."""
        return self.take(self.number(2))

    def end(self) -> None:
        if self._at != len(self._data):
            raise TpmError("octets follow it")


def parse_public(data: bytes) -> TpmPublic:
    """`data` as TPMT_PUBLIC of an RSA or EC key. Raises `TpmError`."""
    reader = _Reader(data)
    kind, name_hash, attributes = reader.number(2), reader.number(2), reader.number(4)
    if name_hash not in _HASHES:
        raise TpmError("the name's hash is not known")
    reader.sized()  # authPolicy
    if reader.number(2) != _ALG_NULL:  # TPMT_SYM_DEF_OBJECT
        reader.take(4)
    if reader.number(2) in (_RSASSA, _RSAPSS, _ECDSA):  # TPMT_RSA_SCHEME, TPMT_ECC_SCHEME
        reader.take(2)
    if kind == _RSA:
        key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey = _rsa(reader)
    elif kind == _ECC:
        key = _ecc(reader)
    else:
        raise TpmError("the key is neither RSA nor EC")
    reader.end()
    name = name_hash.to_bytes(2, "big") + hashlib.new(_HASHES[name_hash], data, usedforsecurity=False).digest()
    return TpmPublic(key, attributes, name)


def _rsa(reader: _Reader) -> rsa.RSAPublicKey:
    reader.number(2)  # keyBits, which the modulus shows
    exponent = reader.number(4) or 65537
    try:
        return rsa.RSAPublicNumbers(exponent, int.from_bytes(reader.sized(), "big")).public_key()
    except ValueError:
        raise TpmError("the RSA key is none") from None


def _ecc(reader: _Reader) -> ec.EllipticCurvePublicKey:
    curve = _CURVES.get(reader.number(2))
    if curve is None:
        raise TpmError("the curve is not known")
    if reader.number(2) != _ALG_NULL:  # TPMT_KDF_SCHEME
        reader.take(2)
    x, y = (int.from_bytes(reader.sized(), "big") for _ in range(2))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ValueError:
        raise TpmError("the EC key is not on its curve") from None


def parse_signature(data: bytes) -> bytes:
    """The signature in `data`, a TPMT_SIGNATURE by RSA or ECDSA, as X.509 has it. Raises `TpmError`."""
    reader = _Reader(data)
    scheme = reader.number(2)
    if scheme not in (_RSASSA, _RSAPSS, _ECDSA):
        raise TpmError("the signature's scheme is not known")
    reader.number(2)  # hash
    numbers = [reader.sized() for _ in range(2 if scheme == _ECDSA else 1)]
    reader.end()
    if scheme != _ECDSA:
        return numbers[0]
    r, s = (int.from_bytes(number, "big") for number in numbers)
    return encode_dss_signature(r, s)


def parse_certification(data: bytes) -> TpmCertification:
    """`data` as TPMS_ATTEST that certifies an object. Raises `TpmError`."""
    reader = _Reader(data)
    if reader.number(4) != _GENERATED:
        raise TpmError("it was not made by a TPM")
    if reader.number(2) != _ATTEST_CERTIFY:
        raise TpmError("it does not certify a key")
    reader.sized()  # qualifiedSigner
    extra_data = reader.sized()
    reader.take(8 + 4 + 4 + 1)  # TPMS_CLOCK_INFO
    reader.take(8)  # firmwareVersion
    name = reader.sized()
    reader.sized()  # qualifiedName
    reader.end()
    return TpmCertification(extra_data, name)
