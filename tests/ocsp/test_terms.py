"""What settings change about answers: windows, nonces, serials never issued, archive cutoff, names of responders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as peer

from opencertd.asn1 import der
from opencertd.issuance.issuers import Issuer
from opencertd.keys.kinds import RSA_PSS, Scheme, scheme_of
from opencertd.ocsp.responder import Responder
from opencertd.ocsp.terms import OcspTerms
from tests.ocsp.pki import build_certificate, lint, rsa_key, signer
from tests.ocsp.rig import Rig, build_cert_id, build_request

GOOD, REVOKED, UNKNOWN = peer.OCSPCertStatus.GOOD, peer.OCSPCertStatus.REVOKED, peer.OCSPCertStatus.UNKNOWN
NONCE = b"0123456789abcdef0123456789abcdef"
EXTENDED_REVOKE = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.9")
ARCHIVE_CUTOFF = x509.ObjectIdentifier("1.3.6.1.5.5.7.48.1.6")
TICK = timedelta(seconds=0.5)


def window(response: peer.OCSPResponse) -> timedelta:
    end = response.next_update_utc
    assert end is not None
    return end - response.this_update_utc


@pytest_twisted.ensureDeferred
async def test_each_issuer_has_its_own_window_however_it_is_asked() -> None:
    rig = Rig(terms=OcspTerms(timedelta(hours=2), {"rsa": timedelta(hours=8)}))
    rig.server.start()
    for ca, hours in ((rig.pki.ecdsa, 2), (rig.pki.rsa, 8)):
        for nonce in (None, NONCE, NONCE):
            assert window(await rig.ask(1, ca=ca, nonce=nonce)) == timedelta(hours=hours)
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_where_nonces_are_ignored_everybody_gets_the_prepared_answer() -> None:
    rig = Rig(terms=OcspTerms(nonces=False))
    first = await rig.server.answer(rig.request(1, nonce=NONCE))
    assert first.freshness is not None
    for nonce in (None, b"n", NONCE, b"n" * 128):
        assert await rig.server.answer(rig.request(1, nonce=nonce)) == first
    assert rig.server.at_hand(rig.request(1, nonce=NONCE), rig.clock.now()) == first
    assert len(peer.load_der_ocsp_response(first.body).extensions) == 0
    assert len(rig.store.asked) == 1


def nonced(cert_id: bytes, *, critical: bool) -> bytes:
    value = der.octet_string(der.octet_string(NONCE))
    extension = der.sequence(der.oid("1.3.6.1.5.5.7.48.1.2"), der.boolean(critical), value)
    requests = der.sequence(der.sequence(cert_id))
    return der.sequence(der.sequence(requests, der.explicit(2, der.sequence(extension))))


@pytest_twisted.ensureDeferred
async def test_a_critical_nonce_is_echoed_or_refused_but_not_ignored() -> None:
    cert_id = build_cert_id(Rig().pki.ecdsa.issuer, 1)
    echoing, ignoring = Rig(), Rig(terms=OcspTerms(nonces=False))
    answer = peer.load_der_ocsp_response((await echoing.server.answer(nonced(cert_id, critical=True))).body)
    assert answer.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == NONCE
    refused = peer.load_der_ocsp_response((await ignoring.server.answer(nonced(cert_id, critical=True))).body)
    assert refused.response_status is peer.OCSPResponseStatus.MALFORMED_REQUEST


# Serial numbers that nobody was given.


@pytest.mark.parametrize("serial", [999, 0, -5, 1 << 160])
@pytest_twisted.ensureDeferred
async def test_never_issued_is_revoked_since_1970_and_said_to_be_meant_so(serial: int) -> None:
    rig = Rig(terms=OcspTerms(extended_revoke=True))
    answer = await rig.server.answer(rig.request(serial))
    response = peer.load_der_ocsp_response(answer.body)
    assert response.certificate_status is REVOKED
    assert response.revocation_time_utc == datetime(1970, 1, 1, tzinfo=UTC)
    assert response.revocation_reason is x509.ReasonFlags.certificate_hold
    extension = response.extensions.get_extension_for_oid(EXTENDED_REVOKE)
    assert (extension.critical, extension.value.public_bytes()) == (False, der.null())
    assert len(response.single_extensions) == 0
    assert answer.freshness is None, "it may be issued in the next second"


@pytest_twisted.ensureDeferred
async def test_what_was_issued_meanwhile_is_good_and_what_is_issued_says_nothing_of_it() -> None:
    rig = Rig(terms=OcspTerms(extended_revoke=True))
    assert (await rig.ask(999)).certificate_status is REVOKED
    rig.store.issue(rig.pki.ecdsa, 999)
    response = await rig.ask(999)
    assert response.certificate_status is GOOD
    assert len(response.extensions) == 0


@pytest_twisted.ensureDeferred
async def test_of_other_cas_it_is_not_said() -> None:
    rig = Rig(terms=OcspTerms(extended_revoke=True))
    ours = rig.pki.ecdsa.issuer
    request = build_request(build_cert_id(ours, 1), build_cert_id(ours, 999), build_cert_id(ours, 1, "md5"))
    response = peer.load_der_ocsp_response((await rig.server.answer(request)).body)
    assert [single.certificate_status for single in response.responses] == [GOOD, REVOKED, UNKNOWN]


# The archive cutoff.


@pytest_twisted.ensureDeferred
async def test_the_archive_cutoff_is_so_long_before_the_answer_however_it_is_made() -> None:
    rig = Rig(terms=OcspTerms(archive=timedelta(days=365)))
    rig.server.start()
    for nonce in (None, NONCE, NONCE):
        rig.pass_time(TICK)
        response = await rig.ask(1, nonce=nonce)
        extension = response.single_extensions.get_extension_for_oid(ARCHIVE_CUTOFF)
        expected = der.generalized_time(response.produced_at_utc - timedelta(days=365))
        assert (extension.critical, extension.value.public_bytes()) == (False, expected)
        response = await rig.ask(1, nonce=nonce)
    assert len(rig.store.asked) == 1
    await rig.server.stop()


# Signature algorithms that clients prefer.


class RsaRig(Rig):
    """Its responders have RSA keys, and may call themselves by name."""

    by_name = False

    async def obtain(self, issuer: Issuer) -> Responder:
        key, ca = rsa_key(1), self.pki.ca_of(issuer)
        made = build_certificate("Responder", key.public_key(), ca.certificate.subject, ca.key, responder=True)
        return Responder.of(made.public_bytes(Encoding.DER), signer(key), by_name=self.by_name)


def preferring(rig: Rig, *algorithms: bytes) -> bytes:
    """A request with PreferredSignatureAlgorithms of these PreferredSignatureAlgorithm contents."""
    value = der.sequence(*(der.sequence(algorithm) for algorithm in algorithms))
    extension = der.sequence(der.oid("1.3.6.1.5.5.7.48.1.8"), der.octet_string(value))
    requests = der.sequence(der.sequence(build_cert_id(rig.pki.ecdsa.issuer, 1)))
    return der.sequence(der.sequence(requests, der.explicit(2, der.sequence(extension))))


RSA = scheme_of(rsa_key().public_key())
RSA_512 = scheme_of(rsa_key().public_key(), "rsa-sha512")
UNKNOWN_ALGORITHM = der.sequence(der.oid("1.2.3.4"))
P256_KEY = der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7"))
RSA_KEY = der.sequence(der.oid("1.2.840.113549.1.1.1"))


@pytest.mark.parametrize(
    ("preferred", "expected"),
    [
        ((RSA_512.algorithm_der,), RSA_512),
        ((der.sequence(der.oid("1.2.840.113549.1.1.13")),), RSA_512),  # without its NULL
        ((UNKNOWN_ALGORITHM, RSA_PSS.algorithm_der, RSA_512.algorithm_der), RSA_PSS),
        ((RSA_512.algorithm_der + P256_KEY, RSA_PSS.algorithm_der + RSA_KEY), RSA_PSS),
        ((RSA.algorithm_der, RSA_512.algorithm_der), RSA),
        ((UNKNOWN_ALGORITHM,), RSA),
        ((), RSA),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_first_preference_that_the_key_has_is_what_signs(
    preferred: tuple[bytes, ...], expected: Scheme
) -> None:
    rig = RsaRig()
    answer = await rig.server.answer(preferring(rig, *preferred))
    response = peer.load_der_ocsp_response(answer.body)
    key = response.certificates[0].public_key()
    assert expected.verifies(key, response.signature, response.tbs_response_bytes)
    assert expected.algorithm_der in answer.body
    ordinary = peer.load_der_ocsp_response((await rig.server.answer(rig.request(1))).body)
    assert RSA.verifies(key, ordinary.signature, ordinary.tbs_response_bytes), "the others get the usual one"


@pytest_twisted.ensureDeferred
async def test_preferences_that_are_none_are_malformed() -> None:
    rig = RsaRig()
    for wrong in (b"\x05\0", RSA.algorithm_der * 3):
        answer = await rig.server.answer(preferring(rig, wrong))
        status = peer.load_der_ocsp_response(answer.body).response_status
        assert status is peer.OCSPResponseStatus.MALFORMED_REQUEST


# A responder by its name, and what somebody else thinks of all this.


@pytest_twisted.ensureDeferred
async def test_a_responder_may_go_by_its_name() -> None:
    rig = RsaRig()
    rig.by_name = True
    response = await rig.ask(1)
    assert response.responder_name == response.certificates[0].subject
    assert response.responder_key_hash is None


@pytest.mark.parametrize("what", ["good", "revoked", "never", "nonce", "name", "preferred"])
@pytest_twisted.ensureDeferred
async def test_pkilint_finds_nothing(what: str, tmp_path: Path) -> None:
    rig = RsaRig(terms=OcspTerms(extended_revoke=True, archive=timedelta(days=365)))
    rig.by_name = what == "name"
    rig.revoke(2)
    serial = {"revoked": 2, "never": 999}.get(what, 1)
    request = rig.request(serial, nonce=NONCE if what == "nonce" else None)
    answer = await rig.server.answer(preferring(rig, RSA_512.algorithm_der) if what == "preferred" else request)
    path = tmp_path / "response.der"
    path.write_bytes(answer.body)
    assert lint("lint_ocsp_response", path) == []
