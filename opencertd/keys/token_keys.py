"""Private keys that stay in a token, as `cryptography` sees private keys: its builders sign with them like with others.

A key object knows its public half and asks the token to sign; it holds no secret. Keys are made in the token or brought
into it, and either way can never be read from it again (CKA_SENSITIVE, not CKA_EXTRACTABLE).
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, NoReturn

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import Hash, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import MGF, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.exceptions import NoSuchKey
from pkcs11.util.ec import encode_named_curve_parameters

from opencertd.asn1 import der
from opencertd.errors import StartError
from opencertd.keys.key_uri import KeyUri
from opencertd.keys.pkcs11 import Token
from opencertd.keys.token_errors import TokenError

_CURVES: dict[str, ec.EllipticCurve] = {
    "EC P-256": ec.SECP256R1(),
    "EC P-384": ec.SECP384R1(),
    "EC P-521": ec.SECP521R1(),
}
_DIGEST_OIDS = {
    "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2",
    "sha512": "2.16.840.1.101.3.4.2.3",
}
_PSS_HASHES = {
    "sha256": (Mechanism.SHA256, MGF.SHA256),
    "sha384": (Mechanism.SHA384, MGF.SHA384),
    "sha512": (Mechanism.SHA512, MGF.SHA512),
}
_STAYS: dict[Attribute, Any] = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
}


class _TokenKey:
    """What both kinds share: where the key is, and that it cannot be had."""

    def __init__(self, token: Token, uri: KeyUri) -> None:
        self._token = token
        self.uri = uri

    def _ask(self, data: bytes, mechanism: Mechanism, parameter: Any = None) -> bytes:
        """Raises TokenError."""

        def sign(session: pkcs11.Session) -> bytes:
            key: Any = _find(session, self.uri)
            signature: bytes = key.sign(data, mechanism=mechanism, mechanism_param=parameter)
            return signature

        return self._token.run(sign)

    def __copy__(self) -> NoReturn:
        raise TypeError("a key in a token has no copy")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a key in a token has no copy")

    def private_numbers(self) -> NoReturn:
        """The key never leaves its token."""
        raise TypeError("a key in a token cannot be read")

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        """The key never leaves its token."""
        raise TypeError("a key in a token cannot be read")


class RsaTokenKey(_TokenKey, rsa.RSAPrivateKey):
    """An RSA key in a token."""

    def __init__(self, token: Token, uri: KeyUri, public_key: rsa.RSAPublicKey) -> None:
        super().__init__(token, uri)
        self._public_key = public_key

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public_key

    def sign(self, data: Any, padding: AsymmetricPadding, algorithm: Any) -> bytes:
        """PKCS#1 v1.5 or PSS over the digest of `data`, which alone goes to the token. Raises TokenError."""
        digest = _digest(data, algorithm)
        if isinstance(padding, PKCS1v15):
            named = der.sequence(der.oid(_DIGEST_OIDS[algorithm.name]), der.null())
            return self._ask(der.sequence(named, der.octet_string(digest)), Mechanism.RSA_PKCS)
        if isinstance(padding, PSS):
            length = padding._salt_length
            if not isinstance(length, int):
                raise TypeError("the length of the salt must be given in octets")
            return self._ask(digest, Mechanism.RSA_PKCS_PSS, (*_PSS_HASHES[algorithm.name], length))
        raise ValueError(f"a key in a token does not sign with {padding.name}")

    def decrypt(self, ciphertext: Any, padding: AsymmetricPadding) -> bytes:
        raise TypeError("a CA key decrypts nothing")


class EcTokenKey(_TokenKey, ec.EllipticCurvePrivateKey):
    """An EC key in a token."""

    def __init__(self, token: Token, uri: KeyUri, public_key: ec.EllipticCurvePublicKey) -> None:
        super().__init__(token, uri)
        self._public_key = public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.curve.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA-Sig-Value (RFC 3279 §2.2.3) over the digest of `data`; a token answers r and s. Raises TokenError."""
        raw = self._ask(_digest(data, signature_algorithm.algorithm), Mechanism.ECDSA)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        raise TypeError("a CA key agrees on nothing")


TokenKey = RsaTokenKey | EcTokenKey


def key_in_token(token: Token, uri: KeyUri, public_key: object) -> TokenKey:
    """The key with that public half. The token is not asked. Raises StartError for a kind that tokens do not hold."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return RsaTokenKey(token, uri, public_key)
    if isinstance(public_key, ec.EllipticCurvePublicKey) and any(
        public_key.curve.name == curve.name for curve in _CURVES.values()
    ):
        return EcTokenKey(token, uri, public_key)
    raise StartError("keys in a token are RSA, P-256, P-384 or P-521 here; other kinds stay in files")


def make_key(token: Token, label: str, kind: str) -> TokenKey:
    """A new key made inside the token, of the kind `RSA 3072`, `EC P-256` … Raises StartError, TokenError."""
    family, _, size = kind.partition(" ")
    curve = _CURVES.get(kind)
    if curve is None and not (family == "RSA" and size.isdecimal()):
        raise StartError(f"no {kind} key can be made in a token here: RSA, P-256, P-384 and P-521 can")
    uri = KeyUri(label, secrets.token_bytes(16))
    common: dict[str, Any] = {
        "store": True,
        "id": uri.id,
        "label": uri.label,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": _STAYS,
    }

    def generate(session: pkcs11.Session) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        if curve is None:
            made: Any = session.generate_keypair(KeyType.RSA, int(size), **common)
        else:
            parameters = {Attribute.EC_PARAMS: encode_named_curve_parameters(curve.name)}
            domain = session.create_domain_parameters(KeyType.EC, parameters, local=True)
            made = domain.generate_keypair(**common)
        public, private = made
        _check_stays(private)
        if curve is not None:
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, _point(bytes(public[Attribute.EC_POINT])))
        exponent = int.from_bytes(public[Attribute.PUBLIC_EXPONENT], "big")
        return rsa.RSAPublicNumbers(exponent, int.from_bytes(public[Attribute.MODULUS], "big")).public_key()

    return key_in_token(token, uri, token.run(generate, write=True))


def bring_key(token: Token, label: str, key: object) -> TokenKey:
    """Bring a private key into the token, not to be read from it again; one that is there already is not doubled.

    Raises StartError for a kind that tokens do not hold, TokenError.
    """
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise StartError("keys in a token are RSA, P-256, P-384 or P-521 here; other kinds stay in files")
    public_key = key.public_key()
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    uri = KeyUri(label, hashlib.sha256(spki).digest()[:16])
    brought = key_in_token(token, uri, public_key)
    private, public = _rsa_objects(key) if isinstance(key, rsa.RSAPrivateKey) else _ec_objects(key)
    names = {Attribute.ID: uri.id, Attribute.LABEL: uri.label, Attribute.TOKEN: True}
    kind = {Attribute.KEY_TYPE: KeyType.RSA if isinstance(key, rsa.RSAPrivateKey) else KeyType.EC}

    def create(session: pkcs11.Session) -> None:
        if list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, **names})):
            return
        held = session.create_object(
            {Attribute.CLASS: ObjectClass.PRIVATE_KEY, **kind, **names, **_STAYS, Attribute.SIGN: True, **private}
        )
        _check_stays(held)
        session.create_object(
            {Attribute.CLASS: ObjectClass.PUBLIC_KEY, **kind, **names, Attribute.VERIFY: True, **public}
        )

    token.run(create, write=True)
    return brought


def check_there(token: Token, key: TokenKey) -> None:
    """Make sure that the token has the private key, and with the public half that is expected as far as it tells.

    The key is not used. Raises TokenError.
    """

    def look(session: pkcs11.Session) -> bool:
        private = _find(session, key.uri)
        if isinstance(key, RsaTokenKey):
            return int.from_bytes(private[Attribute.MODULUS], "big") == key.public_key().public_numbers().n
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        public = session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: key.uri.id})
        return all(_point(bytes(held[Attribute.EC_POINT])) == point for held in list(public))

    if not token.run(look):
        raise TokenError(
            f"the key {key.uri} in the token {token.label!r} does not belong to its CA certificate",
            "its token has another key",
        )


def _find(session: pkcs11.Session, uri: KeyUri) -> Any:
    """The private key in the token. Raises NoSuchKey."""
    wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: uri.id, Attribute.LABEL: uri.label}
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        raise NoSuchKey(f"{len(found) or 'no'} private key{'s' if found else ''} {uri}")
    return found[0]


def _check_stays(key: Any) -> None:
    """A module may pass over what it was asked for; a CA key that can be read is then worse than none."""
    if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
        key.destroy()
        raise TokenError("the token would let the key be read, so it is not used", "its token is not safe")


def _digest(data: Any, algorithm: Any) -> bytes:
    if not isinstance(algorithm, HashAlgorithm):
        raise TypeError("a key in a token makes digests itself")
    digest = Hash(algorithm)
    digest.update(data)
    return digest.finalize()


def _point(value: bytes) -> bytes:
    """CKA_EC_POINT is an OCTET STRING in DER; older tokens give the bare point (PKCS#11 v3.1 §6.3.3)."""
    element = der.read_tlv(value)
    return element.content(value) if element.tag == 0x04 and element.end == len(value) else value


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _rsa_objects(key: rsa.RSAPrivateKey) -> tuple[dict[Attribute, Any], dict[Attribute, Any]]:
    numbers = key.private_numbers()
    public = {
        Attribute.MODULUS: _octets(numbers.public_numbers.n),
        Attribute.PUBLIC_EXPONENT: _octets(numbers.public_numbers.e),
    }
    private = {
        Attribute.PRIVATE_EXPONENT: _octets(numbers.d),
        Attribute.PRIME_1: _octets(numbers.p),
        Attribute.PRIME_2: _octets(numbers.q),
        Attribute.EXPONENT_1: _octets(numbers.dmp1),
        Attribute.EXPONENT_2: _octets(numbers.dmq1),
        Attribute.COEFFICIENT: _octets(numbers.iqmp),
    }
    return {**public, **private}, public


def _ec_objects(key: ec.EllipticCurvePrivateKey) -> tuple[dict[Attribute, Any], dict[Attribute, Any]]:
    parameters = {Attribute.EC_PARAMS: encode_named_curve_parameters(key.curve.name)}
    value = key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {**parameters, Attribute.VALUE: value}, {**parameters, Attribute.EC_POINT: der.octet_string(point)}
