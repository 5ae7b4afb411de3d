"""A CA of every key type issues for every kind of key; CRLs and OCSP answers of every kind verify."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import mlkem
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from opencertd.asn1 import ocsp as our_ocsp
from opencertd.asn1.crl import Scope, encode_entry
from opencertd.asn1.dn import parse_dn
from opencertd.asn1.ocsp import CertStatus
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.clock import FixedClock
from opencertd.crl.messages import Draft, UnsoundCrl, build_crl, build_tbs
from opencertd.errors import Refusal, RefusalKind
from opencertd.first_start import at_once, run_now
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.key_types import parse_key_type, parse_key_types
from opencertd.keys.kinds import KINDS, PublicKey, SubjectKey, kind_of, scheme_of, verifies
from opencertd.keys.signer import SoftwareSigner
from opencertd.model.certificates import IssuerRole, Revocation, RevocationReason
from opencertd.ocsp.responder import responder_scheme
from opencertd.own_certificates import OwnCertificates
from tests.ca import NOW, TestCa, hierarchy, make_ca, make_csr, make_issuers, request, rsa_key, spki_der
from tests.interop.clients import openssl

TYPES = ("rsa-2048", "rsa-pss-2048", "ecdsa", "ecdsa-p384", "ecdsa-p521", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65")
TYPES = (*TYPES, "ml-dsa-87")
SUBJECTS = tuple(KINDS)
OPENSSL_3_0_VERIFIES = tuple(t for t in TYPES if not t.startswith("ml-dsa"))
"""Debian 12's. What it cannot verify is left to the OpenSSL 4 inside `cryptography`, which judges all of them."""


def ca_of(*types: str) -> TestCa:
    return make_ca(issuers=make_issuers(hierarchy(*types)))


def subject_key(name: str) -> SubjectKey:
    if name == "rsa":
        return rsa_key().public_key()
    if name.startswith("ml-kem"):
        kinds = {"ml-kem-768": mlkem.MLKEM768PrivateKey, "ml-kem-1024": mlkem.MLKEM1024PrivateKey}
        return kinds[name].generate().public_key()
    return KINDS[name].make().public_key()


def issue(ca: TestCa, key: SubjectKey, profile: str = "default") -> x509.Certificate:
    issued = run_now(ca.authority.issue(dataclasses.replace(request(), spki_der=spki_der(key), profile=profile)))
    return x509.load_der_x509_certificate(issued.certificate_der)


def issuing(ca: TestCa) -> Issuer:
    (issuer,) = ca.issuers.issuing()
    return issuer


@pytest.mark.parametrize("key_type", TYPES)
def test_the_hierarchy(key_type: str) -> None:
    root, below = ca_of(key_type).issuers.all()
    assert (root.name, below.name) == (f"{below.name}-root", parse_key_type(key_type).issuer)
    root.certificate.verify_directly_issued_by(root.certificate)
    below.certificate.verify_directly_issued_by(root.certificate)
    pss = key_type.startswith("rsa-pss")
    assert (below.certificate.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSASSA_PSS) is pss


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("key_type", TYPES)
def test_every_issuer_certifies_every_kind(key_type: str, subject: str) -> None:
    ca, key = ca_of(key_type), subject_key(subject)
    leaf = issue(ca, key)
    leaf.verify_directly_issued_by(issuing(ca).certificate)
    assert leaf.public_key() == key
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    kem = subject.startswith("ml-kem")
    assert (usage.digital_signature, usage.key_encipherment) == (not kem, kem or subject == "rsa")
    assert not (usage.data_encipherment or usage.key_agreement or usage.key_cert_sign or usage.crl_sign)


@pytest.mark.parametrize("key_type", OPENSSL_3_0_VERIFIES)
def test_openssl_verifies_the_chain(tmp_path: Path, key_type: str) -> None:
    ca = ca_of(key_type)
    root, below = ca.issuers.all()
    leaf = issue(ca, subject_key("p-256"))
    files = {"root": root.certificate, "ca": below.certificate, "leaf": leaf}
    for name, certificate in files.items():
        (tmp_path / name).write_bytes(certificate.public_bytes(Encoding.PEM))
    when = ("-x509_strict", "-attime", str(int(NOW.timestamp())))
    openssl("verify", *when, "-CAfile", tmp_path / "root", "-untrusted", tmp_path / "ca", tmp_path / "leaf")


def test_default_chooses_the_issuer_of_the_keys_family_else_the_first() -> None:
    ca = ca_of("ecdsa", "rsa-2048", "ml-dsa-44")
    chosen = {name: issue(ca, subject_key(name)).issuer for name in SUBJECTS}
    of = {issuer.name: issuer.certificate.subject for issuer in ca.issuers.issuing()}
    assert {name: next(k for k, v in of.items() if v == subject) for name, subject in chosen.items()} == {
        "rsa": "rsa",
        "p-256": "ecdsa",
        "p-384": "ecdsa",
        "p-521": "ecdsa",
        "ed25519": "ecdsa",
        "ed448": "ecdsa",
        "ml-dsa-44": "ml-dsa",
        "ml-dsa-65": "ml-dsa",
        "ml-dsa-87": "ml-dsa",
        "ml-kem-768": "ml-dsa",
        "ml-kem-1024": "ml-dsa",
    }
    assert issue(ca, subject_key("rsa"), "ml-dsa").issuer == of["ml-dsa"]
    pure = ca_of("ed25519", "rsa-pss-2048")
    assert issue(pure, subject_key("rsa")).signature_algorithm_oid == x509.SignatureAlgorithmOID.RSASSA_PSS
    assert issue(pure, subject_key("ml-dsa-44")).signature_algorithm_oid == x509.SignatureAlgorithmOID.ED25519


@pytest.mark.parametrize("key_type", TYPES)
def test_crls(key_type: str) -> None:
    """Each under its issuer's key and algorithm; a CRL under another algorithm is not published."""
    for issuer in ca_of(key_type).issuers.all():
        entries = (encode_entry(7, Revocation(NOW, RevocationReason.SUPERSEDED)),)
        draft, sizes = Draft(issuer, 1, NOW, NOW + timedelta(days=7), Scope()), tuple(map(len, entries))
        tbs = build_tbs(draft, entries)
        signature = run_now(signed_by(issuer, tbs))
        crl = x509.load_der_x509_crl(build_crl(draft, sizes, tbs, signature))
        assert crl.is_signature_valid(public(issuer))
        assert [entry.serial_number for entry in crl] == [7]
        with pytest.raises(UnsoundCrl, match="does not verify"):
            build_crl(draft, sizes, tbs, signature[:-1] + bytes((signature[-1] ^ 1,)))


@pytest.mark.parametrize("key_type", TYPES)
def test_ocsp_answers(tmp_path: Path, key_type: str) -> None:
    """By a responder with a key of its issuer's kind, certified by that issuer, in its issuer's way to sign."""
    ca = ca_of(key_type)
    own = OwnCertificates(ca.authority, tmp_path, None, FixedClock(NOW), at_once)
    for issuer in ca.issuers.all():
        made = run_now(own.responder(issuer))
        made.certificate.verify_directly_issued_by(issuer.certificate)
        key = made.key.public_key()
        assert kind_of(key) is kind_of(issuer.signer.public_key)
        signer = SoftwareSigner(made.key, at_once, responder_scheme(key, issuer))
        assert signer.algorithm_der == issuer.signer.algorithm_der
        response = answer(issuer, made.certificate, signer)
        assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
        assert verifies(key, response.signature, response.tbs_response_bytes, signer.algorithm_der)
        assert response.signature_algorithm_oid == made.certificate.signature_algorithm_oid


def answer(issuer: Issuer, responder: x509.Certificate, signer: SoftwareSigner) -> ocsp.OCSPResponse:
    asked = ocsp.OCSPRequestBuilder().add_certificate(responder, issuer.certificate, hashes.SHA256()).build()
    (cert_id,) = our_ocsp.parse_request(asked.public_bytes(Encoding.DER)).cert_ids
    single = our_ocsp.encode_single_response(cert_id.der, CertStatus.GOOD.value, NOW, NOW + timedelta(hours=1))
    responder_der = responder.public_bytes(Encoding.DER)
    data = our_ocsp.encode_response_data(our_ocsp.responder_id(responder_der), NOW, [single], None)
    signature = run_now(signed_by(signer, data))
    der = our_ocsp.encode_response(data, signer.algorithm_der, signature, our_ocsp.encode_certs(responder_der))
    return ocsp.load_der_ocsp_response(der)


async def signed_by(holder: Issuer | SoftwareSigner, data: bytes) -> bytes:
    return await (holder.signer if isinstance(holder, Issuer) else holder).sign(data)


def public(issuer: Issuer) -> PublicKey:
    key = issuer.certificate.public_key()
    assert isinstance(key, PublicKey)
    return key


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.schemes], ids=lambda kind: kind.name)
def test_requests_of_every_kind_are_read(kind: object) -> None:
    key = KINDS[getattr(kind, "name", "")].make()
    csr = make_csr(key)
    assert parse_csr(csr).spki_der == spki_der(key.public_key())
    with pytest.raises(Refusal, match="does not verify") as caught:
        parse_csr(csr[:-1] + bytes((csr[-1] ^ 1,)))
    assert caught.value.kind is RefusalKind.BAD_CSR


@pytest.mark.parametrize(
    "text", ["", "dsa", "rsa-1024", "rsa-16384", "rsa-3071", "rsa-pss-", "p-256", "ec", "ml-dsa", "ml-kem-768", "RSA"]
)
def test_what_is_no_key_type(text: str) -> None:
    with pytest.raises(ValueError, match=r"no key type|no size"):
        parse_key_type(text)


def test_key_types_together() -> None:
    assert [t.issuer for t in parse_key_types(())] == ["ecdsa", "rsa"]
    assert [t.issuer for t in parse_key_types(("ml-dsa-65", "rsa", "rsa-pss"))] == ["ml-dsa", "rsa", "rsa-pss"]
    with pytest.raises(ValueError, match="two CAs named 'rsa'"):
        parse_key_types(("rsa-2048", "rsa-4096"))
    made = hierarchy("ml-dsa-44")
    records = {authority.record.name: authority.record for authority in made}
    assert parse_key_type("ml-dsa-44").made(records)
    assert not parse_key_type("ml-dsa-65").made(records)
    assert not parse_key_type("rsa").made(records)
    assert [r.role for r in records.values()] == [IssuerRole.ROOT, IssuerRole.ISSUING]
    pss = {authority.record.name: authority.record for authority in hierarchy("rsa-pss-2048")}
    assert parse_key_type("rsa-pss-2048").made(pss)
    plain = {name: dataclasses.replace(record, scheme=None) for name, record in pss.items()}
    assert not parse_key_type("rsa-pss-2048").made(plain)
    assert scheme_of(made[0].key.public_key()).name == "ml-dsa-44"
    assert parse_dn("CN=Test CA ML-DSA Root,O=Testers,C=DE") == made_subject(made[0].record.certificate_der)


def made_subject(der: bytes) -> x509.Name:
    return x509.load_der_x509_certificate(der).subject
