"""Whether a profile can mean what it says: the first contradiction in it, in words, and the key it hangs on."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from opencertd.issuance.profiles import AUDIT_CHECKPOINT, MAX_NAMES, Profile, Publication, able_usages
from opencertd.keys.kinds import KINDS, SIGNATURE_ALGORITHMS, kind_of, label_of
from opencertd.model.certificates import IssuerRecord, IssuerState
from opencertd.model.names import AltNameKind
from opencertd.model.request import IssuingProtocol

Fault = tuple[str, str]

_GOVERNED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.TLS_FEATURE,
        ExtensionOID.OCSP_NO_CHECK,
        ExtensionOID.PRECERT_POISON,
        ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS,
    }
)
"""Extensions that a profile decides in its own words, or that only Certificate Transparency may put in."""

_CA_USAGES = frozenset({"keyCertSign", "cRLSign"})
_SIGNATURES = frozenset({"digitalSignature", "contentCommitment"})
_EXCHANGES = frozenset({"keyEncipherment", "keyAgreement"})
_PURPOSES = {
    # RFC 5280 §4.2.1.12: which bits of keyUsage go with a purpose; any of them is enough.
    ExtendedKeyUsageOID.SERVER_AUTH: ("serverAuth", frozenset({"digitalSignature"}) | _EXCHANGES),
    ExtendedKeyUsageOID.CLIENT_AUTH: ("clientAuth", frozenset({"digitalSignature", "keyAgreement"})),
    ExtendedKeyUsageOID.CODE_SIGNING: ("codeSigning", frozenset({"digitalSignature"})),
    ExtendedKeyUsageOID.EMAIL_PROTECTION: ("emailProtection", _SIGNATURES | _EXCHANGES),
    ExtendedKeyUsageOID.TIME_STAMPING: ("timeStamping", _SIGNATURES),
    ExtendedKeyUsageOID.OCSP_SIGNING: ("OCSPSigning", _SIGNATURES),
}


def contradiction(profile: Profile, issuers: tuple[IssuerRecord, ...], publication: Publication) -> Fault | None:
    """The key at fault and what is wrong with it; None when the profile makes sense."""
    for faults in (
        _issuers(profile, issuers),
        _algorithms(profile, issuers),
        _keys(profile),
        _validity(profile),
        _names(profile),
        _authority(profile),
        _usages(profile),
        _extensions(profile, publication),
    ):
        for fault in faults:
            return fault
    return None


def _issuers(profile: Profile, issuers: tuple[IssuerRecord, ...]) -> Iterator[Fault]:
    by_name = {issuer.name: issuer for issuer in issuers}
    named = [("issuers", name) for name in profile.issuers]
    named += [(f"issuer_by_key.{kind}", name) for kind, name in profile.issuer_by_key.items()]
    for key, name in named:
        issuer = by_name.get(name)
        if issuer is None:
            yield key, f"there is no issuer {name!r}; there are {', '.join(sorted(by_name))}"
        elif profile.ca and not _may_sign(issuer, profile.path_length):
            yield key, f"the issuer {name!r} may not have a CA like this below it: its pathLenConstraint forbids that"


def _may_sign(issuer: IssuerRecord, below: int | None) -> bool:
    certificate = x509.load_der_x509_certificate(issuer.certificate_der)
    limit = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return limit is None or (below is not None and below < limit)


def _algorithms(profile: Profile, issuers: tuple[IssuerRecord, ...]) -> Iterator[Fault]:
    """Each issuer that may sign, its successors included, has one of the algorithms; and none is there for nothing."""
    if not profile.signature_algorithms:
        return
    named = {*profile.issuers, *profile.issuer_by_key.values()}
    signing = {issuer.id for issuer in issuers if issuer.name in named}
    for issuer in issuers:  # in the order in which they came to be
        if issuer.predecessor_id in signing:
            signing.add(issuer.id)
    used: set[str] = set()
    for issuer in issuers:
        if issuer.id not in signing or issuer.state is not IssuerState.ACTIVE:
            continue
        key = x509.load_der_x509_certificate(issuer.certificate_der).public_key()
        own = {scheme.name for scheme in kind_of(key).schemes}
        if not own & set(profile.signature_algorithms):
            words = ", ".join(_words(own))
            yield "signature_algorithm", f"the issuer {issuer.name!r} has a key of {label_of(key)}: it signs by {words}"
        used.update(own)
    for word in _words(set(profile.signature_algorithms) - used):
        yield "signature_algorithm", f"no issuer of the profile has a key that signs by {word}"


def _words(schemes: set[str]) -> list[str]:
    return [word for word, scheme in SIGNATURE_ALGORITHMS.items() if scheme in schemes]


def _keys(profile: Profile) -> Iterator[Fault]:
    least, most = profile.rsa_bits
    if least > most:
        yield "rsa_min", f"{least} is more than rsa_max, {most}"
    for kind in profile.issuer_by_key:
        if profile.key_types is not None and kind not in profile.key_types:
            yield f"issuer_by_key.{kind}", f"key_types has no {kind}"


def _validity(profile: Profile) -> Iterator[Fault]:
    if profile.validity > profile.longest:
        yield "validity", f"{profile.validity} is more than validity_max, {profile.longest}"
    if profile.validity <= profile.backdate:
        yield "backdate", f"{profile.backdate} back, the validity of {profile.validity} would be over at once"
    if profile.longest > profile.validity and not profile.validity_may_be_asked:
        yield "validity_max", "it means nothing unless validity_may_be_asked is true"


def _names(profile: Profile) -> Iterator[Fault]:
    for kind in sorted(kind.value for kind in profile.names_required - profile.name_kinds):
        yield "names_required", f"names does not allow {kind}"
    if profile.names_required and not profile.names_max:
        yield "names_max", "0 leaves no room for a name of names_required"
    if profile.names_max > MAX_NAMES:
        yield "names_max", f"{MAX_NAMES} is the most"
    if not profile.name_kinds and not profile.subject_attributes and profile.subject is None:
        yield "names", "no name, no subject attribute and no subject: nobody could be in such a certificate"
    if profile.subject is not None:
        for kind in sorted(kind.value for kind in profile.subject.kinds() - profile.name_kinds):
            yield "subject", f"it is made from {{{kind}}}, which names does not allow"
        if AltNameKind.IP in profile.subject.kinds():
            yield "subject", "no address belongs into a subject; leave {ip} to subjectAltName"


def _authority(profile: Profile) -> Iterator[Fault]:
    signs = profile.key_usage & _CA_USAGES
    if not profile.ca and signs:
        yield "key_usage", f"{', '.join(sorted(signs))} is for CAs: only with ca = true"
    if profile.path_length is not None and not profile.ca:
        yield "path_length", "it means something for CAs only: with ca = true"
    if not profile.ca:
        return
    if "keyCertSign" not in profile.key_usage:
        yield "key_usage", "a CA without keyCertSign cannot sign certificates"
    if IssuingProtocol.ACME in profile.protocols:
        yield "protocols", "ACME proves control of host names, which is no reason to make anybody a CA"
    if profile.ocsp_no_check or profile.must_staple:
        yield "ca", "ocsp_no_check and must_staple are not for CAs"


def _usages(profile: Profile) -> Iterator[Fault]:
    if not profile.key_usage:
        yield "key_usage", "a key that may be used for nothing"
    unable = [name for name, kind in KINDS.items() if not able_usages(profile.key_usage, kind.family)]
    for name in unable:
        if profile.key_types is not None and name in profile.key_types:
            words = f"keys of {name} are able to none of {', '.join(sorted(profile.key_usage))}"
            yield "key_usage", words + "; leave them out of key_types, or add digitalSignature"
    purposes = profile.extended_key_usages
    if AUDIT_CHECKPOINT in purposes:
        yield (
            "extended_key_usage",
            f"{AUDIT_CHECKPOINT.dotted_string} is for the daemon alone: it signs the audit chain",
        )
    if len(set(purposes)) != len(purposes):
        yield "extended_key_usage", "a purpose is given twice"
    for oid in purposes:
        word, fitting = _PURPOSES.get(oid, ("", frozenset()))
        if word and not profile.ca and not profile.key_usage & fitting:
            yield "key_usage", f"for {word} it needs one of {', '.join(sorted(fitting))} (RFC 5280 §4.2.1.12)"
    alone = len(purposes) == 1 and profile.extended_key_usage_critical
    if ExtendedKeyUsageOID.TIME_STAMPING in purposes and not profile.ca and not alone:
        words = "timeStamping stands alone, with extended_key_usage_critical = true (RFC 3161 §2.3)"
        yield "extended_key_usage", words
    if profile.extended_key_usage_critical and not purposes:
        yield "extended_key_usage_critical", "there is no purpose that could be critical"
    if profile.ocsp_no_check and ExtendedKeyUsageOID.OCSP_SIGNING not in purposes:
        yield "ocsp_no_check", "it is for OCSP responders: only with OCSPSigning (RFC 6960 §4.2.2.2.1)"


def _extensions(profile: Profile, publication: Publication) -> Iterator[Fault]:
    if profile.must_staple and ExtendedKeyUsageOID.SERVER_AUTH not in profile.extended_key_usages:
        yield "must_staple", "only TLS servers staple: it needs serverAuth"
    if profile.must_staple and not profile.publication(publication).ocsp:
        yield "must_staple", "without an OCSP URL (ocsp) no server could fetch what it must staple"
    seen = set()
    for extension in profile.extensions:
        oid = extension.oid
        if oid in _GOVERNED:
            yield "extensions", f"{oid.dotted_string} is not yours to fix: other keys of the profile decide it"
            continue
        if oid in seen:
            yield "extensions", f"{oid.dotted_string} is given twice"
        if oid == ExtensionOID.NAME_CONSTRAINTS and not (profile.ca and extension.critical):
            yield "extensions", "nameConstraints must be critical, in a CA (RFC 5280 §4.2.1.10)"
        if not _readable(extension):
            yield "extensions", f"the value of {oid.dotted_string} is not what such an extension holds"
        seen.add(oid)
    policies = [policy.oid for policy in profile.certificate_policies]
    if len(set(policies)) != len(policies):
        yield "certificate_policies", "an OID is given twice"


def _readable(extension: x509.Extension[x509.UnrecognizedExtension]) -> bool:
    """Whether a certificate with it can be read, and has it as it is written."""
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(extension.value, critical=False)
    try:
        (found,) = request.sign(ed25519.Ed25519PrivateKey.generate(), None).extensions
    except ValueError:
        return False
    return bool(found.value.public_bytes() == extension.value.value)
