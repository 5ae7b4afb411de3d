"""A client goes by an OCSP answer only when all of it is right. The answers are made by `cryptography`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from opencertd.client.errors import ClientError
from opencertd.client.ocsp_answer import OcspFinding, OcspQuestion, judge
from tests.ocsp.pki import NOW as MOMENT
from tests.ocsp.pki import Ca, build_ca, build_certificate, pki, rsa_key

NOW = MOMENT.replace(microsecond=0)
HOUR = timedelta(hours=1)
CA = pki().ecdsa
LEAF = CA.issue(5)
NONCE = b"n" * 32
QUESTION = OcspQuestion(LEAF, CA.certificate)
KEY = ec.generate_private_key(ec.SECP256R1())


def delegate(ca: Ca = CA, key: Any = KEY, **options: Any) -> x509.Certificate:
    given = {"responder": True} | options
    return build_certificate("Responder", key.public_key(), ca.certificate.subject, ca.key, **given)


def answer(
    *,
    leaf: x509.Certificate = LEAF,
    ca: Ca = CA,
    by: x509.Certificate | None = None,
    key: Any = KEY,
    begins: timedelta = timedelta(0),
    ends: timedelta | None = HOUR,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    nonce: bytes | None = None,
    enclose: bool = True,
    named: bool = False,
    hashed: Any = hashes.SHA1,
) -> bytes:
    by = by or delegate()
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=leaf,
        issuer=ca.certificate,
        algorithm=hashed(),
        cert_status=status,
        this_update=NOW + begins,
        next_update=None if ends is None else NOW + ends,
        revocation_time=NOW - HOUR if revoked else None,
        revocation_reason=x509.ReasonFlags.certificate_hold if revoked else None,
    )
    encoding = ocsp.OCSPResponderEncoding.NAME if named else ocsp.OCSPResponderEncoding.HASH
    builder = builder.responder_id(encoding, by)
    if enclose:
        builder = builder.certificates([by])
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def found(answer_der: bytes, question: OcspQuestion = QUESTION) -> OcspFinding:
    return judge(answer_der, question, NOW)


def test_a_delegates_answer_counts() -> None:
    for named in (False, True):
        finding = found(answer(named=named))
        assert (finding.status, finding.this_update, finding.next_update) == ("good", NOW, NOW + HOUR)
        assert finding.signed_by.startswith("CN=Responder, named by the CA")
        assert finding.remarks == ()


def own() -> bytes:
    """The CA's own answer, at whose end its signature is."""
    return answer(by=CA.certificate, key=CA.key, enclose=False)


def test_the_cas_own_answer_counts() -> None:
    finding = found(own())
    assert finding.signed_by == "the CA, CN=Test ecdsa"


def test_an_rsa_delegate_counts() -> None:
    assert found(answer(by=delegate(key=rsa_key()), key=rsa_key())).status == "good"


def test_revoked_has_its_time_and_reason() -> None:
    finding = found(answer(status=ocsp.OCSPCertStatus.REVOKED))
    assert (finding.status, finding.revoked_at, finding.reason) == ("revoked", NOW - HOUR, "certificateHold")
    assert found(answer(status=ocsp.OCSPCertStatus.UNKNOWN)).status == "unknown"


def test_a_nonce_that_was_sent_is_echoed() -> None:
    question = OcspQuestion(LEAF, CA.certificate, NONCE)
    assert found(answer(nonce=NONCE), question).nonce
    assert not found(answer(nonce=NONCE)).nonce
    for wrong, words in ((None, "not in the answer"), (b"m" * 32, "another nonce")):
        with pytest.raises(ClientError, match=words):
            found(answer(nonce=wrong), question)


def test_the_request_is_what_others_read() -> None:
    request = ocsp.load_der_ocsp_request(OcspQuestion(LEAF, CA.certificate, NONCE).encode())
    theirs = ocsp.OCSPRequestBuilder().add_certificate(LEAF, CA.certificate, hashes.SHA1()).build()
    assert request.serial_number == 5
    assert (request.issuer_name_hash, request.issuer_key_hash) == (theirs.issuer_name_hash, theirs.issuer_key_hash)
    assert request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == NONCE
    assert QUESTION.encode() == theirs.public_bytes(Encoding.DER)


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
NAMESAKE = build_ca("ecdsa", OTHER_KEY, pki().root)
"""Another CA of the same name."""

WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "a wrong signature": (lambda: own()[:-1] + bytes([own()[-1] ^ 1]), "signature is wrong|read"),
    "a changed status": (lambda: answer().replace(b"\x80\0", b"\x82\0", 1), "signature is wrong"),
    "no OCSPSigning": (lambda: answer(by=delegate(responder=False)), "OCSPSigning"),
    "another CA's delegate": (lambda: answer(by=delegate(pki().rsa)), "no certificate by the CA"),
    "a namesake's delegate": (lambda: answer(by=delegate(NAMESAKE)), "no certificate by the CA"),
    "nobody enclosed": (lambda: answer(enclose=False), "nor encloses"),
    "an expired delegate": (lambda: answer(by=delegate(not_after=NOW - HOUR)), "good from"),
    "a delegate to come": (lambda: answer(by=delegate(not_before=NOW + HOUR)), "good from"),
    "another serial": (lambda: answer(leaf=CA.issue(6)), "other certificates"),
    "another issuer": (lambda: answer(leaf=pki().rsa.issue(5), ca=pki().rsa), "other certificates"),
    "another hash": (lambda: answer(hashed=hashes.SHA256), "other certificates"),
    "ended": (lambda: answer(begins=-2 * HOUR, ends=-HOUR), "has ended"),
    "to come": (lambda: answer(begins=HOUR, ends=2 * HOUR), "begins only"),
    "garbage": (lambda: b"garbage", "cannot|can be read"),
    "try later": (lambda: b"\x30\x03\x0a\x01\x03", "tryLater"),
    "unauthorized": (lambda: b"\x30\x03\x0a\x01\x06", "unauthorized"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_nobody_must_go_by(case: str) -> None:
    make, words = WRONG[case]
    with pytest.raises(ClientError, match=words):
        found(make())


def test_what_is_worth_knowing_is_said() -> None:
    bare = delegate(responder=False)
    assert "nextUpdate" in " ".join(found(answer(ends=None)).remarks)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    checked = (
        x509.CertificateBuilder(extensions=[])
        .subject_name(bare.subject)
        .issuer_name(bare.issuer)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + HOUR)
        .add_extension(usage, critical=False)
        .sign(CA.key, hashes.SHA256())
    )
    assert re.search("ocsp-nocheck", " ".join(found(answer(by=checked)).remarks))
