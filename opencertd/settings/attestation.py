"""`[validation.attestation]`: whose word is taken for what a device is and which key it holds."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from pydantic import BaseModel, ConfigDict

from opencertd.asn1.pem import parse_pem
from opencertd.errors import StartError
from opencertd.validation.attestation import FORMATS, Roots


class AttestationSettings(BaseModel):
    """Files of root certificates, by format of attestation; a format without any is not taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tpm: tuple[str, ...] = ()
    apple: tuple[str, ...] = ()
    step: tuple[str, ...] = ()

    def files(self) -> dict[str, tuple[str, ...]]:
        """The files of each format that is taken."""
        return {format_: getattr(self, format_) for format_ in FORMATS if getattr(self, format_)}

    def roots(self) -> Roots:
        """The roots, read now. Raises StartError that names the key and the file."""
        return {
            format_: tuple(root for path in paths for root in _read_roots(f"validation.attestation.{format_}", path))
            for format_, paths in self.files().items()
        }


def _read_roots(key: str, path: str) -> tuple[x509.Certificate, ...]:
    try:
        blocks = parse_pem(Path(path).read_bytes())
        roots = tuple(x509.load_der_x509_certificate(der) for label, der in blocks if label == "CERTIFICATE")
    except OSError as error:
        raise StartError(f"{key}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise StartError(f"{key}: cannot read the certificates in {path}: {error}") from None
    if not roots:
        raise StartError(f"{key}: there is no PEM certificate in {path}")
    for root in roots:
        if not _is_ca(root):
            raise StartError(f"{key}: a certificate in {path} is not a CA's; devices are attested by their maker's CA")
    return roots


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
