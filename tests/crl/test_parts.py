"""Each certificate is on the CRL that it names and on that of all; deltas say what has changed. OpenSSL agrees."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from opencertd.asn1.crl import Scope, encode_entry
from opencertd.clock import SystemClock
from opencertd.crl.messages import Draft, UnsoundCrl, build_crl, build_tbs, lost_serials, serials_of
from opencertd.crl.store import Line, PublishedCrl, Scheme
from opencertd.crl.terms import CrlTerms, calls_for, lines_of
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuers
from opencertd.jobs.store import Job
from opencertd.model.certificates import IssuerRole, IssuerState, Revocation, RevocationReason
from opencertd.model.crl_parts import ALL, CAS, USERS, Part, Partition, bucket_of, parse_part, point, shard_of, shards
from tests.crl.rig import Rig
from tests.ocsp.pki import NOW, lint, name, pki, run, write_pem

DAY = timedelta(days=1)
SECOND = NOW.replace(microsecond=0)
EC = pki().ecdsa
URL = "http://crl.example/ca/{issuer}/crl/{part}"
DELTA_URL = "http://crl.example/ca/{issuer}/crl/delta"
HELD = RevocationReason.CERTIFICATE_HOLD
REVOKED = Revocation(SECOND, RevocationReason.SUPERSEDED)


def spread(shards: int = 0, *, apart: bool = False, delta: bool = False, clock: object = None) -> Rig:
    terms = CrlTerms(partition=Partition(shards, apart), points=(URL,), delta=(DELTA_URL,) if delta else (), wait=0)
    return Rig(terms=terms) if clock is None else Rig(clock=SystemClock(), terms=terms)


serials = st.integers(1, (1 << 159) - 1)


@given(serials, st.integers(1, 1024))
def test_a_serial_is_in_one_shard_which_has_its_bucket(serial: int, count: int) -> None:
    part = shard_of(serial, count)
    assert parse_part(part.word) == part
    assert [each for each in shards(count) if each.buckets[0] <= bucket_of(serial) < each.buckets[1]] == [part]
    assert shard_of(bucket_of(serial), count) == part


@pytest.mark.parametrize("word", ["0-0", "4-4", "04-1", "4-01", "4", "1025-0", "4-1-1", "CAS", "users/", "-", "٤-1"])
def test_what_is_no_part(word: str) -> None:
    assert parse_part(word) is None


@given(st.lists(serials, unique=True, max_size=60), st.data())
@settings(max_examples=200, deadline=None)
def test_what_a_crl_has_lost_is_what_was_on_the_last_and_is_not_on_it(listed: list[int], data: st.DataObject) -> None:
    """However entries go, come in between and change their reason."""
    before = _signed(tuple(encode_entry(serial, REVOKED) for serial in listed))
    changed = Revocation(SECOND, RevocationReason.KEY_COMPROMISE)
    after: list[bytes] = []
    kept: set[int] = set()
    for serial in listed:
        if data.draw(st.booleans()):
            after.append(encode_entry(data.draw(serials), REVOKED))
        fate = data.draw(st.sampled_from(("kept", "gone", "changed")))
        if fate != "gone":
            kept.add(serial)
            after.append(encode_entry(serial, REVOKED if fate == "kept" else changed))
    size = data.draw(st.integers(1, 20))
    blocks = tuple(b"".join(after[at : at + size]) for at in range(0, len(after), size))
    now_listed = {int.from_bytes(entry[4 : 4 + entry[3]], "big") for entry in after}
    assert lost_serials(before, blocks) == set(listed) - now_listed
    assert kept <= now_listed


def test_thousands_in_a_row_that_have_gone_are_passed_over() -> None:
    entries = [encode_entry((1 << 150) + n * 7919, REVOKED) for n in range(60_000)]
    blocks = tuple(b"".join(entries[at : at + 2000]) for at in range(0, 60_000, 2000))
    before = _signed(blocks)
    left = [*entries[:100], *entries[30_000:]]
    found = lost_serials(before, tuple(b"".join(left[at : at + 2000]) for at in range(0, len(left), 2000)))
    assert found == {(1 << 150) + n * 7919 for n in range(100, 30_000)}


@pytest_twisted.ensureDeferred
async def test_a_crl_that_has_lost_a_revoked_certificate_is_not_published() -> None:
    rig = Rig()
    rig.store.revoke(EC, 5)
    rig.store.revoke(EC, 6)
    await rig.server.publish(EC.issuer.id)
    really = rig.store.entries
    rig.store.entries = lambda *asked: really(*asked).addCallback(lambda found: found[:1])  # type: ignore[method-assign]
    with pytest.raises(UnsoundCrl, match="1 revoked"):
        await rig.server.publish(EC.issuer.id)
    assert len(rig.store.kept[EC.issuer.id]) == 1


@pytest_twisted.ensureDeferred
async def test_every_certificate_is_on_the_crl_of_its_part_and_on_that_of_all() -> None:
    rig = spread(4, apart=True)
    listed = {(n << 140) + n * 9973: n % 3 == 0 for n in range(1, 40)}
    for serial, is_ca in listed.items():
        rig.store.revoke(EC, serial, is_ca=is_ca)
    found = {part: await _published(rig, part) for part in (ALL, CAS, USERS, *shards(4))}
    assert found[ALL] == set(listed) == found[CAS] | found[USERS]
    assert found[CAS] == {serial for serial, is_ca in listed.items() if is_ca}
    for part in shards(4):
        assert found[part] == {serial for serial in listed if shard_of(serial, 4) == part}


@pytest_twisted.ensureDeferred
async def test_what_was_issued_under_another_number_of_shards_keeps_its_crl() -> None:
    rig = spread(4)
    rig.store.revoke(EC, 5)
    await rig.server.ensure()
    assert {key for _, key, _ in rig.jobs.owed} >= {f"{EC.issuer.id}/4-{n}" for n in range(4)}
    more = spread(2)
    more.store = rig.store
    worker = more._worker()
    await worker.ensure()
    owed = {key.partition("/")[2] for _, key, _ in more.jobs.owed if key.startswith(EC.issuer.id)}
    assert owed == {"", *(part.word for part in (*shards(2), *shards(4)))}
    assert serials_of((await worker.publish(EC.issuer.id, Line(EC.issuer.id, shard_of(5, 4)))).crl_der) == {5}


@pytest_twisted.ensureDeferred
async def test_a_root_is_not_spread_over_shards() -> None:
    rig = spread(4)
    await rig.server.ensure()
    root = pki().root.issuer
    assert [key for _, key, _ in rig.jobs.owed if key.startswith(root.id)] == [root.id]
    assert Partition(4).under(IssuerRole.ROOT).part_of(5, ca=True) == ALL
    assert point(URL, "root", ALL) == "http://crl.example/ca/root/crl"


@pytest_twisted.ensureDeferred
async def test_shards_are_due_at_different_times_and_each_within_its_interval() -> None:
    rig = spread(8)
    due = [await rig.server.job(Job("crl", f"{EC.issuer.id}/8-{n}", NOW, 1, 1)) for n in range(8)]
    assert len(set(due)) == 8
    assert all(at is not None and NOW < at <= SECOND + DAY for at in due)


@pytest_twisted.ensureDeferred
async def test_what_nobody_is_in_is_not_found() -> None:
    rig = spread(4)
    for line in (Line(EC.issuer.id, CAS), Line(EC.issuer.id, Part("8-1")), Line(EC.issuer.id, ALL, delta=True)):
        for asked in (rig.server.publish(EC.issuer.id, line), rig.server.current(EC.issuer, line)):
            with pytest.raises(Refusal) as caught:
                await asked
            assert caught.value.kind is RefusalKind.NOT_FOUND
    assert await rig.server.job(Job("crl", f"{EC.issuer.id}/delta", NOW, 1, 1)) is None


@pytest_twisted.ensureDeferred
async def test_a_delta_says_what_has_changed_since_a_crl_that_clients_have() -> None:
    rig = spread(delta=True)
    line = Line(EC.issuer.id, ALL, delta=True)
    for serial in (5, 6):
        rig.store.revoke(EC, serial, reason=HELD)
    base = await rig.server.publish(EC.issuer.id)
    freshest = parse(base).extensions.get_extension_for_class(x509.FreshestCRL).value
    assert [uri.value for uri in freshest[0].full_name or ()] == [DELTA_URL.format(issuer="ecdsa")]
    rig.clock.advance(DAY + timedelta(hours=1))
    rig.store.release(EC, 6, rig.clock.now())
    rig.store.revoke(EC, 7, recorded=rig.clock.now())
    newer = await rig.server.publish(EC.issuer.id)
    delta = await rig.server.publish(EC.issuer.id, line)
    indicator = parse(delta).extensions.get_extension_for_class(x509.DeltaCRLIndicator)
    assert indicator.critical and indicator.value.crl_number == base.number, "whoever has the first needs it most"
    assert delta.number > newer.number, "one succession of numbers"
    said = {entry.serial_number: _reason(entry) for entry in parse(delta)}
    assert (said[6], said[7]) == (x509.ReasonFlags.remove_from_crl, x509.ReasonFlags.key_compromise)
    assert await rig.server.current(EC.issuer, line) == delta
    assert (await rig.server.publish(EC.issuer.id)).number > delta.number


@pytest_twisted.ensureDeferred
async def test_deltas_do_not_keep_a_complete_crl_from_being_published() -> None:
    """Nor does it end what they said: another delta is owed, which says it with a higher number."""
    rig = spread(delta=True)
    first = await rig.server.publish(EC.issuer.id)
    line = Line(EC.issuer.id, ALL, delta=True)

    def rival() -> None:
        rig.store.revoke(EC, 5)  # since the complete CRL was read
        for _ in range(2):
            Deferred.fromCoroutine(rig.other.publish(EC.issuer.id, line))

    rig.store.rival = rival
    rig.jobs.owed.clear()
    assert await rig.server.job(rig.job(EC)) is not None
    (_, again), deltas = rig.store.kept[EC.issuer.id], rig.store.lines[line]
    assert first.number < deltas[0].number < deltas[1].number < again.number
    assert [serials_of(crl.crl_der) for crl in (*deltas, again)] == [{5}, {5}, set()], "it was not made twice"
    assert ("crl", line.key) in {(kind, key) for kind, key, _ in rig.jobs.owed}
    assert serials_of((await rig.server.publish(EC.issuer.id, line)).crl_der) == {5}


@pytest_twisted.ensureDeferred
async def test_however_many_deltas_come_a_complete_crl_is_made_in_the_end() -> None:
    rig = spread(delta=True)
    await rig.server.publish(EC.issuer.id)
    line = Line(EC.issuer.id, ALL, delta=True)

    def rival() -> None:
        for _ in range(50):
            Deferred.fromCoroutine(rig.other.publish(EC.issuer.id, line))
        if len(rig.store.lines[line]) < 150:
            rig.store.rival = rival

    rig.store.rival = rival
    assert (await rig.server.publish(EC.issuer.id)).base is None


@pytest_twisted.ensureDeferred
async def test_a_delta_and_a_complete_crl_are_never_of_one_second() -> None:
    """RFC 5280 §5.2.3 would have such two bear one number."""
    rig = spread(delta=True)
    line = Line(EC.issuer.id, ALL, delta=True)
    for _ in range(5):
        made = rig.clock.now()
        complete, delta = await rig.server.publish(EC.issuer.id), await rig.server.publish(EC.issuer.id, line)
        assert complete.this_update != delta.this_update
        assert all(made - timedelta(seconds=2) < crl.this_update <= made for crl in (complete, delta))
        rig.clock.advance(timedelta(seconds=0.7))


@pytest_twisted.ensureDeferred
async def test_a_line_that_a_node_with_newer_settings_has_adopted_is_known_to_all() -> None:
    old, new = spread(4), spread(8)
    new.store = old.store
    line = Line(EC.issuer.id, Part("8-3"))
    await old.server.ensure()
    await new._worker().ensure()
    assert await old.server.job(Job("crl", line.key, NOW, 1, 1)) is not None, "or a revocation would show nowhere"
    held = await old.server.current(EC.issuer, line)
    assert held.line == line
    assert (await old.server.publish(EC.issuer.id, line)).number > held.number


@pytest_twisted.ensureDeferred
async def test_asking_for_crls_of_retired_issuers_writes_nothing() -> None:
    rig = spread(4)
    await rig.server.ensure()
    record = replace(EC.issuer.record, state=IssuerState.RETIRED)
    retired = replace(EC.issuer, record=record)
    assert not retired.active
    rig.server.issuers = Issuers((retired,))
    rig.store.adopted = 0
    for line in (Line(EC.issuer.id, Part("4-1")), Line(EC.issuer.id, Part("9-1")), Line(EC.issuer.id, ALL, delta=True)):
        for _ in range(5):
            with contextlib.suppress(Refusal):
                await rig.server.current(retired, line)
    assert rig.store.adopted <= 1


@pytest_twisted.ensureDeferred
async def test_every_complete_crl_can_be_left_behind_at_once() -> None:
    rig = spread(4, apart=True, delta=True)
    left = await rig.server.publish_complete(EC.issuer)
    assert [crl.part for crl in left] == [ALL, CAS, USERS, *shards(4)]


@given(st.integers(0, 9), st.booleans(), st.booleans())
def test_what_schemes_call_for_are_their_lines(count: int, apart: bool, delta: bool) -> None:
    names = (*(("apart",) * apart), *((str(count),) if count else ()), *(("delta",) * delta))
    schemes = tuple(Scheme(name, ()) for name in names)
    parts = (ALL, CAS, USERS, *(part for n in range(1, 10) for part in shards(n)))
    every = [Line("x", part) for part in parts] + [Line("x", part, delta=True) for part in parts]
    assert {line for line in every if calls_for(schemes, line)} == set(lines_of("x", schemes))


@pytest.mark.parametrize("part", [ALL, CAS, USERS, Part("4-1"), None])
@pytest_twisted.ensureDeferred
async def test_pkilint_finds_nothing(part: Part | None, tmp_path: Path) -> None:
    rig = spread(4, apart=True, delta=True)
    for n in range(1, 30):
        rig.store.revoke(EC, (n << 120) + n * 9973, is_ca=n % 2 == 0, reason=HELD)
    await rig.server.publish(EC.issuer.id)
    rig.store.release(EC, (2 << 120) + 2 * 9973, rig.clock.now())
    path = tmp_path / "crl.der"
    line = Line(EC.issuer.id, ALL, delta=True) if part is None else Line(EC.issuer.id, part)
    path.write_bytes((await rig.server.publish(EC.issuer.id, line)).crl_der)
    assert lint("lint_crl", path, "-t", "CRL", "-p", "PKIX") == []


def leaf(serial: int, part: Part) -> x509.Certificate:
    """An end entity's certificate that names the CRL of a part."""
    key = ec.generate_private_key(ec.SECP256R1())
    uri = x509.UniformResourceIdentifier(point(URL, "ecdsa", part))
    now = SystemClock().now()
    return (
        x509.CertificateBuilder()
        .subject_name(name("leaf"))
        .issuer_name(EC.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(EC.key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.CRLDistributionPoints([x509.DistributionPoint([uri], None, None, None)]), critical=False)
        .sign(EC.key, hashes.SHA256())
    )


def verify(tmp_path: Path, certificate: x509.Certificate, rig: Rig, *crls: PublishedCrl, deltas: bool = False) -> str:
    """What `openssl verify` says of the certificate, going by these CRLs."""
    anchors = write_pem(tmp_path / "anchors.pem", pki().root.certificate)
    chain = write_pem(tmp_path / "chain.pem", EC.certificate)
    end = write_pem(tmp_path / "leaf.pem", certificate)
    listed = []
    for number, crl in enumerate(crls):
        path = tmp_path / f"{number}.crl"
        path.write_bytes(crl.crl_der)
        listed.append(run("openssl", "crl", "-inform", "DER", "-in", path))
    (tmp_path / "crls.pem").write_text("".join(listed))
    files = ("-CAfile", anchors, "-untrusted", chain, "-CRLfile", tmp_path / "crls.pem")
    extended = ("-extended_crl", *(("-use_deltas",) if deltas else ()))
    return run("openssl", "verify", "-crl_check", *extended, *files, end)


@pytest.mark.parametrize(("shard_count", "apart"), [(4, False), (0, True)])
@pytest_twisted.ensureDeferred
async def test_openssl_goes_by_the_crl_of_the_part_and_by_no_other(
    shard_count: int, apart: bool, tmp_path: Path
) -> None:
    rig = spread(shard_count, apart=apart, clock=SystemClock())
    serial = 0x5EC0ED
    own = Partition(shard_count, apart).part_of(serial, ca=False)
    other = CAS if apart else next(part for part in shards(4) if part != own)
    certificate = leaf(serial, own)
    first = {part: await rig.server.publish(EC.issuer.id, Line(EC.issuer.id, part)) for part in (own, other)}
    assert "leaf.pem: OK" in verify(tmp_path, certificate, rig, first[own])
    assert "leaf.pem: OK" not in verify(tmp_path, certificate, rig, first[other])
    rig.store.revoke(EC, serial, at=rig.clock.now())
    again = {part: await rig.server.publish(EC.issuer.id, Line(EC.issuer.id, part)) for part in (own, other)}
    assert "certificate revoked" in verify(tmp_path, certificate, rig, again[own])
    assert "certificate revoked" not in verify(tmp_path, certificate, rig, again[other])
    assert "certificate revoked" in verify(tmp_path, certificate, rig, await rig.server.publish(EC.issuer.id))


@pytest_twisted.ensureDeferred
async def test_openssl_adds_the_delta_to_the_crl_it_has(tmp_path: Path) -> None:
    rig = spread(delta=True, clock=SystemClock())
    line = Line(EC.issuer.id, ALL, delta=True)
    held, good = leaf(5, ALL), leaf(6, ALL)
    rig.store.revoke(EC, 5, reason=HELD, at=rig.clock.now())
    base = await rig.server.publish(EC.issuer.id)
    assert "certificate revoked" in verify(tmp_path, held, rig, base, deltas=True)
    assert "leaf.pem: OK" in verify(tmp_path, good, rig, base, deltas=True)
    rig.store.release(EC, 5, rig.clock.now())
    rig.store.revoke(EC, 6, at=rig.clock.now(), recorded=rig.clock.now())
    delta = await rig.server.publish(EC.issuer.id, line)
    assert "leaf.pem: OK" in verify(tmp_path, held, rig, base, delta, deltas=True)
    assert "certificate revoked" in verify(tmp_path, good, rig, base, delta, deltas=True)


async def _published(rig: Rig, part: Part) -> set[int]:
    return serials_of((await rig.server.publish(EC.issuer.id, Line(EC.issuer.id, part))).crl_der)


def parse(published: PublishedCrl) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(published.crl_der)


def _reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags:
    return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason


def _signed(entries: tuple[bytes, ...]) -> bytes:
    """A CRL of these entries."""
    draft = Draft(EC.issuer, 4, SECOND, SECOND + DAY, Scope())
    tbs = build_tbs(draft, entries)
    return build_crl(draft, tuple(map(len, entries)), tbs, EC.issuer.signer.sign(tbs).result)  # type: ignore[attr-defined]
