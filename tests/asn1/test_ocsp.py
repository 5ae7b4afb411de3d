"""OCSP bytes against OpenSSL's and cryptography's."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as peer
from hypothesis import given, settings
from hypothesis import strategies as st

from opencertd.asn1 import der, ocsp
from opencertd.asn1.ocsp import CertStatus, ResponseStatus
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.certificates import Revocation, RevocationReason
from tests.asn1.test_crl import FLAGS, moments, revocations
from tests.ocsp.pki import END, NOW, START, build_certificate, pki, write_pem

ALGORITHMS = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
NONCE_OID = "1.3.6.1.5.5.7.48.1.2"


def build_request(
    *serials: int, hash_name: str = "sha1", extensions: tuple[bytes, ...] = (), more: bytes = b""
) -> bytes:
    """A request as OpenSSL would write it; `more` goes behind the requests."""
    issuer = pki().ecdsa.issuer.certificate_der
    oids = {"sha1": "1.3.14.3.2.26", "sha256": "2.16.840.1.101.3.4.2.1", "md5": "1.2.840.113549.2.5"}
    oids |= {"sha384": "2.16.840.1.101.3.4.2.2", "sha512": "2.16.840.1.101.3.4.2.3"}
    hashed = ocsp.hash_issuer(issuer, "sha1" if hash_name == "md5" else hash_name)
    algorithm = der.sequence(der.oid(oids[hash_name]), der.null())
    cert_ids = [der.sequence(algorithm, *map(der.octet_string, hashed), der.integer(serial)) for serial in serials]
    tagged = der.explicit(2, der.sequence(*extensions)) if extensions else b""
    tbs = der.sequence(der.sequence(*(der.sequence(cert_id) for cert_id in cert_ids)), tagged, more)
    return der.sequence(tbs)


def nonce_extension(nonce: bytes, critical: bytes = b"") -> bytes:
    return der.sequence(der.oid(NONCE_OID), critical, der.octet_string(der.octet_string(nonce)))


def refused(data: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        ocsp.parse_request(data)
    assert caught.value.kind is RefusalKind.MALFORMED
    return caught.value.detail


@pytest.mark.parametrize("hash_name", ALGORITHMS)
def test_requests_of_every_hash_are_read(hash_name: str) -> None:
    ca = pki().rsa
    leaf = ca.issue(0xABCDEF)
    builder = peer.OCSPRequestBuilder().add_certificate(leaf, ca.certificate, ALGORITHMS[hash_name])
    data = builder.build().public_bytes(Encoding.DER)
    request = ocsp.parse_request(data)
    (cert_id,) = request.cert_ids
    assert (cert_id.hash_name, cert_id.serial, request.nonce) == (hash_name, 0xABCDEF, None)
    assert (cert_id.name_hash, cert_id.key_hash) == ocsp.hash_issuer(ca.issuer.certificate_der, hash_name)
    assert cert_id.der in data


@settings(max_examples=30, deadline=None)
@given(st.integers(1, (1 << 159) - 1), st.binary(min_size=1, max_size=128))
def test_nonces_and_serials_are_read(serial: int, nonce: bytes) -> None:
    ca = pki().ecdsa
    builder = peer.OCSPRequestBuilder().add_certificate_by_hash(
        *ocsp.hash_issuer(ca.issuer.certificate_der, "sha1"), serial, hashes.SHA1()
    )
    request = ocsp.parse_request(
        builder.add_extension(x509.OCSPNonce(nonce), critical=False).build().public_bytes(Encoding.DER)
    )
    assert request.nonce == nonce
    assert [cert_id.serial for cert_id in request.cert_ids] == [serial]


def test_openssl_asks_for_several_certificates_by_several_hashes_and_signs(tmp_path: Path) -> None:
    ca = pki().ecdsa
    key = ec.generate_private_key(ec.SECP256R1())
    own = build_certificate("asker", key.public_key(), ca.certificate.subject, ca.key)
    key_file = tmp_path / "key.pem"
    from cryptography.hazmat.primitives.serialization import NoEncryption, PrivateFormat

    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    issuer = write_pem(tmp_path / "ca.pem", ca.certificate)
    command = ["openssl", "ocsp", "-issuer", issuer, "-serial", "5", "-sha256", "-serial", "6", "-serial", "0x7fff"]
    signing = ["-signer", write_pem(tmp_path / "own.pem", own), "-signkey", key_file]
    subprocess.run([*command, *signing, "-reqout", tmp_path / "request"], check=True, capture_output=True)
    request = ocsp.parse_request((tmp_path / "request").read_bytes())
    assert [(c.hash_name, c.serial) for c in request.cert_ids] == [("sha1", 5), ("sha256", 6), ("sha256", 0x7FFF)]
    assert request.nonce is not None


def test_the_quick_look_finds_the_same_cert_id() -> None:
    data = build_request(77)
    assert ocsp.simple_cert_id(data) == ocsp.parse_request(data).cert_ids[0].der


def _damaged(data: bytes, place: int, value: int) -> bytes:
    return data[:place] + bytes([value]) + data[place + 1 :]


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=160),
        st.tuples(st.integers(0, 120), st.integers(0, 255)).map(lambda change: _damaged(build_request(77), *change)),
    )
)
def test_the_quick_look_never_finds_what_the_parser_reads_otherwise(data: bytes) -> None:
    cert_id = ocsp.simple_cert_id(data)
    try:
        request = ocsp.parse_request(data)
    except Refusal:
        return  # then no answer was ever kept under these bytes
    if cert_id is not None:
        assert [c.der for c in request.cert_ids] == [cert_id]
        assert request.nonce is None


def test_the_quick_look_leaves_nonces_and_several_certificates_alone() -> None:
    assert ocsp.simple_cert_id(build_request(77, extensions=(nonce_extension(b"n"),))) is None
    assert ocsp.simple_cert_id(build_request(7, 8)) is None
    assert ocsp.simple_cert_id(build_request(77) + b"\0") is None


@pytest.mark.parametrize("hash_name", ALGORITHMS)
@pytest.mark.parametrize("serial", [0, 77, (1 << 63) + 1, (1 << 159) + 1])
def test_the_quick_look_for_a_nonce_finds_what_the_parser_reads(hash_name: str, serial: int) -> None:
    for size in range(1, 101):
        data = build_request(serial, hash_name=hash_name, extensions=(nonce_extension(bytes(range(size))),))
        request = ocsp.parse_request(data)
        assert ocsp.nonced_cert_id(data) == (request.cert_ids[0].der, request.nonce)
        assert ocsp.nonced_cert_id(data + b"\0") is None


def test_the_quick_look_for_a_nonce_leaves_other_requests_alone() -> None:
    nonce = nonce_extension(b"0123456789abcdef")
    other = der.sequence(der.oid("1.2.3.4"), der.octet_string(b"?"))
    for extensions in ((), (other,), (other, nonce), (nonce, other), (nonce_extension(b"n" * 101),)):
        assert ocsp.nonced_cert_id(build_request(77, extensions=extensions)) is None
    assert ocsp.nonced_cert_id(build_request(7, 8, extensions=(nonce,))) is None


NONCED = build_request(77, extensions=(nonce_extension(b"0123456789abcdef0123456789abcdef"),))


@settings(deadline=None, max_examples=500)
@given(
    st.one_of(
        st.tuples(st.integers(0, len(NONCED)), st.integers(0, 255)).map(lambda change: _damaged(NONCED, *change)),
        st.tuples(st.integers(0, len(NONCED)), st.binary(min_size=1, max_size=3)).map(
            lambda inserted: NONCED[: inserted[0]] + inserted[1] + NONCED[inserted[0] :]
        ),
        st.binary(max_size=60).map(lambda some: some + NONCED[-53:]),
    )
)
def test_the_quick_look_for_a_nonce_never_finds_what_the_parser_reads_otherwise(data: bytes) -> None:
    found = ocsp.nonced_cert_id(data)
    try:
        request = ocsp.parse_request(data)
    except Refusal:
        return
    if found is not None:
        assert ([c.der for c in request.cert_ids], request.nonce) == ([found[0]], found[1])


def test_an_unknown_hash_is_read_as_such() -> None:
    (cert_id,) = ocsp.parse_request(build_request(1, hash_name="md5")).cert_ids
    assert cert_id.hash_name is None


def test_up_to_32_certificates() -> None:
    assert len(ocsp.parse_request(build_request(*range(1, 33))).cert_ids) == 32
    assert "33 certificates" in refused(build_request(*range(1, 34)))
    assert "0 certificates" in refused(build_request())


@pytest.mark.parametrize("nonce", [b"", b"n" * 129])
def test_nonces_are_1_to_128_octets(nonce: bytes) -> None:
    assert "1 to 128" in refused(build_request(1, extensions=(nonce_extension(nonce),)))


def test_a_nonce_without_its_octet_string_is_refused() -> None:
    refused(build_request(1, extensions=(der.sequence(der.oid(NONCE_OID), der.octet_string(b"raw")),)))


@pytest.mark.parametrize(
    ("critical", "accepted"), [(b"", True), (der.boolean(False), True), (der.boolean(True), False)]
)
def test_unknown_extensions_are_refused_when_critical(critical: bytes, accepted: bool) -> None:
    extension = der.sequence(der.oid("1.2.3.4"), critical, der.octet_string(b"?"))
    data = build_request(1, extensions=(extension,))
    if accepted:
        assert ocsp.parse_request(data).nonce is None
    else:
        assert "critical" in refused(data)


def test_a_critical_nonce_is_known() -> None:
    extension = nonce_extension(b"nonce", der.boolean(True))
    assert ocsp.parse_request(build_request(1, extensions=(extension,))).nonce == b"nonce"


def test_an_extension_twice_is_refused() -> None:
    assert "twice" in refused(build_request(1, extensions=(nonce_extension(b"a"), nonce_extension(b"b"))))


def test_another_version_is_refused() -> None:
    tbs = der.sequence(der.explicit(0, der.integer(1)), der.sequence())
    assert "version" in refused(der.sequence(tbs))


@pytest.mark.parametrize("data", [b"", b"\0", b"0", build_request(1)[:-1], build_request(1) + b"\0", b"\x30" * 200])
def test_what_is_no_request_is_malformed(data: bytes) -> None:
    refused(data)


@pytest.mark.parametrize("serial", [b"", b"\0\1", b"\0\0", b"\xff\xff"])
def test_a_serial_number_that_is_not_der_is_refused_since_the_answer_would_repeat_it(serial: bytes) -> None:
    algorithm = der.sequence(der.oid("1.3.14.3.2.26"), der.null())
    hashed = ocsp.hash_issuer(pki().ecdsa.issuer.certificate_der, "sha1")
    cert_id = der.sequence(algorithm, *map(der.octet_string, hashed), der.tlv(0x02, serial))
    assert "serial number" in refused(der.sequence(der.sequence(der.sequence(der.sequence(cert_id)))))


def test_a_null_with_content_is_refused_since_the_answer_would_repeat_it() -> None:
    algorithm = der.sequence(der.oid("1.3.14.3.2.26"), b"\x05\x01x")
    hashed = ocsp.hash_issuer(pki().ecdsa.issuer.certificate_der, "sha1")
    cert_id = der.sequence(algorithm, *map(der.octet_string, hashed), der.integer(1))
    assert "NULL" in refused(der.sequence(der.sequence(der.sequence(der.sequence(cert_id)))))


def test_large_requests_are_refused_unread() -> None:
    assert "larger" in refused(der.tlv(der.SEQUENCE, b"\x30\0" * 9000))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_fail_otherwise(data: bytes) -> None:
    with pytest.raises(Refusal):
        ocsp.parse_request(data)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_no_damage_makes_the_parser_fail_otherwise(place: int, value: int, cut: bool) -> None:
    data = bytearray(build_request(1, 2, extensions=(nonce_extension(b"nonce"),)))
    place %= len(data)
    data[place] = value
    try:
        ocsp.parse_request(bytes(data[:place] if cut else data))
    except Refusal as refusal:
        assert refusal.kind is RefusalKind.MALFORMED


def _responder() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    ca = pki().ecdsa
    key = ec.generate_private_key(ec.SECP256R1())
    return build_certificate("responder", key.public_key(), ca.certificate.subject, ca.key, responder=True), key


RESPONDER, RESPONDER_KEY = _responder()
LEAF_SERIAL = (1 << 127) + 12345


def _theirs(status: CertStatus | Revocation, this: datetime, nonce: bytes | None) -> peer.OCSPResponse:
    ca = pki().ecdsa
    words = {CertStatus.GOOD: peer.OCSPCertStatus.GOOD, CertStatus.UNKNOWN: peer.OCSPCertStatus.UNKNOWN}
    revoked_at = reason = None
    if isinstance(status, Revocation):
        revoked_at = status.revoked_at
        reason = FLAGS[status.reason] if status.reason is not RevocationReason.UNSPECIFIED else None
    builder = (
        peer.OCSPResponseBuilder()
        .add_response_by_hash(
            *ocsp.hash_issuer(ca.issuer.certificate_der, "sha1"),
            LEAF_SERIAL,
            hashes.SHA1(),
            peer.OCSPCertStatus.REVOKED if isinstance(status, Revocation) else words[status],
            this,
            this + timedelta(hours=1),
            revoked_at,
            reason,
        )
        .responder_id(peer.OCSPResponderEncoding.HASH, RESPONDER)
        .certificates([RESPONDER])
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.sign(RESPONDER_KEY, hashes.SHA256())


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.sampled_from(CertStatus), revocations),
    moments,
    st.none() | st.binary(min_size=1, max_size=128),
)
def test_response_bytes_are_those_of_another_implementation(
    status: CertStatus | Revocation, this: datetime, nonce: bytes | None
) -> None:
    theirs = _theirs(status, this, nonce)
    (cert_id,) = ocsp.parse_request(build_request(LEAF_SERIAL)).cert_ids
    single = ocsp.encode_single_response(cert_id.der, ocsp.encode_status(status), this, this + timedelta(hours=1))
    responder_der = RESPONDER.public_bytes(Encoding.DER)
    who = ocsp.responder_id(responder_der)
    # Theirs is stamped with the present; all else is the same.
    produced = theirs.produced_at_utc if hasattr(theirs, "produced_at_utc") else theirs.produced_at.replace(tzinfo=UTC)
    ours = ocsp.encode_response_data(who, produced, [single], nonce)
    assert ours == theirs.tbs_response_bytes
    algorithm = der.sequence(der.oid("1.2.840.10045.4.3.2"))
    whole = ocsp.encode_response(ours, algorithm, theirs.signature, ocsp.encode_certs(responder_der))
    assert whole == theirs.public_bytes(Encoding.DER)


@pytest.mark.parametrize("status", [s for s in ResponseStatus if s is not ResponseStatus.SUCCESSFUL])
def test_error_bytes_are_those_of_another_implementation(status: ResponseStatus) -> None:
    theirs = peer.OCSPResponseBuilder.build_unsuccessful(peer.OCSPResponseStatus(status.value))
    assert ocsp.encode_error(status) == theirs.public_bytes(Encoding.DER)


def test_times_have_no_fractions() -> None:
    single = ocsp.encode_single_response(b"", CertStatus.GOOD.value, NOW, NOW + timedelta(hours=1))
    assert NOW.microsecond
    assert b"20300517123015Z" in single
    assert START < END
