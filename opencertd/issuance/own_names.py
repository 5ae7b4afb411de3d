"""What a certificate entitles its holder to ask for: its own names, and no others.

Two rules over the same comparison. Asking for a further certificate may not go beyond the names of the one that TLS
proved; renewing it must keep Subject and SubjectAltName exactly (RFC 7030 §4.2.2). Names are compared as RFC 5280
§7.1 says, so that string types, case and the order of SANs do not count.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509

from opencertd.asn1.dn import canonical, format_dn
from opencertd.asn1.pkcs10 import CertificationRequest, names_of_certificate
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.model.names import AltName


def check_own_names(csr: CertificationRequest, certificate: x509.Certificate) -> None:
    """Raise Refusal REJECTED_NAME when `csr` asks for a name that `certificate` does not have.

    The subject must be the certificate's whole subject or empty: a part of it may be somebody else's whole name.
    """
    others = [name for name in csr.names if name not in names_of_certificate(certificate)]
    faults = [f"{name} is not a name of that certificate" for name in others]
    if csr.subject.rdns and canonical(csr.subject) != canonical(certificate.subject):
        faults.insert(0, f"the subject {_words(csr.subject)} is not that certificate's ({_words(certificate.subject)})")
    if faults:
        raise _rejected(
            "a TLS client certificate may enrol only for the names it already has",
            faults,
            others,
            "Prove yourself by password or token to ask for other names, "
            "or let the operator allow any name to client certificates.",
        )


def check_same_names(csr: CertificationRequest, certificate: x509.Certificate) -> None:
    """Raise Refusal REJECTED_NAME unless `csr` has exactly the Subject and SubjectAltName of `certificate`."""
    held = names_of_certificate(certificate)
    added = [name for name in csr.names if name not in held]
    faults = [f"{name} is not a name of that certificate" for name in added]
    faults += [f"{name} is missing" for name in held if name not in csr.names]
    if canonical(csr.subject) != canonical(certificate.subject):
        faults.insert(0, f"the subject is {_words(csr.subject)} instead of {_words(certificate.subject)}")
    if faults:
        raise _rejected(
            "re-enrolment must keep the Subject and SubjectAltName of the TLS client certificate",
            faults,
            added,
            "Use simpleenroll for a certificate with other names.",
        )


def _rejected(rule: str, faults: list[str], names: Iterable[AltName], advice: str) -> Refusal:
    shown = "; ".join(faults[:_SHOWN]) + (f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else "")
    return Refusal(
        RefusalKind.REJECTED_NAME,
        f"{rule}: {shown}. {advice}",
        names=tuple(
            RefusedName(RefusalKind.REJECTED_NAME, name.kind.value, name.value, "not a name of the certificate")
            for name in names
        ),
    )


_SHOWN = 5


def _words(name: x509.Name) -> str:
    return repr(format_dn(name)[:260]) if name.rdns else "empty"
