"""What is revoked is on the CRL, numbers only grow, and races lose nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import CRLEntryExtensionOID
from twisted.internet.defer import Deferred

from opencertd.asn1.crl import Scope, encode_entry
from opencertd.clock import SystemClock
from opencertd.crl.messages import Draft, UnsoundCrl, build_crl, build_tbs, serials_of
from opencertd.crl.store import PublishedCrl
from opencertd.crl.terms import CrlTerms
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuers
from opencertd.jobs.store import Job
from opencertd.keys.kinds import scheme_of
from opencertd.keys.signer import AbsentSigner
from opencertd.model.certificates import IssuerState, Revocation, RevocationReason
from tests.crl.rig import Rig
from tests.ocsp.pki import NOW, Pki, lint, pki, run, signer, write_pem

SECOND = NOW.replace(microsecond=0)
DAY = timedelta(days=1)
EC = pki().ecdsa


def parse(published: PublishedCrl) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(published.crl_der)


@pytest.mark.parametrize("name", ["ecdsa-root", "ecdsa", "rsa"])
@pytest_twisted.ensureDeferred
async def test_a_crl_says_all_that_it_must(name: str) -> None:
    rig = Rig()
    issuer = rig.issuers.by_name(name)
    assert issuer is not None
    ca = rig.pki.ca_of(issuer)
    rig.store.revoke(ca, 7)
    rig.store.revoke(ca, 1 << 150, reason=RevocationReason.UNSPECIFIED)
    crl = parse(await rig.server.publish(issuer.id))
    assert crl.is_signature_valid(ca.certificate.public_key())
    assert crl.issuer == ca.certificate.subject
    assert (crl.last_update_utc, crl.next_update_utc) == (SECOND, SECOND + 7 * DAY)
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == FIRST
    own = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == own
    first, second = crl
    assert (first.serial_number, first.revocation_date_utc) == (7, SECOND)
    reason = first.extensions.get_extension_for_oid(CRLEntryExtensionOID.CRL_REASON).value
    assert reason == x509.CRLReason(x509.ReasonFlags.key_compromise)
    assert (second.serial_number, len(second.extensions)) == (1 << 150, 0)


FIRST = int(SECOND.timestamp())
"""The number of the first CRL: the time it was made."""


@pytest_twisted.ensureDeferred
async def test_numbers_grow_also_over_a_restored_database() -> None:
    rig = Rig()
    numbers = [(await worker.publish(EC.issuer.id)).number for worker in (rig.server, rig.other, rig.server)]
    assert numbers == [FIRST, FIRST + 1, FIRST + 2]
    rig.store.kept[EC.issuer.id] = rig.store.kept[EC.issuer.id][:1]
    rig.clock.advance(timedelta(minutes=1))
    assert (await rig.server.publish(EC.issuer.id)).number == FIRST + 60


@pytest_twisted.ensureDeferred
async def test_a_winner_that_lists_as_much_is_good_enough() -> None:
    rig = Rig()
    rig.store.revoke(EC, 5)
    rig.store.rival = lambda: Deferred.fromCoroutine(rig.other.publish(EC.issuer.id)) and None
    published = await rig.server.publish(EC.issuer.id)
    assert published.number == FIRST
    assert len(rig.store.kept[EC.issuer.id]) == 1


@pytest_twisted.ensureDeferred
async def test_a_winner_that_lists_less_is_followed_by_the_next_number() -> None:
    rig = Rig()

    def rival() -> None:
        everything = rig.store.revoked.pop(EC.issuer.id)  # the other worker looked before the revocation
        Deferred.fromCoroutine(rig.other.publish(EC.issuer.id))
        rig.store.revoked[EC.issuer.id] = everything

    rig.store.revoke(EC, 5)
    rig.store.rival = rival
    published = await rig.server.publish(EC.issuer.id)
    assert published.number == FIRST + 1
    assert [serials_of(crl.crl_der) for crl in rig.store.kept[EC.issuer.id]] == [set(), {5}]


@pytest_twisted.ensureDeferred
async def test_a_winner_that_lists_a_hold_that_has_ended_is_followed_by_the_next_number() -> None:
    rig = Rig()
    rig.store.revoke(EC, 5)

    def rival() -> None:
        final = rig.store.revoked[EC.issuer.id][:]
        rig.store.revoke(EC, 6, reason=RevocationReason.CERTIFICATE_HOLD)  # as it was when the other looked
        Deferred.fromCoroutine(rig.other.publish(EC.issuer.id))
        rig.store.revoked[EC.issuer.id] = final

    rig.store.rival = rival
    assert (await rig.server.publish(EC.issuer.id)).number == FIRST + 1
    assert [serials_of(crl.crl_der) for crl in rig.store.kept[EC.issuer.id]] == [{5, 6}, {5}]


@pytest_twisted.ensureDeferred
async def test_a_winner_that_gives_another_reason_is_followed_by_the_next_number() -> None:
    rig = Rig()
    rig.store.revoke(EC, 5)

    def rival() -> None:
        final = rig.store.revoked.pop(EC.issuer.id)
        rig.store.revoke(EC, 5, reason=RevocationReason.CERTIFICATE_HOLD)
        Deferred.fromCoroutine(rig.other.publish(EC.issuer.id))
        rig.store.revoked[EC.issuer.id] = final

    rig.store.rival = rival
    (entry,) = parse(await rig.server.publish(EC.issuer.id))
    reason = entry.extensions.get_extension_for_oid(CRLEntryExtensionOID.CRL_REASON).value
    assert reason == x509.CRLReason(x509.ReasonFlags.key_compromise)


@pytest_twisted.ensureDeferred
async def test_a_race_that_is_always_lost_is_given_up_for_now() -> None:
    rig = Rig()
    rig.store.revoke(EC, 5)

    def rival() -> None:
        everything = rig.store.revoked.pop(EC.issuer.id)
        rig.store.rival = None
        Deferred.fromCoroutine(rig.other.publish(EC.issuer.id))
        rig.store.revoked[EC.issuer.id] = everything
        rig.store.rival = rival

    rig.store.rival = rival
    with pytest.raises(Refusal) as caught:
        await rig.server.publish(EC.issuer.id)
    assert caught.value.kind is RefusalKind.UNAVAILABLE


@pytest_twisted.ensureDeferred
async def test_an_entry_stays_until_a_scheduled_crl_after_its_expiry() -> None:
    rig = Rig()
    expiry = NOW + timedelta(hours=30)
    rig.store.revoke(EC, 5, not_after=expiry)
    listed = []
    for _ in range(8):
        published = await rig.server.publish(EC.issuer.id)
        listed.append(({5} == serials_of(published.crl_der), published.this_update > expiry))
        rig.clock.advance(DAY)
    assert (True, True) in listed
    assert listed[-1] == (False, True)
    assert (False, False) not in listed


@pytest_twisted.ensureDeferred
async def test_an_entry_that_expired_while_the_daemon_was_away_is_listed_once_more() -> None:
    rig = Rig()
    rig.store.revoke(EC, 5, not_after=NOW + DAY)
    await rig.server.publish(EC.issuer.id)
    rig.clock.advance(30 * DAY)
    assert serials_of((await rig.server.publish(EC.issuer.id)).crl_der) == {5}
    rig.clock.advance(3 * DAY)
    assert serials_of((await rig.server.publish(EC.issuer.id)).crl_der) == set()


@pytest_twisted.ensureDeferred
async def test_the_job_publishes_and_owes_the_next() -> None:
    rig = Rig()
    assert await rig.server.job(rig.job(EC)) == SECOND + DAY
    assert len(rig.store.kept[EC.issuer.id]) == 1


@pytest_twisted.ensureDeferred
async def test_the_job_of_an_issuer_that_another_node_knows_already_waits_for_us_to_know_it() -> None:
    rig = Rig()
    again = await rig.server.job(Job("crl", "to come", NOW, 1, 1))
    assert again is not None and timedelta(0) < again - NOW < timedelta(minutes=1)


@pytest_twisted.ensureDeferred
async def test_the_crls_of_a_retired_issuer_end_with_what_it_signed() -> None:
    rig = Rig()
    retired = replace(EC.issuer, record=replace(EC.issuer.record, state=IssuerState.RETIRED))
    rig.server.issuers = Issuers((retired,))
    rig.store.last_expiries[retired.id] = NOW + 10 * DAY
    for _ in range(12):  # also once after the last has expired, so that it has been on a CRL to its end
        await rig.server.ensure()
        assert await rig.server.job(rig.job(EC)) is not None
        rig.clock.advance(DAY)
    rig.clock.advance(2 * DAY)
    assert await rig.server.job(rig.job(EC)) is None
    rig.jobs.owed.clear()
    await rig.server.ensure()
    assert rig.jobs.owed == []


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_not_here_does_not_stop_the_crls_of_others() -> None:
    rig = Rig()
    first, *others = rig.issuers.all()
    public_key = first.signer.public_key
    absent = replace(first, signer=AbsentSigner(first.name, public_key, scheme_of(public_key)))
    rig.server.issuers = Issuers((absent, *others))
    await rig.server.ensure()
    assert set(rig.store.kept) == {issuer.id for issuer in others}


@pytest_twisted.ensureDeferred
async def test_at_start_every_issuer_has_a_crl_and_owes_the_next() -> None:
    rig = Rig()
    await rig.server.ensure()
    rig.clock.advance(timedelta(hours=5))
    await rig.other.ensure()
    ids = [issuer.id for issuer in rig.issuers.all()]
    assert {issuer_id: len(kept) for issuer_id, kept in rig.store.kept.items()} == dict.fromkeys(ids, 1)
    assert rig.jobs.owed == [("crl", issuer_id, SECOND + DAY) for issuer_id in ids] * 2


@pytest_twisted.ensureDeferred
async def test_a_crl_from_the_future_is_followed_by_one_that_holds() -> None:
    rig = Rig()
    rig.clock.advance(timedelta(days=300))
    await rig.server.ensure()
    rig.clock.advance(-timedelta(days=300))
    await rig.server.ensure()
    latest = rig.store.kept[EC.issuer.id][-1]
    assert (latest.number, latest.this_update) == (FIRST + 300 * 86400 + 1, SECOND)
    assert rig.jobs.owed[-1][2] == SECOND + DAY
    await rig.server.ensure()
    assert rig.store.kept[EC.issuer.id][-1] == latest, "once is enough"


@pytest_twisted.ensureDeferred
async def test_what_is_current_is_read_once_and_anew_when_another_worker_published() -> None:
    rig = Rig()
    await rig.server.publish(EC.issuer.id)
    for _ in range(3):
        assert (await rig.other.current(EC.issuer)).number == FIRST
    read = rig.store.read
    await rig.server.publish(EC.issuer.id)
    assert (await rig.other.current(EC.issuer)).number == FIRST + 1
    assert rig.store.read == read + 1


@pytest_twisted.ensureDeferred
async def test_while_the_store_is_away_a_crl_that_still_holds_is_given() -> None:
    rig = Rig()
    await rig.server.publish(EC.issuer.id)
    rig.store.away = OSError("gone")
    assert (await rig.server.current(EC.issuer)).number == FIRST
    rig.clock.advance(8 * DAY)
    for worker in (rig.server, rig.other):
        with pytest.raises(Refusal) as caught:
            await worker.current(EC.issuer)
        assert caught.value.kind is RefusalKind.UNAVAILABLE


@pytest_twisted.ensureDeferred
async def test_an_unknown_issuer_is_not_found() -> None:
    with pytest.raises(Refusal) as caught:
        await Rig().server.publish("nobody")
    assert caught.value.kind is RefusalKind.NOT_FOUND


@pytest_twisted.ensureDeferred
async def test_large_crls_are_built_elsewhere_and_small_ones_here() -> None:
    rig = Rig()
    await rig.server.publish(EC.issuer.id)
    assert rig.elsewhere == 0
    for serial in range(1, 1500):
        rig.store.revoke(EC, serial)
    published = await rig.server.publish(EC.issuer.id)
    assert rig.elsewhere == 3, "what it says is put together, compared with the last one, and checked"
    assert len(parse(published)) == 1499


@pytest_twisted.ensureDeferred
async def test_what_another_key_signed_is_not_published() -> None:
    wrong = replace(EC.issuer, signer=signer(ec.generate_private_key(ec.SECP256R1())))
    rig = Rig(issuers=Issuers((wrong,)))
    with pytest.raises(UnsoundCrl, match="does not verify"):
        await rig.server.publish(wrong.id)
    assert rig.store.kept == {}


@pytest_twisted.ensureDeferred
async def test_a_lost_serial_a_strange_one_and_a_wrong_number_are_noticed() -> None:
    revocation = Revocation(SECOND, RevocationReason.SUPERSEDED)
    one, two, three = (encode_entry(serial, revocation) for serial in (1, 2, 3))
    draft = Draft(EC.issuer, 4, SECOND, SECOND + DAY, Scope())
    tbs = build_tbs(draft, (one, two))
    signature = await EC.issuer.signer.sign(tbs)
    sizes = (len(one), len(two))
    assert serials_of(build_crl(draft, sizes, tbs, signature)) == {1, 2}
    for wrong in ((len(one),), (*sizes, len(three)), ()):
        with pytest.raises(UnsoundCrl, match="not the CRL"):
            build_crl(draft, wrong, tbs, signature)
    for other in (replace(draft, number=5), replace(draft, scope=Scope(only="cas"))):
        with pytest.raises(UnsoundCrl, match="not the CRL"):
            build_crl(other, sizes, tbs, signature)
    with pytest.raises(UnsoundCrl, match="does not verify"):
        build_crl(draft, sizes, tbs[:-1], signature)
    broken = (one, b"\x30\x03\x02\x01")
    signature = await EC.issuer.signer.sign(build_tbs(draft, broken))
    with pytest.raises(UnsoundCrl, match="parse"):
        build_crl(draft, tuple(map(len, broken)), build_tbs(draft, broken), signature)


def test_an_interval_longer_than_the_validity_is_refused() -> None:
    with pytest.raises(ValueError, match="more often"):
        CrlTerms(validity=DAY, interval=DAY)


# What others think of the bytes.


@pytest.mark.parametrize("kind", ["CRL", "ARL"])
@pytest.mark.parametrize("revoked", [0, 12])
@pytest_twisted.ensureDeferred
async def test_pkilint_finds_nothing(kind: str, revoked: int, tmp_path: Path) -> None:
    rig = Rig()
    ca = rig.pki.root if kind == "ARL" else EC
    for serial, reason in zip(range(1, revoked + 1), [*RevocationReason] * 2, strict=False):
        if reason is not RevocationReason.REMOVE_FROM_CRL:
            since = NOW - DAY if serial % 2 else None
            rig.store.revoke(ca, (serial << 120) + 7, reason=reason, invalidity_date=since)
    path = tmp_path / "crl.der"
    path.write_bytes((await rig.server.publish(ca.issuer.id)).crl_der)
    assert lint("lint_crl", path, "-t", kind, "-p", "PKIX") == []


@pytest_twisted.ensureDeferred
async def test_openssl_verify_believes_it(tmp_path: Path) -> None:
    world: Pki = pki()
    rig = Rig(clock=SystemClock())
    leaf = EC.issue(0x5EC0ED)
    anchors = write_pem(tmp_path / "anchors.pem", world.root.certificate)
    chain = write_pem(tmp_path / "chain.pem", EC.certificate)
    end = write_pem(tmp_path / "leaf.pem", leaf)

    async def verify() -> str:
        crls = [await rig.server.publish(ca.issuer.id) for ca in (world.root, EC)]
        text = b"".join([await rig.server.pem(crl) for crl in crls])
        (tmp_path / "crls.pem").write_bytes(text)
        files = ("-CAfile", anchors, "-untrusted", chain, "-CRLfile", tmp_path / "crls.pem")
        return run("openssl", "verify", "-crl_check_all", *files, end)

    assert "leaf.pem: OK" in await verify()
    rig.store.revoke(EC, 0x5EC0ED, at=rig.clock.now())
    assert "certificate revoked" in await verify()


@pytest_twisted.ensureDeferred
async def test_a_key_that_was_taken_away_holds_up_nobody_and_is_waited_for() -> None:
    rig = Rig()
    with_keys = rig.server.issuers
    first = await rig.server.publish(EC.issuer.id)
    gone = [
        replace(one, record=replace(one.record, key_reference=None)) if one.id == EC.issuer.id else one
        for one in with_keys.all()
    ]
    rig.server.issuers = Issuers(tuple(gone))
    rig.store.revoke(EC, 7)
    await rig.server.ensure()
    assert await rig.server.job(rig.job(EC)) == NOW + timedelta(minutes=1)
    assert await rig.server.current(EC.issuer) == first
    rig.server.issuers = with_keys
    await rig.server.job(rig.job(EC))
    assert (await rig.server.current(EC.issuer)).number > first.number
