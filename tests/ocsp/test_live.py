"""With a nonce an answer is signed at once from what is known, as long as changes of it would be heard of."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as peer

from tests.ocsp.rig import Rig

GOOD, REVOKED, UNKNOWN = peer.OCSPCertStatus.GOOD, peer.OCSPCertStatus.REVOKED, peer.OCSPCertStatus.UNKNOWN
TICK = timedelta(seconds=0.5)
NONCE = b"0123456789abcdef0123456789abcdef"


def following(**options: object) -> Rig:
    rig = Rig(**options)
    rig.server.start()
    return rig


async def ask(rig: Rig, serial: int, nonce: bytes = NONCE, **options: object) -> peer.OCSPResponse:
    response = await rig.ask(serial, nonce=nonce, **options)
    if response.response_status is peer.OCSPResponseStatus.SUCCESSFUL:
        assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce
    return response


@pytest.mark.parametrize("first_nonce", [None, NONCE])
@pytest_twisted.ensureDeferred
async def test_the_store_is_asked_once_and_the_rest_is_signed_from_what_is_known(first_nonce: bytes | None) -> None:
    rig = following()
    await rig.ask(1, nonce=first_nonce)
    for second in range(20):
        rig.pass_time(TICK)
        response = await ask(rig, 1, b"%032d" % second)
        assert response.certificate_status is GOOD
        assert response.produced_at_utc == rig.clock.now().replace(microsecond=0)
        assert response.this_update_utc == rig.clock.now().replace(microsecond=0), "when the store was last asked"
        assert response.next_update_utc - response.this_update_utc == timedelta(hours=1)
    assert rig.store.asked == [(1,)]
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_this_update_is_when_the_feed_was_last_heard() -> None:
    rig = following()
    await rig.ask(1)
    asked_at = rig.store.polled[-1] + timedelta(seconds=10)
    rig.clock.advance(timedelta(seconds=3))  # and the reactor stands still
    response = await ask(rig, 1)
    assert response.produced_at_utc == rig.clock.now().replace(microsecond=0)
    assert response.this_update_utc == asked_at.replace(microsecond=0)
    assert rig.store.asked == [(1,)]
    await rig.server.stop()


def _openssl(directory: Path, request: bytes, response: bytes, moment: str) -> subprocess.CompletedProcess[str]:
    """What `openssl ocsp` says of the answer to the request at that moment, the issuer's certificate being there."""
    for name, content in (("request", request), ("response", response)):
        (directory / name).write_bytes(content)
    command = ["openssl", "ocsp", "-issuer", "issuer.pem", "-reqin", "request", "-respin", "response", "-resp_text"]
    options = ["-CAfile", "issuer.pem", "-partial_chain", "-attime", moment, "-validity_period", "999999999"]
    return subprocess.run([*command, *options], cwd=directory, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha384", "sha512"])
@pytest_twisted.ensureDeferred
async def test_whoever_knows_the_issuer_can_verify_it(hash_name: str, tmp_path: Path) -> None:
    rig = following()
    (tmp_path / "issuer.pem").write_bytes(rig.pki.ecdsa.certificate.public_bytes(Encoding.PEM))
    for revoked in (False, True):
        if revoked:
            rig.revoke(1)
            rig.pass_time(TICK)
        await rig.ask(1, hash_name=hash_name)
        asked = len(rig.store.asked)
        request = rig.request(1, hash_name=hash_name, nonce=NONCE)
        answer = await rig.server.answer(request)
        assert len(rig.store.asked) == asked
        response = peer.load_der_ocsp_response(answer.body)
        (delegate,) = response.certificates
        key = delegate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))
        told = _openssl(tmp_path, request, answer.body, str(int(rig.clock.now().timestamp())))
        assert f"Cert Status: {'revoked' if revoked else 'good'}" in told.stdout
        assert "Response verify OK" in told.stderr, told.stderr
        assert "no nonce" not in told.stderr
    await rig.server.stop()


@pytest.mark.parametrize("first_nonce", [None, NONCE])
@pytest_twisted.ensureDeferred
async def test_a_revocation_by_anybody_is_heard_of_and_so_is_its_end(first_nonce: bytes | None) -> None:
    rig = following()
    for serial in (1, 2):
        await rig.ask(serial, nonce=first_nonce)
    revocation = rig.revoke(1)
    rig.pass_time(TICK)
    assert (await ask(rig, 1)).certificate_status is REVOKED
    assert (await ask(rig, 1)).revocation_reason is x509.ReasonFlags.key_compromise
    assert (await ask(rig, 2)).certificate_status is GOOD
    assert rig.store.asked == [(1,), (2,), (1,)]
    rig.store.release(rig.pki.ecdsa, 1, revocation.revoked_at, rig.clock.now())
    rig.pass_time(TICK)
    assert (await ask(rig, 1)).certificate_status is GOOD
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_what_is_unknown_is_asked_for_each_time() -> None:
    rig = following()
    assert (await ask(rig, 999)).certificate_status is UNKNOWN
    rig.store.issue(rig.pki.ecdsa, 999)
    assert (await ask(rig, 999)).certificate_status is GOOD
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_while_the_feed_is_not_heard_the_store_is_asked_and_if_it_is_away_so_are_we() -> None:
    rig = following()
    await ask(rig, 1)
    rig.store.away = RuntimeError("the store is away")
    rig.pass_time(TICK)
    rig.pass_time(timedelta(seconds=4))
    assert (await ask(rig, 1)).certificate_status is GOOD, "heard of five seconds ago"
    rig.pass_time(timedelta(seconds=1))
    assert (await ask(rig, 1)).response_status is peer.OCSPResponseStatus.TRY_LATER
    assert (await rig.ask(1, nonce=None)).response_status is peer.OCSPResponseStatus.TRY_LATER, (
        "only its status is kept"
    )
    rig.store.away = None
    asked = len(rig.store.asked)
    rig.pass_time(TICK)
    assert (await ask(rig, 1)).certificate_status is GOOD
    assert len(rig.store.asked) == asked
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_before_the_feed_is_followed_and_when_the_clock_is_set_back_the_store_is_asked() -> None:
    rig = Rig()
    for _ in range(2):
        await ask(rig, 1)
    assert len(rig.store.asked) == 2
    rig.server.start()
    await ask(rig, 1)
    assert len(rig.store.asked) == 2
    rig.clock.advance(timedelta(minutes=-5))
    await ask(rig, 1)
    assert len(rig.store.asked) == 3
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_what_was_known_is_asked_for_anew_after_half_the_window() -> None:
    rig = following()
    await ask(rig, 1)
    rig.pass_time(timedelta(minutes=29))
    rig.pass_time(TICK)
    await ask(rig, 1)
    assert len(rig.store.asked) == 1
    rig.pass_time(timedelta(minutes=1))
    rig.pass_time(TICK)
    await ask(rig, 1)
    assert len(rig.store.asked) == 2
    await rig.server.stop()


@pytest_twisted.ensureDeferred
async def test_a_responder_that_is_due_for_renewal_is_renewed_all_the_same() -> None:
    rig = following()
    rig.life = timedelta(minutes=50)
    await ask(rig, 1)
    rig.pass_time(timedelta(minutes=24))
    assert (await ask(rig, 1)).certificate_status is GOOD
    rig.pass_time(timedelta(minutes=11))
    assert (await ask(rig, 1)).certificate_status is GOOD
    assert len(rig.obtained) == 2
    await rig.server.stop()
