"""RFC 6960: the protocol itself."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as peer
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from opencertd.asn1 import der
from opencertd.keys.kinds import KINDS
from tests.conformance import shows
from tests.ocsp.conformance.answers import (
    ARCHIVE_CUTOFF,
    EXTENDED_REVOKE,
    GOOD,
    NONCE,
    POST,
    REVOKED,
    Status,
    answered,
    archiving,
    browser,
    extended,
    extension,
    own_leaf,
    own_responder,
    path,
    request_with,
    times,
)
from tests.ocsp.people import admission, person, signed
from tests.ocsp.pki import NOW, build_ca
from tests.ocsp.rig import Rig, build_cert_id, build_request
from tests.ocsp.test_terms import RSA, RSA_512, RsaRig, preferring

OCSP = "1.3.6.1.5.5.7.48.1"


@shows("6960 §2.2/1")
async def test_2_2_signed() -> None:
    rig = Rig()
    rig.revoke(2)
    for serials in ((1,), (2,), (999,), (1, 2, 999)):
        response = await rig.ask(*serials)
        key = response.certificates[0].public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


@shows("6960 §2.2/2")
async def test_2_2_by_whom_the_ca_has_named() -> None:
    rig = Rig()
    for ca in (rig.pki.ecdsa, rig.pki.rsa, rig.pki.root):
        (delegate,) = (await rig.ask(1, ca=ca)).certificates
        delegate.verify_directly_issued_by(ca.certificate)


@shows("6960 §2.2/3")
async def test_2_2_never_issued_is_said_to_be_meant() -> None:
    response = await extended().ask(999)
    assert response.certificate_status is REVOKED
    assert response.extensions.get_extension_for_oid(EXTENDED_REVOKE)


@shows("6960 §2.2/4")
async def test_2_2_never_issued_is_on_hold() -> None:
    assert (await extended().ask(999)).revocation_reason is x509.ReasonFlags.certificate_hold


@shows("6960 §2.2/5")
async def test_2_2_never_issued_since_1970() -> None:
    assert (await extended().ask(999)).revocation_time_utc == datetime(1970, 1, 1, tzinfo=UTC)


@shows("6960 §2.2/6")
async def test_2_2_never_issued_refers_to_no_crl() -> None:
    assert len((await extended().ask(999)).single_extensions) == 0


@shows("6960 §2.3/1")
async def test_2_3_malformed() -> None:
    rig = Rig()
    for wrong in (b"", b"garbage", rig.request(1)[:-1], rig.request(1) + b"\0", b"\x30\0"):
        assert (await answered(rig, wrong)).response_status is Status.MALFORMED_REQUEST


@shows("6960 §2.3/2")
async def test_2_3_try_later() -> None:
    rig = Rig()
    rig.store.away = OSError("gone")
    assert (await rig.ask(1)).response_status is Status.TRY_LATER


@shows("6960 §2.3/3")
async def test_2_3_signature_required() -> None:
    rig = Rig(admission=admission(required=True))
    assert (await rig.ask(1)).response_status is Status.SIG_REQUIRED


@shows("6960 §2.3/4")
async def test_2_3_unauthorized() -> None:
    stranger = build_ca("stranger", ec.generate_private_key(ec.SECP256R1())).issuer
    foreign = await answered(Rig(), build_request(build_cert_id(stranger, 1)))
    refused = await Rig(admission=admission(check=lambda inquiry: False)).ask(1)
    assert foreign.response_status is refused.response_status is Status.UNAUTHORIZED


@shows("6960 §2.4/1")
async def test_2_4_this_update() -> None:
    response = await Rig().ask(1)
    assert response.this_update_utc == NOW.replace(microsecond=0), "when the store was asked"


@shows("6960 §2.4/2")
async def test_2_4_produced_at() -> None:
    rig = Rig()
    for _ in range(2):
        assert (await rig.ask(1, nonce=NONCE)).produced_at_utc == rig.clock.now().replace(microsecond=0)
        rig.pass_time(timedelta(minutes=1))


@shows("6960 §2.5/1")
async def test_2_5_made_beforehand() -> None:
    rig = Rig()
    first = await rig.ask(1)
    rig.pass_time(timedelta(minutes=10))
    again = await rig.ask(1)
    assert again.this_update_utc == first.this_update_utc == again.produced_at_utc


@shows("6960 §2.6/1")
def test_2_6_issued_by_the_ca_itself() -> None:
    certificate, issuer = own_responder()
    certificate.verify_directly_issued_by(issuer)


@shows("6960 §3.1/1")
def test_3_1_certificates_name_the_responder() -> None:
    places = own_leaf().extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    (url,) = (each.access_location.value for each in places if each.access_method == AuthorityInformationAccessOID.OCSP)
    assert url == "http://ca.test/ca/ocsp"


@shows("6960 §4.1.2/1")
async def test_4_1_2_unknown_extensions() -> None:
    rig = Rig()
    for critical, status in ((False, Status.SUCCESSFUL), (True, Status.MALFORMED_REQUEST)):
        odd = extension("1.2.3.4", b"?", critical=critical)
        for request in (request_with(rig, single=odd), request_with(rig, whole=odd)):
            assert (await answered(rig, request)).response_status is status


@shows("6960 §4.1.2/2")
async def test_4_1_2_signers_say_who_they_are() -> None:
    who = person()
    rig = Rig(admission=admission(who.record()))
    named, nameless = signed(rig.request(1), who), signed(rig.request(1), who, name=None)
    assert (await answered(rig, named)).response_status is Status.SUCCESSFUL
    assert (await answered(rig, nameless)).response_status is Status.MALFORMED_REQUEST


@shows("6960 §4.2.1/1")
async def test_4_2_1_errors_are_bare() -> None:
    assert (await Rig().server.answer(b"garbage")).body == der.sequence(der.enumerated(1))


@shows("6960 §4.2.1/2")
async def test_4_2_1_basic() -> None:
    body = (await Rig().server.answer(Rig().request(1))).body
    assert der.oid(f"{OCSP}.1") in body[:40]


@shows("6960 §4.2.1/3")
async def test_4_2_1_der() -> None:
    rig = Rig()
    body = (await rig.server.answer(rig.request(1, 999))).body
    encoded = peer.load_der_ocsp_response(body).public_bytes(Encoding.DER)
    assert encoded == body


@shows("6960 §4.2.1/4")
async def test_4_2_1_what_is_signed() -> None:
    rig = RsaRig()
    response = await rig.ask(1)
    key = response.certificates[0].public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert RSA.verifies(key, response.signature, response.tbs_response_bytes)
    assert not RSA.verifies(key, response.signature, response.tbs_response_bytes + b"\0")


@shows("6960 §4.2.2.1/1")
async def test_4_2_2_1_times() -> None:
    rig = Rig()
    rig.revoke(2)
    body = (await rig.server.answer(rig.request(2))).body
    found = times(peer.load_der_ocsp_response(body), body)
    assert len(found) == 4  # producedAt, revocationTime, thisUpdate, nextUpdate
    assert all(re.fullmatch(rb"\d{14}Z", time) for time in found)


@shows("6960 §4.2.2.2/1")
def test_4_2_2_2_ocsp_signing() -> None:
    certificate, _ = own_responder()
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]


@shows("6960 §4.2.2.2/2")
async def test_4_2_2_2_by_the_same_key() -> None:
    rig = Rig()
    for ca in (rig.pki.ecdsa, rig.pki.rsa):
        (delegate,) = (await rig.ask(1, ca=ca)).certificates
        for issued in (delegate, ca.issue(1)):
            issued.verify_directly_issued_by(ca.certificate)


@shows("6960 §4.2.2.2.1/1")
def test_4_2_2_2_1_nocheck_is_not_critical() -> None:
    certificate, _ = own_responder()
    assert not certificate.extensions.get_extension_for_class(x509.OCSPNoCheck).critical


@shows("6960 §4.2.2.2.1/2")
def test_4_2_2_2_1_nocheck_is_null() -> None:
    certificate, _ = own_responder()
    assert der.sequence(der.oid(f"{OCSP}.5"), der.octet_string(der.null())) in certificate.tbs_certificate_bytes


@shows("6960 §4.2.2.3/1")
async def test_4_2_2_3_version() -> None:
    response = await Rig().ask(1)
    tbs = response.tbs_response_bytes
    first = der.children(tbs, der.read_only(tbs, der.SEQUENCE))[0]
    assert first.tag in {0xA1, 0xA2}, "version 1 is the default and left out, as DER wants it"


@shows("6960 §4.2.2.3/2")
async def test_4_2_2_3_who_signed() -> None:
    by_key, by_name = RsaRig(), RsaRig()
    by_name.by_name = True
    response = await by_key.ask(1)
    digest = x509.SubjectKeyIdentifier.from_public_key(response.certificates[0].public_key()).digest
    assert response.responder_key_hash == digest
    response = await by_name.ask(1)
    assert response.responder_name == response.certificates[0].subject


@shows("6960 §4.2.2.3/3")
async def test_4_2_2_3_each_certificate() -> None:
    response = await Rig().ask(3, 1, 999, 2)
    assert [single.serial_number for single in response.responses] == [3, 1, 999, 2]


@shows("6960 §4.2.2.3/4")
async def test_4_2_2_3_no_other() -> None:
    assert len(list((await Rig().ask(1)).responses)) == 1


@shows("6960 §4.4.1/1")
async def test_4_4_1_nonce() -> None:
    response = await Rig().ask(1, nonce=NONCE)
    assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == NONCE


@shows("6960 §4.4.4/1")
async def test_4_4_4_archive_cutoff() -> None:
    rig = archiving()
    rig.revoke(2)
    for serial in (1, 2):
        assert (await rig.ask(serial)).single_extensions.get_extension_for_oid(ARCHIVE_CUTOFF)


@shows("6960 §4.4.4/2")
async def test_4_4_4_archive_cutoff_is_a_time_of_one_certificate() -> None:
    response = await archiving().ask(1)
    assert len(response.extensions) == 0
    value = response.single_extensions.get_extension_for_oid(ARCHIVE_CUTOFF).value.public_bytes()
    assert value == der.generalized_time(response.produced_at_utc - timedelta(days=365))


@shows("6960 §4.4.6/1")
async def test_4_4_6_service_locator() -> None:
    rig = Rig()
    name = rig.pki.ecdsa.certificate.subject.public_bytes()
    for critical in (False, True):
        locator = extension(f"{OCSP}.7", der.sequence(name), critical=critical)
        assert (await answered(rig, request_with(rig, single=locator))).certificate_status is GOOD
    misplaced = extension(f"{OCSP}.7", der.sequence(name), critical=True)
    assert (await answered(rig, request_with(rig, whole=misplaced))).response_status is Status.MALFORMED_REQUEST


@shows("6960 §4.4.7.2.1/1")
async def test_4_4_7_2_1_preferred() -> None:
    rig = RsaRig()
    response = await answered(rig, preferring(rig, der.sequence(der.oid("1.2.3")), RSA_512.algorithm_der))
    key = response.certificates[0].public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert RSA_512.verifies(key, response.signature, response.tbs_response_bytes)


@shows("6960 §4.4.7.2.2/1")
async def test_4_4_7_2_2_preferred_beside_what_is_prepared() -> None:
    rig = RsaRig()
    await rig.ask(1)
    response = await answered(rig, preferring(rig, RSA_512.algorithm_der))
    key = response.certificates[0].public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert RSA_512.verifies(key, response.signature, response.tbs_response_bytes)


@shows("6960 §4.4.8/1")
async def test_4_4_8_among_response_extensions() -> None:
    assert [each.oid for each in (await extended().ask(999)).extensions] == [EXTENDED_REVOKE]


@shows("6960 §4.4.8/2")
async def test_4_4_8_of_no_single_certificate() -> None:
    response = await extended().ask(1, 999)
    encoded = der.oid(EXTENDED_REVOKE.dotted_string)
    assert response.tbs_response_bytes.count(encoded) == 1
    assert response.extensions.get_extension_for_oid(EXTENDED_REVOKE)


@shows("6960 §4.4.8/3")
async def test_4_4_8_null() -> None:
    found = (await extended().ask(999)).extensions.get_extension_for_oid(EXTENDED_REVOKE)
    assert found.value.public_bytes() == der.null()


@shows("6960 §4.4.8/4")
async def test_4_4_8_not_critical() -> None:
    assert not (await extended().ask(999)).extensions.get_extension_for_oid(EXTENDED_REVOKE).critical


@shows("6960 §5.1/1")
def test_5_1_strong() -> None:
    """Whatever key a responder has: SHA-256 at least, where a hash is used."""
    for kind in KINDS.values():
        for scheme in kind.schemes:
            assert scheme.digest is None or scheme.digest.digest_size >= 32, scheme.name


SHA1_WITH_RSA = der.sequence(der.oid("1.2.840.113549.1.1.5"), der.null())
MD5_WITH_RSA = der.sequence(der.oid("1.2.840.113549.1.1.4"), der.null())


@shows("6960 §5.1.1/1")
async def test_5_1_1_never_weak() -> None:
    rig = RsaRig()
    response = await answered(rig, preferring(rig, SHA1_WITH_RSA, MD5_WITH_RSA))
    assert isinstance(response.signature_hash_algorithm, hashes.SHA256)


@shows("6960 §A.1/1")
async def test_a_1_get_and_post() -> None:
    rig = Rig()
    for method, target, body in (("GET", path(rig, 1), None), ("POST", "/ca/ocsp", rig.request(1))):
        response, content = await browser(rig).ask(method, target, body, POST if body else {})
        assert response.code == 200 and peer.load_der_ocsp_response(content).certificate_status is GOOD


@shows("6960 §A.2/1")
async def test_a_2_type() -> None:
    rig = Rig()
    for target in (path(rig, 1), "/ca/ocsp/garbage"):
        response, _ = await browser(rig).ask("GET", target)
        assert response.headers.getRawHeaders("Content-Type") == ["application/ocsp-response"]


@shows("6960 §A.2/2")
async def test_a_2_length() -> None:
    rig = Rig()
    response, content = await browser(rig).ask("GET", path(rig, 1))
    assert response.length == len(content) > 0
