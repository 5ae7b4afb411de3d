"""What OCSP says about a certificate, and how soon it knows better."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp as peer
from twisted.internet.defer import Deferred

from opencertd.asn1 import der
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuers
from opencertd.model.certificates import Revocation, RevocationReason
from opencertd.ocsp.responder import ResponderKeeper
from opencertd.ocsp.server import OcspServer
from tests.ocsp.pki import NOW, build_ca, lint, pki
from tests.ocsp.rig import Rig, Statuses, build_cert_id, build_request

GOOD, REVOKED, UNKNOWN = peer.OCSPCertStatus.GOOD, peer.OCSPCertStatus.REVOKED, peer.OCSPCertStatus.UNKNOWN
TICK = timedelta(seconds=0.5)


def statuses(response: peer.OCSPResponse) -> list[tuple[int, peer.OCSPCertStatus]]:
    return [(single.serial_number, single.certificate_status) for single in response.responses]


@pytest_twisted.ensureDeferred
async def test_an_issued_certificate_is_good() -> None:
    rig = Rig()
    response = await rig.ask(1)
    assert response.response_status is peer.OCSPResponseStatus.SUCCESSFUL
    assert response.certificate_status is GOOD
    assert response.this_update_utc == NOW.replace(microsecond=0)
    assert response.next_update_utc == NOW.replace(microsecond=0) + timedelta(hours=1)


@pytest_twisted.ensureDeferred
async def test_a_revoked_certificate_has_its_time_and_reason() -> None:
    rig = Rig()
    rig.revoke(1)
    response = await rig.ask(1)
    assert response.certificate_status is REVOKED
    assert response.revocation_time_utc == NOW.replace(microsecond=0)
    assert response.revocation_reason is x509.ReasonFlags.key_compromise


@pytest_twisted.ensureDeferred
async def test_an_unspecified_reason_is_left_out() -> None:
    rig = Rig()
    rig.store.revoke(rig.pki.ecdsa, 1, Revocation(NOW, RevocationReason.UNSPECIFIED))
    assert (await rig.ask(1)).revocation_reason is None


@pytest.mark.parametrize("serial", [999, 0, -5, 1 << 160, 1 << 4000])  # an imported CA may have issued 0
@pytest_twisted.ensureDeferred
async def test_a_serial_that_was_not_issued_is_never_good(serial: int) -> None:
    rig = Rig()
    assert (await rig.ask(serial)).certificate_status is UNKNOWN
    assert all(0 <= asked < 1 << 160 for question in rig.store.asked for asked in question)


@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("name", ["ecdsa-root", "ecdsa", "rsa"])
@pytest_twisted.ensureDeferred
async def test_every_issuer_is_found_by_every_hash_and_signed_for_by_its_own_delegate(
    hash_name: str, name: str
) -> None:
    rig = Rig()
    issuer = rig.pki.issuers.by_name(name)
    assert issuer is not None
    ca = rig.pki.ca_of(issuer)
    response = await rig.ask(2, hash_name=hash_name, ca=ca)
    assert response.certificate_status is GOOD
    (delegate,) = response.certificates
    delegate.verify_directly_issued_by(ca.certificate)
    assert response.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(delegate.public_key()).digest
    key = delegate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


@pytest_twisted.ensureDeferred
async def test_several_certificates_of_one_issuer_are_answered_together() -> None:
    rig = Rig()
    rig.revoke(2)
    response = await rig.ask(1, 2, 999, 3)
    assert statuses(response) == [(1, GOOD), (2, REVOKED), (999, UNKNOWN), (3, GOOD)]
    assert rig.store.asked == [(1, 2, 999, 3)]


@pytest_twisted.ensureDeferred
async def test_one_issuer_may_be_named_by_different_hashes() -> None:
    rig = Rig()
    issuer = rig.pki.ecdsa.issuer
    answer = await rig.server.answer(
        build_request(build_cert_id(issuer, 1, "sha1"), build_cert_id(issuer, 1, "sha256"))
    )
    assert statuses(peer.load_der_ocsp_response(answer.body)) == [(1, GOOD), (1, GOOD)]


@pytest_twisted.ensureDeferred
async def test_certificates_of_a_strange_issuer_are_unknown_among_our_own() -> None:
    rig = Rig()
    stranger = build_ca("stranger", ec.generate_private_key(ec.SECP256R1())).issuer
    ours = rig.pki.ecdsa.issuer
    request = build_request(build_cert_id(stranger, 1), build_cert_id(ours, 1), build_cert_id(ours, 2, "md5"))
    answer = await rig.server.answer(request)
    assert statuses(peer.load_der_ocsp_response(answer.body)) == [(1, UNKNOWN), (1, GOOD), (2, UNKNOWN)]


@pytest_twisted.ensureDeferred
async def test_no_issuer_of_ours_or_several_is_unauthorized() -> None:
    rig = Rig()
    stranger = build_ca("stranger", ec.generate_private_key(ec.SECP256R1())).issuer
    for cert_ids in (
        (build_cert_id(stranger, 1),),
        (build_cert_id(rig.pki.ecdsa.issuer, 1), build_cert_id(rig.pki.rsa.issuer, 1)),
    ):
        answer = await rig.server.answer(build_request(*cert_ids))
        status = peer.load_der_ocsp_response(answer.body).response_status
        assert status is peer.OCSPResponseStatus.UNAUTHORIZED
    assert rig.store.asked == []


@pytest_twisted.ensureDeferred
async def test_garbage_is_malformed() -> None:
    answer = await Rig().server.answer(b"garbage")
    response = peer.load_der_ocsp_response(answer.body)
    assert response.response_status is peer.OCSPResponseStatus.MALFORMED_REQUEST


@pytest_twisted.ensureDeferred
async def test_a_nonce_is_echoed_and_such_an_answer_is_for_nobody_else() -> None:
    rig = Rig()
    for nonce in (b"n", b"N" * 128):
        answer = await rig.server.answer(rig.request(1, nonce=nonce))
        response = peer.load_der_ocsp_response(answer.body)
        assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
        assert answer.freshness is None
    assert len(rig.store.asked) == 2


@pytest_twisted.ensureDeferred
async def test_renewals_of_an_issuer_under_one_key_answer_for_each_other() -> None:
    old, new = (build_ca("renewed", pki().ecdsa.key) for _ in range(2))
    assert old.issuer.id != new.issuer.id
    rig = Rig()
    store = Statuses()
    store.issue(old, 1)
    store.issue(new, 2)
    rig.pki = type("P", (), {"ca_of": lambda self, issuer: new})()
    server = OcspServer(
        issuers=Issuers((old.issuer, new.issuer)),
        store=store,
        keeper=ResponderKeeper(rig.obtain, clock=rig.clock, tasks=rig.tasks),
        clock=rig.clock,
        reactor=rig.reactor,
    )
    request = build_request(*(build_cert_id(new.issuer, serial) for serial in (1, 2, 3)))
    response = peer.load_der_ocsp_response((await server.answer(request)).body)
    assert statuses(response) == [(1, GOOD), (2, GOOD), (3, UNKNOWN)]
    single = build_request(build_cert_id(old.issuer, 2))
    await server.answer(single)
    assert server.at_hand(single, rig.clock.now()) is not None
    server.note_revoked(new.issuer.id, 2)
    assert server.at_hand(single, rig.clock.now()) is None


# Prepared answers.


@pytest_twisted.ensureDeferred
async def test_the_second_answer_comes_from_memory_until_half_the_window_is_over() -> None:
    rig = Rig()
    first = await rig.server.answer(rig.request(1))
    rig.pass_time(timedelta(minutes=29))
    assert await rig.server.answer(rig.request(1)) == first
    assert len(rig.store.asked) == 1
    rig.pass_time(timedelta(minutes=2))
    assert await rig.server.answer(rig.request(1)) != first
    assert len(rig.store.asked) == 2


@pytest_twisted.ensureDeferred
async def test_a_clock_set_back_ends_what_was_prepared() -> None:
    rig = Rig()
    await rig.ask(1)
    rig.clock.advance(timedelta(minutes=-5))
    assert rig.server.at_hand(rig.request(1), rig.clock.now()) is None


@pytest_twisted.ensureDeferred
async def test_what_is_unknown_is_asked_again_each_time() -> None:
    rig = Rig()
    assert (await rig.ask(999)).certificate_status is UNKNOWN
    rig.store.issue(rig.pki.ecdsa, 999)
    assert (await rig.ask(999)).certificate_status is GOOD


@pytest_twisted.ensureDeferred
async def test_only_so_much_is_kept_and_the_oldest_goes_first() -> None:
    rig = Rig(most_octets=256 * 1000)  # each shelf has room for two
    asked = range(1, 10)
    for serial in asked:
        rig.store.issue(rig.pki.ecdsa, serial)
        await rig.ask(serial)
    assert all(rig.server.at_hand(rig.request(serial), rig.clock.now()) for serial in asked)
    small = Rig(most_octets=256 * 100)  # for none
    await small.ask(1)
    assert small.server.at_hand(small.request(1), small.clock.now()) is None
    assert (await small.ask(1)).certificate_status is GOOD


@pytest.mark.parametrize("parameters", [b"", der.null()])
@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha384", "sha512"])
@pytest_twisted.ensureDeferred
async def test_however_a_cert_id_is_written_a_revocation_finds_what_was_prepared(
    hash_name: str, parameters: bytes
) -> None:
    rig = Rig()
    usual = build_cert_id(rig.pki.ecdsa.issuer, 1, hash_name)
    whole = der.read_only(usual, der.SEQUENCE)
    algorithm, *hashed = der.children(usual, whole)
    oid = der.children(usual, algorithm)[0].raw(usual)
    cert_id = der.sequence(der.sequence(oid, parameters), *(each.raw(usual) for each in hashed))
    request = build_request(cert_id)
    for expected in (GOOD, GOOD, REVOKED):
        if expected is REVOKED:
            rig.revoke(1)
            rig.server.note_revoked(rig.pki.ecdsa.issuer.id, 1)
        response = peer.load_der_ocsp_response((await rig.server.answer(request)).body)
        assert response.certificate_status is expected
    assert len(rig.store.asked) == 2


@pytest_twisted.ensureDeferred
async def test_a_revocation_by_anybody_shows_within_a_second() -> None:
    rig = Rig()
    rig.server.start()
    for hash_name in ("sha1", "sha256"):
        assert (await rig.ask(1, hash_name=hash_name)).certificate_status is GOOD
    assert (await rig.ask(2)).certificate_status is GOOD
    rig.pass_time(timedelta(minutes=10))
    rig.revoke(1)
    rig.pass_time(TICK)
    for hash_name in ("sha1", "sha256"):
        assert (await rig.ask(1, hash_name=hash_name)).certificate_status is REVOKED
    assert rig.server.at_hand(rig.request(2), rig.clock.now()) is not None
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_a_hold_and_its_end_show_within_a_second() -> None:
    """Also when all happens within the feed's overlap, and the date of the hold stays that of the revocation."""
    rig = Rig()
    rig.server.start()
    ca, moment = rig.pki.ecdsa, rig.clock.now()
    held = Revocation(moment.replace(microsecond=0), RevocationReason.CERTIFICATE_HOLD)
    final = Revocation(held.revoked_at, RevocationReason.SUPERSEDED)
    assert (await rig.ask(1)).certificate_status is GOOD
    for revocation in (held, None, held, final):
        if revocation is None:
            rig.store.release(ca, 1, held.revoked_at, rig.clock.now())
        else:
            rig.store.revoke(ca, 1, revocation, recorded_at=rig.clock.now())
        rig.pass_time(TICK)
        answer = await rig.ask(1)
        if revocation is None:
            assert answer.certificate_status is GOOD
            continue
        assert answer.certificate_status is REVOKED
        assert answer.revocation_time_utc == held.revoked_at
        flag = answer.revocation_reason
        assert flag is not None and flag.value.lower() == revocation.reason.rfc_name.lower()
        assert rig.server.at_hand(rig.request(1), rig.clock.now()) is not None
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_a_revocation_stamped_a_while_before_it_was_committed_is_not_missed() -> None:
    rig = Rig()
    rig.server.start()
    await rig.ask(1)
    stamped = rig.clock.now()
    rig.pass_time(timedelta(seconds=4))
    rig.store.revoke(rig.pki.ecdsa, 1, Revocation(stamped, RevocationReason.SUPERSEDED), recorded_at=stamped)
    rig.pass_time(TICK)
    assert (await rig.ask(1)).certificate_status is REVOKED
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_the_feed_follows_a_clock_that_is_set_back() -> None:
    rig = Rig()
    rig.server.start()
    rig.clock.advance(-timedelta(hours=1))
    await rig.ask(1)
    rig.revoke(1)
    rig.pass_time(TICK)
    assert (await rig.ask(1)).certificate_status is REVOKED
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_the_feed_tells_each_revocation_once() -> None:
    rig = Rig()
    rig.server.start()
    rig.revoke(1)
    rig.pass_time(TICK)
    await rig.ask(1)
    rig.pass_time(TICK)
    rig.pass_time(TICK)
    assert rig.server.at_hand(rig.request(1), rig.clock.now()) is not None
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_a_revocation_while_the_store_was_away_is_learnt_when_it_is_back() -> None:
    rig = Rig()
    rig.server.start()
    await rig.ask(1)
    rig.store.away = OSError("gone")
    for _ in range(120):
        rig.pass_time(TICK)
    assert (await rig.ask(1)).certificate_status is GOOD  # what was prepared still holds
    rig.revoke(1)
    for _ in range(120):
        rig.pass_time(TICK)
    rig.store.away = None
    rig.pass_time(TICK)
    assert (await rig.ask(1)).certificate_status is REVOKED
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_an_answer_made_while_its_certificate_is_revoked_is_not_kept() -> None:
    rig = Rig()
    await rig.ask(2)
    rig.store.held = Deferred()
    asked = Deferred.fromCoroutine(rig.server.answer(rig.request(1)))
    rig.revoke(1)
    rig.server.note_revoked(rig.pki.ecdsa.issuer.id, 1)
    held, rig.store.held = rig.store.held, None
    held.callback(None)
    assert peer.load_der_ocsp_response((await asked).body).certificate_status is GOOD
    assert (await rig.ask(1)).certificate_status is REVOKED


@pytest.mark.parametrize("trouble", [OSError("gone"), Refusal(RefusalKind.UNAVAILABLE, "away")])
@pytest_twisted.ensureDeferred
async def test_a_store_that_is_away_is_try_later(trouble: Exception) -> None:
    rig = Rig()
    rig.store.away = trouble
    assert (await rig.ask(1)).response_status is peer.OCSPResponseStatus.TRY_LATER
    rig.store.away = None
    assert (await rig.ask(1)).certificate_status is GOOD


@pytest_twisted.ensureDeferred
async def test_no_answer_outlives_its_responder() -> None:
    rig = Rig()
    rig.life = timedelta(minutes=40)
    response = await rig.ask(1)
    assert response.next_update_utc == response.certificates[0].not_valid_after_utc


# What others think of the bytes.


@pytest.mark.parametrize("what", ["good", "revoked", "unknown", "several", "nonce"])
@pytest_twisted.ensureDeferred
async def test_pkilint_finds_nothing(what: str, tmp_path: Path) -> None:
    rig = Rig()
    rig.revoke(2)
    serials = {"good": (1,), "revoked": (2,), "unknown": (999,), "several": (1, 2, 999), "nonce": (1,)}[what]
    nonce = b"0123456789abcdef0123456789abcdef" if what == "nonce" else None
    answer = await rig.server.answer(rig.request(*serials, nonce=nonce))
    path = tmp_path / "response.der"
    path.write_bytes(answer.body)
    assert lint("lint_ocsp_response", path) == []
