"""A process that lints certificates with pkilint, so that its pure Python holds up nobody else.

A line of base64 on standard input is a certificate in DER; a line of JSON on standard output is the list of what
pkilint's RFC 5280 linter finds at severity ERROR or above: each whether it is about the subject or the subjectAltName,
and `code: message`. It ends when standard input does.
"""

from __future__ import annotations

import base64
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from pkilint.loader import RFC5280CertificateDocumentLoader
from pkilint.pkix import certificate, extension, name
from pkilint.validation import ValidationFindingSeverity

Finding = tuple[bool, str]


def linter() -> Callable[[bytes], list[Finding]]:
    """What finds the faults of a certificate in DER."""
    validator = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    loader = RFC5280CertificateDocumentLoader()

    def lint(der: bytes) -> list[Finding]:
        try:
            document = loader.load_der_document(der)
        except ValueError as error:
            return [(False, f"pkilint cannot read the certificate: {error}")]
        return [
            (
                _in_names(result.node),
                f"{described.finding.code}: {described.message}" if described.message else described.finding.code,
            )
            for result in validator.validate(document.root)
            for described in result.finding_descriptions
            if described.finding.severity <= ValidationFindingSeverity.ERROR
        ]

    return lint


def _in_names(node: Any) -> bool:
    place = node.path.split(".")
    return place[:3] == ["certificate", "tbsCertificate", "subject"] or "subjectAltName" in place


def main() -> None:
    """Answer until standard input ends."""
    logging.disable()  # pkilint logs what it finds odd, which is a client's text
    lint = linter()
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(lint(base64.b64decode(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
