"""Accept: certs-only unless another form is asked, and a sentence where none fits."""

from __future__ import annotations

import dataclasses

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from opencertd.errors import Refusal, RefusalKind
from opencertd.est.forms import CertificateForm, choose_form
from tests.est.rig import USER, Rig, issuers, new_csr
from tests.est.test_server import EST, PKCS10, assert_sentence, certificates

ALL = tuple(CertificateForm)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, CertificateForm.CERTS_ONLY),
        ("", CertificateForm.CERTS_ONLY),
        ("*/*", CertificateForm.CERTS_ONLY),
        ("application/*", CertificateForm.CERTS_ONLY),
        ("application/pkcs7-mime; smime-type=certs-only", CertificateForm.CERTS_ONLY),
        ("Application/PKIX-Cert", CertificateForm.DER),
        ("text/html, application/pkix-cert;q=0.2", CertificateForm.DER),
        ("application/x-pem-file, application/pkcs7-mime;q=0.9", CertificateForm.PEM),
        ("application/x-pem-file, application/pkcs7-mime", CertificateForm.CERTS_ONLY),
        ("*/*;q=0.1, application/pem-certificate-chain", CertificateForm.PEM_CHAIN),
        ("*/*, application/pkcs7-mime;q=0", CertificateForm.DER),
    ],
)
def test_what_is_liked_best(accept: str | None, form: CertificateForm) -> None:
    assert choose_form(accept, ALL) is form


@given(st.text(max_size=200))
def test_any_header_is_answered(accept: str) -> None:
    try:
        assert choose_form(accept, ALL) in ALL
    except Refusal as refusal:
        assert refusal.kind is RefusalKind.NOT_ACCEPTABLE


@pytest_twisted.ensureDeferred
async def test_an_enrolment_is_answered_in_the_form_asked() -> None:
    rig = Rig()
    rig.door.who = USER
    csr = new_csr("CN=forms.test")
    _, body = await rig.ask("POST", f"{EST}/simpleenroll", csr, **PKCS10)
    (issued,) = certificates(body)
    for form, number in [(CertificateForm.PEM, 1), (CertificateForm.PEM_CHAIN, 2)]:
        response, body = await rig.ask("POST", f"{EST}/simpleenroll", csr, **PKCS10, Accept=form.value)
        assert response.headers.getRawHeaders("content-type") == [form.value]
        assert response.headers.getRawHeaders("content-transfer-encoding") is None
        assert response.headers.getRawHeaders("vary") == ["Accept"]
        first, *above = x509.load_pem_x509_certificates(body)
        assert first == issued and 1 + len(above) == number
        for issuer in above:
            first.verify_directly_issued_by(issuer)
    response, body = await rig.ask("POST", f"{EST}/simpleenroll", csr, **PKCS10, Accept="application/pkix-cert")
    assert body == issued.public_bytes(Encoding.DER)
    assert response.length == len(body)


@pytest_twisted.ensureDeferred
async def test_cacerts_are_several() -> None:
    everything = {issuer.certificate_der for issuer in issuers().all()}
    for name in ("application/x-pem-file", "application/pem-certificate-chain"):
        _, body = await Rig().ask("GET", f"{EST}/cacerts", Accept=name)
        assert {c.public_bytes(Encoding.DER) for c in x509.load_pem_x509_certificates(body)} == everything
    response, body = await Rig().ask("GET", f"{EST}/cacerts", Accept="application/pkix-cert")
    assert response.code == 406
    assert b"application/pkcs7-mime" in body and b"pkix-cert" not in body
    assert_sentence(response, body)


@pytest_twisted.ensureDeferred
async def test_nothing_is_issued_for_whoever_takes_no_form_of_it() -> None:
    rig = Rig()
    response, _ = await rig.ask("POST", f"{EST}/simpleenroll", b"", Accept="text/html")
    assert response.code == 401
    rig.door.who = USER
    response, body = await rig.ask("POST", f"{EST}/simpleenroll", new_csr("CN=a.test"), **PKCS10, Accept="text/html")
    assert response.code == 406
    assert_sentence(response, body)
    assert not rig.store.records


@pytest_twisted.ensureDeferred
async def test_a_profile_named_as_an_operation_shadows_none() -> None:
    rig = Rig()
    rig.door.who = USER
    profiles = rig.authority.profiles
    odd = {name: dataclasses.replace(profiles["rsa"], name=name) for name in ("cacerts", "simpleenroll")}
    rig.authority.profiles = {**profiles, **odd}
    response, _ = await rig.ask("GET", f"{EST}/cacerts", User_Agent="test")
    assert response.code == 200
    response, body = await rig.ask("POST", f"{EST}/simpleenroll/simpleenroll", new_csr("CN=a.test"), **PKCS10)
    (certificate,) = certificates(body)
    rsa = issuers().by_name("rsa")
    assert rsa is not None
    certificate.verify_directly_issued_by(rsa.certificate)
    response, _ = await rig.ask("GET", f"{EST}/simpleenroll")
    assert response.code == 405
