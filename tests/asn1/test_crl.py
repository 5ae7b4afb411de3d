from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import CRLEntryExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.asn1.certificate import subject_and_key
from opencertd.asn1.crl import Scope, encode_entry, frame_tbs_cert_list
from opencertd.model.certificates import Revocation, RevocationReason
from tests.ocsp.pki import NOW, pki

moments = st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
revocations = st.builds(Revocation, moments, st.sampled_from(RevocationReason), st.none() | moments)
FLAGS = {
    reason: next(flag for flag in x509.ReasonFlags if flag.value.lower() == reason.rfc_name.lower())
    for reason in RevocationReason
}


def encode(entries: dict[int, Revocation], number: int, this_update: datetime, next_update: datetime) -> bytes:
    ca = pki().ecdsa
    listed = b"".join(encode_entry(serial, revocation) for serial, revocation in entries.items())
    before, after = frame_tbs_cert_list(
        algorithm_der=ca.issuer.signer.algorithm_der,
        issuer_der=subject_and_key(ca.issuer.certificate_der)[0],
        authority_key_identifier=ca.issuer.subject_key_identifier,
        number=number,
        this_update=this_update,
        next_update=next_update,
        size=len(listed),
        scope=Scope(),
    )
    return before + listed + after


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.integers(1, (1 << 159) - 1), revocations, max_size=8),
    st.integers(1, 1 << 64),
    moments,
)
def test_the_bytes_are_those_of_another_implementation(
    entries: dict[int, Revocation], number: int, this_update: datetime
) -> None:
    ca = pki().ecdsa
    next_update = this_update + timedelta(days=7)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(this_update)
        .next_update(next_update)
        .add_extension(x509.AuthorityKeyIdentifier(ca.issuer.subject_key_identifier, None, None), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for serial, revocation in entries.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(revocation.revoked_at)
        if revocation.reason is not RevocationReason.UNSPECIFIED:
            entry = entry.add_extension(x509.CRLReason(FLAGS[revocation.reason]), critical=False)
        if revocation.invalidity_date is not None:
            entry = entry.add_extension(x509.InvalidityDate(revocation.invalidity_date), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    theirs = builder.sign(ca.key, hashes.SHA256())
    assert encode(entries, number, this_update, next_update) == theirs.tbs_certlist_bytes


def test_an_unspecified_reason_is_said_by_saying_nothing() -> None:
    from opencertd.asn1.signed import assemble

    tbs = encode({5: Revocation(NOW, RevocationReason.UNSPECIFIED)}, 1, NOW, NOW + timedelta(days=1))
    algorithm = pki().ecdsa.issuer.signer.algorithm_der
    (entry,) = x509.load_der_x509_crl(assemble(tbs, algorithm, b"signature"))
    assert not [e for e in entry.extensions if e.oid == CRLEntryExtensionOID.CRL_REASON]
