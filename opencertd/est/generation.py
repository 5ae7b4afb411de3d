"""What a client wants of a key that the server makes for it: its kind, and for whose eyes it is (RFC 7030 §4.4). Pure.

The public key and the signature of such a request mean nothing (§4.4.1): the key says at most which kind is wished.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_public_key

from opencertd.asn1 import der
from opencertd.asn1.enveloped import CIPHERS, OAEP, EcReader, Reader, RsaReader, SecretReader
from opencertd.asn1.pkcs10 import CertificationRequest
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.profiles import Profile
from opencertd.keys.kinds import KINDS, PrivateKey, kind_of, new_rsa_key

SMIME_CAPABILITIES = x509.ObjectIdentifier("1.2.840.113549.1.9.15")
DECRYPT_KEY = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.37")
ASYMMETRIC_DECRYPT_KEY = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.54")

MOST_RSA_BITS = 4096
"""Larger keys take many seconds to make, and whoever may enrol could keep all threads at it."""

_USUAL_KINDS = ("rsa", "p-256", "p-384", "p-521", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")
"""RSA first: libest reads no shorter key."""


@dataclass(frozen=True)
class KeyWish:
    """`make` takes its time. `reader`: who the key is encrypted to, by `cipher`; None: it is not."""

    make: Callable[[], PrivateKey]
    reader: Reader | None
    cipher: str


def key_wish(
    csr: CertificationRequest, profile: Profile, *, certificate: x509.Certificate | None, secrets: Mapping[bytes, bytes]
) -> KeyWish:
    """What `csr` wishes and `profile` allows. `certificate`: that TLS proved; `secrets`: the asker's, by identifier.

    Raises BAD_CSR for an encryption that cannot be done: a key that was to be hidden is never sent in the clear.
    """
    wish = x509.load_der_x509_csr(csr.der)
    cipher, oaep = _capabilities(wish)
    reader = _reader(wish, certificate, secrets, oaep=oaep)
    return KeyWish(_maker(csr.spki_der, profile), reader, cipher)


def _maker(spki_der: bytes, profile: Profile) -> Callable[[], PrivateKey]:
    allowed = [name for name in _USUAL_KINDS if profile.key_types is None or name in profile.key_types]
    if not allowed:
        raise Refusal(RefusalKind.BAD_CSR, "the CA makes no keys of the kinds that this profile is for")
    asked, bits = _asked(spki_der)
    name = asked if asked in allowed else allowed[0]
    if name != "rsa":
        return KINDS[name].make
    least, most = profile.rsa_bits[0], min(profile.rsa_bits[1], MOST_RSA_BITS)
    if least > most:
        raise Refusal(RefusalKind.BAD_CSR, f"the CA makes no RSA keys of more than {MOST_RSA_BITS} bits")
    size = max(least, min(bits or 0, most) // 256 * 256)  # odd sizes help nobody
    return functools.partial(new_rsa_key, size)


def _asked(spki_der: bytes) -> tuple[str | None, int | None]:
    try:
        key = load_der_public_key(spki_der)
        return kind_of(key).name, key.key_size if isinstance(key, rsa.RSAPublicKey) else None
    except (ValueError, UnsupportedAlgorithm):
        return None, None


def _attribute(csr: x509.CertificateSigningRequest, oid: x509.ObjectIdentifier) -> bytes | None:
    try:
        return csr.attributes.get_attribute_for_oid(oid).value
    except x509.AttributeNotFound:
        return None


def _capabilities(csr: x509.CertificateSigningRequest) -> tuple[str, bool]:
    """The cipher for the content, by the client's order (RFC 8551 §2.5.2), and whether its key may go by OAEP."""
    value = _attribute(csr, SMIME_CAPABILITIES)
    if value is None:
        return next(iter(CIPHERS)), False
    wrapped = der.tlv(der.SEQUENCE, value)
    try:
        each = der.children(wrapped, der.read_only(wrapped, der.SEQUENCE))
        oids = [der.read_oid(wrapped, der.children(wrapped, one)[0]) for one in each]
    except (ValueError, IndexError):
        raise _bad("its SMIMECapabilities are not well-formed") from None
    cipher = next((oid for oid in oids if oid in CIPHERS), None)
    if cipher is None:
        raise _bad("its SMIMECapabilities name none of AES-256, AES-192 and AES-128 in CBC mode")
    return cipher, OAEP in oids


def _reader(
    csr: x509.CertificateSigningRequest,
    certificate: x509.Certificate | None,
    secrets: Mapping[bytes, bytes],
    *,
    oaep: bool,
) -> Reader | None:
    by_secret, by_key = _attribute(csr, DECRYPT_KEY), _attribute(csr, ASYMMETRIC_DECRYPT_KEY)
    if by_secret is not None and by_key is not None:
        raise _bad("it names both a symmetric and an asymmetric key to encrypt to")
    if by_secret is not None:
        secret = secrets.get(by_secret)
        if secret is None:
            raise _bad("no key of that DecryptKeyIdentifier is registered for you")
        return SecretReader(secret, by_secret)
    if by_key is None:
        return None
    if certificate is None or _identifier(certificate) != by_key:
        raise _bad("its AsymmetricDecryptKeyIdentifier is not the subject key identifier of the TLS client certificate")
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return RsaReader(key, by_key, oaep=oaep)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return EcReader(key, by_key)
    raise _bad("nothing can be encrypted to the key of the TLS client certificate")


def _identifier(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (x509.ExtensionNotFound, ValueError):
        return None


def _bad(why: str) -> Refusal:
    return Refusal(RefusalKind.BAD_CSR, f"the certificate request was refused: {why}")


def pkcs8(key: PrivateKey) -> bytes:
    """The private key as PKCS#8, not encrypted; DER."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
