"""device-attest-01 (draft-ietf-acme-device-attest-10 §5): a device's hardware says who it is and which key it holds.

The response is a WebAuthn attestation object (WebAuthn §6.5.4) whose statement binds the challenge: `tpm` and `step` by
the key authorization, `apple` by the token alone, since Apple signs before there is an account. `step` is step-ca's
format for YubiKeys and its own agents: the attested key itself signs. Each format has roots of its own. Pure.

Other formats are left out: their statements do not sign what is asked here, or the key they certify is another one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1 import der, other_names, tpm
from opencertd.asn1.cbor import CborError, parse_cbor
from opencertd.model.devices import DeviceName
from opencertd.validation.attestation_chain import ChainError, check_chain
from opencertd.validation.verdict import FailedProof, FailureKind

DEVICE_ATTEST_01 = "device-attest-01"
LIMIT = 32 * 1024
"""Octets of an attestation object."""

Roots = Mapping[str, Sequence[x509.Certificate]]
"""Formats that are taken, and the roots of each."""

_APPLE = "1.2.840.113635.100.8"
_APPLE_SERIAL, _APPLE_UDID, _APPLE_NONCE = f"{_APPLE}.9.1", f"{_APPLE}.9.2", f"{_APPLE}.11.1"
_YUBICO_SERIAL = "1.3.6.1.4.1.41482.3.7"
_STEP_DEVICE = "1.3.6.1.4.1.37476.9000.64.4"
_AIK_CERTIFICATE = x509.ObjectIdentifier("2.23.133.8.3")  # tcg-kp-AIKCertificate
_BOUND = tpm.FIXED_TPM | tpm.FIXED_PARENT | tpm.SENSITIVE_DATA_ORIGIN
_COSE_HASHES: dict[int, hashes.HashAlgorithm] = {
    -7: hashes.SHA256(),  # ES256
    -35: hashes.SHA384(),  # ES384
    -257: hashes.SHA256(),  # RS256
    -258: hashes.SHA384(),  # RS384
}


@dataclass(frozen=True)
class AttestationQuestion:
    """Does a device of this name hold the key, and does it answer this challenge? `hardware`: it names a module."""

    name: DeviceName
    hardware: bool
    token: str
    key_authorization: str


@dataclass(frozen=True)
class Attested:
    """What a statement says: the key as SubjectPublicKeyInfo, and the device's names by kind."""

    spki_der: bytes
    identifiers: frozenset[DeviceName]
    modules: frozenset[DeviceName] = frozenset()


class _Bad(ValueError):  # noqa: N818  (a word in a sentence: what the statement is)
    """What is wrong with a statement."""


def judge_attestation(
    question: AttestationQuestion, attestation: bytes, roots: Roots, now: datetime
) -> Attested | FailedProof:
    """The attested key when all of it holds: chain, challenge, key and name (draft §5)."""
    try:
        format_, statement = _opened(attestation, roots)
        leaf = check_chain(_list(statement, "x5c"), roots[format_], now)
        attested = _JUDGES[format_](question, statement, leaf)
    except (_Bad, CborError, ChainError, tpm.TpmError, der.DerError) as error:
        return FailedProof(FailureKind.BAD_ATTESTATION, f"the attestation was refused: {error}")
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError, TypeError, KeyError):
        return FailedProof(FailureKind.BAD_ATTESTATION, "the attestation was refused: it cannot be read")
    if question.name not in (attested.modules if question.hardware else attested.identifiers):
        return FailedProof(FailureKind.BAD_ATTESTATION, f"the attestation is not of the device {question.name}")
    return attested


def _opened(attestation: bytes, roots: Roots) -> tuple[str, Mapping[str, Any]]:
    if len(attestation) > LIMIT:
        raise _Bad(f"it is longer than {LIMIT} octets")
    value = parse_cbor(attestation)
    if not isinstance(value, dict) or not isinstance(value.get("attStmt"), dict):
        raise _Bad("it is no attestation object")
    format_ = value.get("fmt")
    if not isinstance(format_, str) or format_ not in roots or format_ not in _JUDGES:
        raise _Bad(f"the format {str(format_)[:40]!r} is not taken here; {', '.join(sorted(roots))} are")
    statement: Any = value["attStmt"]
    return format_, statement


def _list(statement: Mapping[str, Any], key: str) -> list[object]:
    value = statement.get(key)
    if not isinstance(value, list):
        raise _Bad(f"it has no {key}")
    return value


def _octets(statement: Mapping[str, Any], key: str) -> bytes:
    value = statement.get(key)
    if not isinstance(value, bytes) or not value:
        raise _Bad(f"it has no {key}")
    return value


def _judge_tpm(question: AttestationQuestion, statement: Mapping[str, Any], leaf: x509.Certificate) -> Attested:
    """WebAuthn §8.3; the names are otherNames of the attestation key's certificate."""
    if statement.get("ver") != "2.0":
        raise _Bad("its version is not 2.0")
    hash_ = _COSE_HASHES.get(statement.get("alg") or 0)
    if hash_ is None:
        raise _Bad("its algorithm is none of ES256, ES384, RS256 and RS384")
    _check_attestation_key(leaf)
    info = _octets(statement, "certInfo")
    _verify(leaf, tpm.parse_signature(_octets(statement, "sig")), info, hash_)
    certified, public = tpm.parse_certification(info), tpm.parse_public(_octets(statement, "pubArea"))
    wanted = hashlib.new(hash_.name, question.key_authorization.encode()).digest()
    if not hmac.compare_digest(certified.extra_data, wanted):
        raise _Bad("it does not answer this challenge (extraData)")
    if certified.name != public.name:
        raise _Bad("it certifies another key than it brings (pubArea)")
    if public.attributes & _BOUND != _BOUND:
        raise _Bad("the key is not bound to its TPM (fixedTPM, fixedParent, sensitiveDataOrigin)")
    spki = public.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Attested(spki, *_device_names(leaf))


def _check_attestation_key(leaf: x509.Certificate) -> None:
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        raise _Bad("the attestation key's certificate is not for that (tcg-kp-AIKCertificate)") from None
    if _AIK_CERTIFICATE not in usages:
        raise _Bad("the attestation key's certificate is not for that (tcg-kp-AIKCertificate)")


def _device_names(leaf: x509.Certificate) -> tuple[frozenset[DeviceName], frozenset[DeviceName]]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset(), frozenset()
    others = [(name.type_id.dotted_string, name.value) for name in names if isinstance(name, x509.OtherName)]
    identifiers = (
        other_names.parse_permanent_identifier(v) for t, v in others if t == other_names.PERMANENT_IDENTIFIER
    )
    modules = (other_names.parse_hardware_module(v) for t, v in others if t == other_names.HARDWARE_MODULE)
    return frozenset(each for each in identifiers if each is not None), frozenset(modules)


def _judge_apple(question: AttestationQuestion, statement: Mapping[str, Any], leaf: x509.Certificate) -> Attested:
    """Apple's Managed Device Attestation: the token's hash as nonce, names in extensions of its own."""
    extensions = _extensions(leaf)
    nonce = hashlib.sha256(question.token.encode()).digest()
    if not hmac.compare_digest(extensions.get(_APPLE_NONCE, b""), nonce):
        raise _Bad("it does not answer this challenge (nonce)")
    names = [extensions[oid] for oid in (_APPLE_SERIAL, _APPLE_UDID) if oid in extensions]
    return Attested(_spki(leaf), frozenset(DeviceName(name.decode()) for name in names))


def _judge_step(question: AttestationQuestion, statement: Mapping[str, Any], leaf: x509.Certificate) -> Attested:
    """The key in the first certificate signs the key authorization; the signature is CBOR within the statement."""
    signature = parse_cbor(_octets(statement, "sig"))
    if not isinstance(signature, bytes):
        raise _Bad("its sig is no CBOR byte string")
    _verify(leaf, signature, question.key_authorization.encode(), hashes.SHA256())
    extensions = _extensions(leaf)
    names = set()
    if _YUBICO_SERIAL in extensions:
        data = extensions[_YUBICO_SERIAL]
        names.add(DeviceName(str(int.from_bytes(der.read_only(data, 0x02).content(data), "big", signed=True))))
    if _STEP_DEVICE in extensions:
        data = extensions[_STEP_DEVICE]
        first = der.children(data, der.read_only(data, 0x30))[:1]
        names |= {DeviceName(part.content(data).decode()) for part in first}
    return Attested(_spki(leaf), frozenset(names))


def _extensions(leaf: x509.Certificate) -> dict[str, bytes]:
    return {each.oid.dotted_string: each.value.public_bytes() for each in leaf.extensions}


def _spki(leaf: x509.Certificate) -> bytes:
    return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _verify(leaf: x509.Certificate, signature: bytes, data: bytes, hash_: hashes.HashAlgorithm) -> None:
    key = leaf.public_key()
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, data, ec.ECDSA(hash_))
            case rsa.RSAPublicKey():
                key.verify(signature, data, padding.PKCS1v15(), hash_)
            case ed25519.Ed25519PublicKey():
                key.verify(signature, data)
            case _:
                raise _Bad("it is signed by a kind of key that is not known here")
    except InvalidSignature:
        raise _Bad("its signature is wrong, or is not of this challenge") from None


_JUDGES: Mapping[str, Callable[[AttestationQuestion, Mapping[str, Any], x509.Certificate], Attested]] = {
    "tpm": _judge_tpm,
    "apple": _judge_apple,
    "step": _judge_step,
}
FORMATS = tuple(_JUDGES)
