"""What a profile wants of a request, for csrattrs (RFC 7030 §4.5.2, RFC 9908). Pure.

Only what a request must have to be granted, and what the certificate will have anyway; a client that leaves that out
loses nothing, since profiles decide extensions.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from opencertd.asn1 import der
from opencertd.asn1.csr_attributes import EC, RSA, CsrAttributes, WantedExtension, WantedKey
from opencertd.issuance.profiles import Profile
from opencertd.keys.kinds import KINDS

_CURVES = {"p-256": "1.2.840.10045.3.1.7", "p-384": "1.3.132.0.34", "p-521": "1.3.132.0.35"}


def wanted_attributes(profile: Profile, *, binding: bool = False) -> CsrAttributes:
    """The wishes of `profile`; with `binding` also for a challengePassword that ties the request to its TLS session."""
    return CsrAttributes(binding, _key(profile), (*_purposes(profile), *_names(profile)))


def _key(profile: Profile) -> WantedKey | None:
    """The one kind of key that it takes; a choice among several cannot be said. RSA in the smallest size taken."""
    if profile.key_types is None or len(profile.key_types) != 1:
        return None
    (name,) = profile.key_types
    if name == "rsa":
        return WantedKey(RSA, bits=profile.rsa_bits[0])
    if name in _CURVES:
        return WantedKey(EC, curve=_CURVES[name])
    schemes = KINDS[name].schemes
    if not schemes:  # a key that cannot sign cannot sign a request either
        return None
    algorithm = schemes[0].algorithm_der  # that of signatures is the key's own where there is one way to sign
    return WantedKey(der.read_oid(algorithm, der.children(algorithm, der.read_tlv(algorithm))[0]))


def _purposes(profile: Profile) -> tuple[WantedExtension, ...]:
    if not profile.extended_key_usages:
        return ()
    value = x509.ExtendedKeyUsage(profile.extended_key_usages).public_bytes()
    oid = ExtensionOID.EXTENDED_KEY_USAGE.dotted_string
    return (WantedExtension(oid, value, profile.extended_key_usage_critical),)


def _names(profile: Profile) -> tuple[WantedExtension, ...]:
    """subjectAltName, to be filled in, where there is no certificate without a name."""
    if not profile.names_required:
        return ()
    return (WantedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string),)
