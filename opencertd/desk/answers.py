"""Sub CAs of others: a key and a CSR are made here, another CA signs, and its certificate is taken in."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.asn1 import cms, pem
from opencertd.cli.files import read_input
from opencertd.desk.deeds import Desk
from opencertd.desk.pending_requests import PendingRequest
from opencertd.errors import StartError
from opencertd.first_start import run_now
from opencertd.issuance.ca_certificates import CA_KEY_USAGE
from opencertd.issuance.existing import chain_of_key, check_ca
from opencertd.issuance.key_types import KeyType
from opencertd.keys.files import read_private_key
from opencertd.keys.key_uri import in_token
from opencertd.keys.kinds import PrivateKey, scheme_of
from opencertd.model.certificates import IssuerRecord


def request_certificate(
    desk: Desk, name: str, subject: x509.Name, key_type: KeyType, path_length: int | None
) -> tuple[PendingRequest, bool]:
    """A new key and the request for it, durably kept; the one that waits already if it has the same subject.

    Also answers whether it is new. Raises StartError.
    """
    waiting = desk.pending.get(name)
    if waiting is not None:
        asked = x509.load_pem_x509_csr(waiting.csr_pem.encode()).subject
        if asked != subject:
            raise StartError(
                f"a request for {name!r} with the subject {asked.rfc4514_string()!r} waits already: take another name"
            )
        return waiting, False
    if desk.issuers().by_name(name) is not None:
        raise StartError(f"there is an issuer {name!r} already")
    held = desk.keys.make(name, key_type.issuing)
    try:
        csr = _csr(held.key, key_type.scheme, subject, path_length)
        pending = PendingRequest(name, held.reference, key_type.scheme, csr.public_bytes(Encoding.PEM).decode())
        desk.pending.keep(pending)
    except BaseException:
        desk.keys.drop(held)
        raise
    return pending, True


def _csr(
    key: PrivateKey, scheme_name: str | None, subject: x509.Name, path_length: int | None
) -> x509.CertificateSigningRequest:
    scheme = scheme_of(key.public_key(), scheme_name)
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(CA_KEY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, scheme.digest, rsa_padding=scheme.padding)


def take_answer(desk: Desk, name: str, files: Sequence[str]) -> IssuerRecord:
    """The certificate (and the chain above it) in the files makes the CA of that name an issuer.

    Raises StartError in words; then nothing has changed.
    """
    pending = desk.pending.get(name)
    if pending is None:
        raise StartError(f"no request of the name {name!r} waits for a certificate: `opencert ca csr` makes one")
    certificates = read_certificates(files)
    where = " and ".join(files)
    wanted = x509.load_pem_x509_csr(pending.csr_pem.encode()).public_key()
    mine = [certificate for certificate in certificates if certificate.public_key() == wanted]
    if not mine:
        raise StartError(f"no certificate in {where} is for the key that was made for {name!r}")
    known = [issuer.certificate for issuer in desk.issuers().all()]
    certificate, parents = chain_of_key([*certificates, *known], mine[0].public_key(), where)  # type: ignore[arg-type]
    check_ca(certificate, where)
    now = desk.clock.now()
    if now >= certificate.not_valid_after_utc:
        raise StartError(f"the certificate in {where} expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    key = _held(desk, pending)
    if key is not None and key.public_key() != certificate.public_key():
        raise StartError(f"the key file {pending.key_reference} is another one than that of the request")
    chain = (certificate.public_bytes(Encoding.DER), *parents)
    record = run_now(desk.deeds().adopt(name, pending.key_reference, pending.scheme, chain))
    desk.pending.forget(name)
    desk.publish_anchors()
    return record


def _held(desk: Desk, pending: PendingRequest) -> PrivateKey | None:
    """The key in its file; None for one in a token, which is asked when it is to sign."""
    if in_token(pending.key_reference):
        return None
    return read_private_key(desk.state.keys / pending.key_reference, desk.passphrase)


def read_certificates(files: Sequence[str]) -> list[x509.Certificate]:
    """The certificates in files of PEM, DER or PKCS#7. Raises StartError when a file has none."""
    found = []
    for file in files:
        data = read_input(file)
        try:
            ders = pem.parse_certificates(data) if b"-----BEGIN" in data else _der(data)
            found += [x509.load_der_x509_certificate(der) for der in ders]
        except (ValueError, UnsupportedAlgorithm) as error:
            raise StartError(f"cannot read the certificates in {file}: {error}") from None
        if not ders:
            raise StartError(f"there is no certificate in {file}")
    return found


def _der(data: bytes) -> tuple[bytes, ...]:
    try:
        x509.load_der_x509_certificate(data)
    except ValueError:
        return cms.decode_certs_only(data)
    return (data,)
