"""What an OCSP request may hold besides CertIDs and a nonce: who signed it, and how its answer had best be signed.

RFC 6960 §4.1.1 (Signature, requestorName) and §4.4.7 (preferred signature algorithms).
"""

from __future__ import annotations

from dataclasses import dataclass

from opencertd.asn1 import der
from opencertd.asn1.fields import Fields

MOST_CERTIFICATES = 8
MOST_PREFERENCES = 32

_DIRECTORY_NAME = 0xA4


@dataclass(frozen=True)
class RequestSignature:
    """A request's signature over `tbs_der` under the AlgorithmIdentifier `algorithm_der`.

    `certificates_der`: as enclosed, the signer's first. `name_der`: the name the requester gave itself in DER, None
    where that is none of a directory.
    """

    tbs_der: bytes
    algorithm_der: bytes
    signature: bytes
    certificates_der: tuple[bytes, ...]
    name_der: bytes | None


@dataclass(frozen=True)
class Preference:
    """AlgorithmIdentifiers of signatures a client likes, and of the keys that may make them (None: any)."""

    signature_der: bytes
    key_der: bytes | None


def read_signature(
    data: bytes, tagged: der.Element, tbs: der.Element, requestor: der.Element | None
) -> RequestSignature:
    """The optionalSignature inside its explicit tag. Raises DerError; also when the signer does not say its name."""
    if requestor is None:
        raise der.DerError("it is signed and has no requestorName")
    signature = Fields(data, _only(data, tagged))
    algorithm = signature.take(der.SEQUENCE)
    bits = signature.take(der.BIT_STRING).content(data)
    if bits[:1] != b"\0":
        raise der.DerError("its signature is not of whole octets")
    enclosed = signature.skip(0xA0)
    signature.end()
    certificates = () if enclosed is None else der.children(data, _only(data, enclosed))
    if len(certificates) > MOST_CERTIFICATES:
        raise der.DerError(f"it encloses more than {MOST_CERTIFICATES} certificates")
    return RequestSignature(
        tbs_der=tbs.raw(data),
        algorithm_der=algorithm.raw(data),
        signature=bits[1:],
        certificates_der=tuple(each.raw(data) for each in certificates),
        name_der=_directory_name(data, requestor),
    )


def _directory_name(data: bytes, requestor: der.Element) -> bytes | None:
    general_name = _only(data, requestor)
    return _only(data, general_name).raw(data) if general_name.tag == _DIRECTORY_NAME else None


def read_preferences(value: bytes) -> tuple[Preference, ...]:
    """PreferredSignatureAlgorithms, the best first. Raises DerError."""
    listed = der.children(value, der.read_only(value, der.SEQUENCE))
    if len(listed) > MOST_PREFERENCES:
        raise der.DerError(f"it prefers more than {MOST_PREFERENCES} signature algorithms")
    found = []
    for element in listed:
        fields = Fields(value, element)
        signature = fields.take(der.SEQUENCE)
        key = fields.skip(der.SEQUENCE)
        fields.end()
        found.append(Preference(signature.raw(value), None if key is None else key.raw(value)))
    return tuple(found)


def _only(data: bytes, parent: der.Element) -> der.Element:
    inside = der.children(data, parent)
    if len(inside) != 1:
        raise der.DerError(f"{len(inside)} elements stand where one must")
    return inside[0]
