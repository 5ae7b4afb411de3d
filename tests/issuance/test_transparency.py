"""Certificates with timestamps of logs, asked over real HTTP; and what is left when logs do not give them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

from opencertd.asn1 import signed
from opencertd.asn1.transparency import Timestamp, stamped
from opencertd.clock import FixedClock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.timestamps import TransparencyLog
from opencertd.issuance.transparency import Precertificate, Transparency, check_certificate, wanted
from opencertd.issuance.transparency_table import TransparencyTable
from opencertd.keys.kinds import scheme_by_algorithm
from opencertd.model.certificates import CertificateState
from opencertd.store.audit import SqlAuditStore
from opencertd.store.database import Database
from opencertd.store.precertificates import SqlPrecertificateStore
from opencertd.store.schema import certificates, precertificates
from opencertd.transparency_logs import build_transparency
from tests.ca import NOW, TestCa, make_ca, request, rsa_key
from tests.ct_log import FakeLog, verify
from tests.issuance.judges import findings

TRANSPARENT = "[profiles.seen]\ncertificate_transparency = true\n"
STAMPS = x509.PrecertificateSignedCertificateTimestamps


@pytest.fixture
def logs() -> Iterator[list[FakeLog]]:
    """Three logs whose clocks stand as the CA's does; the last one has an RSA key."""
    with ExitStack() as stack:
        keys = (None, None, rsa_key())
        yield [stack.enter_context(FakeLog(key, lambda: NOW)) for key in keys]


def asking(logs: list[FakeLog], **changes: Any) -> Callable[[Database, FixedClock], Transparency]:
    table = {"logs": [{"url": log.url, "key": log.key_b64} for log in logs], "required": 2, "seconds": 1, **changes}

    def build(database: Database, clock: FixedClock) -> Transparency:
        store = SqlPrecertificateStore(database, clock)
        built = build_transparency(TransparencyTable.model_validate(table), store, clock, reactor)
        assert built is not None
        return built

    return build


def ca_of(logs: list[FakeLog], rules: str = TRANSPARENT, **changes: Any) -> TestCa:
    return make_ca(rules=rules, transparency=asking(logs, **changes))


async def deeds(ca: TestCa) -> list[tuple[str, str | None]]:
    entries = await SqlAuditStore(ca.database, ca.clock).page(None, 1000)
    return [(e.deed, e.tbs_sha256) for e in entries if json.loads(e.what).get("profile") == "seen"]


async def states(ca: TestCa) -> list[CertificateState]:
    query = select(certificates.c.state).where(certificates.c.profile == "seen")
    return await ca.database.read(lambda connection: list(connection.execute(query).scalars()))


async def kept(ca: TestCa) -> list[bytes]:
    query = select(precertificates.c.precertificate_der)
    return await ca.database.read(lambda connection: list(connection.execute(query).scalars()))


def issuer_of(ca: TestCa, issuer_id: str) -> Issuer:
    issuer = ca.issuers.by_id(issuer_id)
    assert issuer is not None
    return issuer


def listed(certificate: x509.Certificate) -> list[Any]:
    return list(certificate.extensions.get_extension_for_class(STAMPS).value)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest_twisted.ensureDeferred
async def test_every_timestamp_is_its_logs_over_this_certificate(kind: str, logs: list[FakeLog]) -> None:
    logs[0].manner = "extended"
    ca = ca_of(logs, required=3)
    issued = await ca.authority.issue(request(profile="seen", key=rsa_key() if kind == "rsa" else None))
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    issuer = issuer_of(ca, issued.record.issuer_id).certificate
    certificate.verify_directly_issued_by(issuer)
    stamps = listed(certificate)
    assert [stamp.log_id for stamp in stamps] == [log.id for log in logs]
    for stamp, log in zip(stamps, logs, strict=True):
        verify(stamp, log, certificate, issuer)
        assert log.entries == [certificate.tbs_precertificate_bytes]
        assert log.faults == []
    assert await states(ca) == [CertificateState.ISSUED]


@pytest_twisted.ensureDeferred
async def test_the_certificate_is_the_precertificate_but_for_poison_and_timestamps(logs: list[FakeLog]) -> None:
    ca = ca_of(logs, required=3)
    issued = await ca.authority.issue(request(profile="seen"))
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    (precertificate, *above) = logs[2].seen[0]
    issuer = issuer_of(ca, issued.record.issuer_id)
    assert [one.subject for one in above] == [issuer.certificate.subject, issuer.certificate.issuer], "up to the root"
    for field in ("serial_number", "issuer", "subject", "not_valid_before_utc", "not_valid_after_utc", "version"):
        assert getattr(precertificate, field) == getattr(certificate, field)
    assert (
        precertificate.signature_algorithm_parameters.__class__ is certificate.signature_algorithm_parameters.__class__
    )
    assert precertificate.public_key() == certificate.public_key()
    before = [(e.oid, e.critical, e.value) for e in precertificate.extensions if e.oid != x509.PrecertPoison.oid]
    after = [(e.oid, e.critical, e.value) for e in certificate.extensions if e.oid != STAMPS.oid]
    assert before == after
    assert len(precertificate.extensions) == len(certificate.extensions) == len(before) + 1


@pytest_twisted.ensureDeferred
async def test_openssl_and_pkilint_read_both(logs: list[FakeLog], tmp_path: Path) -> None:
    ca = ca_of(logs, required=3)
    issued = await ca.authority.issue(request(profile="seen"))
    text = shown(issued.certificate_der)
    assert "CT Precertificate SCTs" in text and text.count("Signed Certificate Timestamp:") == 3
    assert [
        bytes.fromhex(re.sub(r"[:\s]", "", one)) for one in re.findall(r"Log ID    : ([0-9A-F:\s]+?)\n +T", text)
    ] == [log.id for log in logs]
    assert "Poison" not in text
    (precertificate,) = await kept(ca)
    assert "CT Precertificate Poison: critical" in shown(precertificate)
    for der in (issued.certificate_der, precertificate):
        assert findings("lint_pkix_cert", x509.load_der_x509_certificate(der), tmp_path) == set()


def shown(der: bytes) -> str:
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-text"]
    return subprocess.run(command, input=der, capture_output=True, check=True, timeout=60).stdout.decode()


@pytest_twisted.ensureDeferred
async def test_the_precertificate_is_kept_and_audited_before_any_log_sees_it(logs: list[FakeLog]) -> None:
    ca = ca_of(logs)
    before: list[tuple[int, int]] = []

    def wrapped(log: FakeLog) -> TransparencyLog:
        (real,) = (one for one in ca.authority._transparency._logs if one.url == log.url)  # type: ignore[union-attr]

        async def ask(chain_der: tuple[bytes, ...]) -> Timestamp:
            before.append((len(await kept(ca)), len(await deeds(ca))))
            return await real.ask(chain_der)

        return TransparencyLog(real.url, real.key, ask)

    assert ca.authority._transparency is not None
    ca.authority._transparency._logs = tuple(wrapped(log) for log in logs)
    await ca.authority.issue(request(profile="seen"))
    assert before == [(1, 1)] * 3
    assert [deed for deed, _ in await deeds(ca)] == ["sign-precertificate", "issue"]
    (precertificate,) = await kept(ca)
    assert precertificate == logs[0].seen[0][0].public_bytes(Encoding.DER)


BAD = (
    *("silent", "dripping", "huge", "huge_and_good", "hanging_up", "unsigned", "signing_nothing", "wrongly_signed"),
    *("signing_by_sha1", "cut_off", "another", "of_version_2", "of_no_time", "of_bad_time", "of_short_id"),
    *("of_bad_base64", "of_number_extensions", "html", "a_list", "deep", "empty", "refusing", "busy", "redirecting"),
    "signing_another",
)


@pytest.mark.parametrize("manner", BAD)
@pytest_twisted.ensureDeferred
async def test_a_log_that_misbehaves_is_one_timestamp_less(manner: str, logs: list[FakeLog]) -> None:
    """With it there are too few, and nothing is issued; without it there are enough."""
    logs[1].manner = manner
    ca = ca_of(logs[:2])
    with pytest.raises(Refusal) as caught:
        await ca.authority.issue(request(profile="seen"))
    assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert "of 2 timestamps of certificate transparency came in time" in caught.value.detail
    assert caught.value.retry_after
    assert await states(ca) == [CertificateState.ABANDONED]
    (first, signed), (second, given_up) = await deeds(ca)
    assert (first, second) == ("sign-precertificate", "abandon") and signed == given_up

    enough = ca_of(logs[:2], required=1)
    issued = await enough.authority.issue(request(profile="seen"))
    stamps = listed(x509.load_der_x509_certificate(issued.certificate_der))
    assert [stamp.log_id for stamp in stamps] == [logs[0].id]


@pytest_twisted.ensureDeferred
async def test_silence_costs_the_time_that_was_set_and_no_more(logs: list[FakeLog]) -> None:
    for log in logs:
        log.manner = "silent"
    ca = ca_of(logs)
    began = reactor.seconds()
    with pytest.raises(Refusal, match="0 of 2 timestamps"):
        await ca.authority.issue(request(profile="seen"))
    assert 0.9 < reactor.seconds() - began < 2.5


@pytest_twisted.ensureDeferred
async def test_the_first_to_answer_are_enough(logs: list[FakeLog]) -> None:
    logs[1].manner = "silent"
    began = reactor.seconds()
    issued = await ca_of(logs, seconds=30).authority.issue(request(profile="seen"))
    assert reactor.seconds() - began < 10
    stamps = listed(x509.load_der_x509_certificate(issued.certificate_der))
    assert [stamp.log_id for stamp in stamps] == [logs[0].id, logs[2].id]


@pytest_twisted.ensureDeferred
async def test_nobody_waits_when_it_cannot_be_enough_any_more(logs: list[FakeLog]) -> None:
    logs[0].manner = logs[1].manner = "refusing"
    logs[2].manner = "silent"
    began = reactor.seconds()
    with pytest.raises(Refusal, match="0 of 2"):
        await ca_of(logs, seconds=30).authority.issue(request(profile="seen"))
    assert reactor.seconds() - began < 10


@pytest.mark.parametrize(
    ("off", "good"),
    [
        (timedelta(seconds=9), True),
        (timedelta(seconds=11), False),
        (timedelta(minutes=-59), True),
        (timedelta(minutes=-61), False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_timestamp_is_of_about_now(off: timedelta, good: bool, logs: list[FakeLog]) -> None:
    logs[0].now = lambda: NOW + off
    ca = ca_of(logs[:1], required=1)
    if not good:
        with pytest.raises(Refusal, match="0 of 1"):
            await ca.authority.issue(request(profile="seen"))
        return
    issued = await ca.authority.issue(request(profile="seen"))
    (stamp,) = listed(x509.load_der_x509_certificate(issued.certificate_der))
    assert stamp.timestamp.replace(tzinfo=UTC) == NOW + off


@pytest_twisted.ensureDeferred
async def test_one_log_under_two_urls_counts_once(logs: list[FakeLog]) -> None:
    """Settings refuse this; the core does not rely on it."""
    with FakeLog(logs[0].key, lambda: NOW) as twin:
        ca = ca_of(logs[:2])
        assert ca.authority._transparency is not None
        real = ca.authority._transparency._logs
        ca.authority._transparency._logs = (real[0], TransparencyLog(twin.url, real[0].key, real[0].ask))
        with pytest.raises(Refusal, match="1 of 2"):
            await ca.authority.issue(request(profile="seen"))


@pytest_twisted.ensureDeferred
async def test_a_number_is_how_many_and_no_profile_without_the_word_asks(logs: list[FakeLog]) -> None:
    rules = "[profiles.seen]\ncertificate_transparency = 1\n"
    rules += "[profiles.unseen]\nlike = 'seen'\ncertificate_transparency = false\n"
    ca = ca_of(logs, rules, required=3)
    issued = await ca.authority.issue(request(profile="seen"))
    assert len(listed(x509.load_der_x509_certificate(issued.certificate_der))) == 1
    for profile in ("unseen", "default"):
        other = x509.load_der_x509_certificate((await ca.authority.issue(request(profile=profile))).certificate_der)
        assert all(extension.oid != STAMPS.oid for extension in other.extensions)
    # The other two logs may be asked a moment later than the first one has answered.
    asked_for = {chain[0].serial_number for log in logs for chain in log.seen}
    assert asked_for == {issued.record.serial} and len(await kept(ca)) == 1


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("word", ["ecdsa-sha512", "rsa-pss-sha384"])
async def test_precertificate_and_certificate_are_signed_as_the_profile_says(logs: list[FakeLog], word: str) -> None:
    issuer = word.partition("-")[0]
    rules = f'[profiles.seen]\nissuers = ["{issuer}"]\ncertificate_transparency = true\nsignature_algorithm = "{word}"'
    ca = ca_of(logs, rules, required=2)
    issued = await ca.authority.issue(request(profile="seen"))
    made = x509.load_der_x509_certificate(issued.certificate_der)
    above = ca.issuers.by_name(issuer)
    assert above is not None
    for certificate in (made, *(chain[0] for log in logs for chain in log.seen)):
        certificate.verify_directly_issued_by(above.certificate)
        assert scheme_by_algorithm(above.signer.public_key, algorithm_of(certificate)).name == word


def algorithm_of(certificate: x509.Certificate) -> bytes:
    """The AlgorithmIdentifier of its signature, DER."""
    return signed.split(certificate.public_bytes(Encoding.DER))[1]


@pytest_twisted.ensureDeferred
async def test_without_logs_a_profile_that_wants_them_issues_nothing() -> None:
    ca = make_ca(rules=TRANSPARENT)
    with pytest.raises(Refusal, match="wants logs") as caught:
        await ca.authority.issue(request(profile="seen"))
    assert caught.value.kind is RefusalKind.UNAVAILABLE
    assert await states(ca) == []
    assert wanted(None, ca.authority.profiles["default"], b"") is None


@pytest_twisted.ensureDeferred
async def test_an_intent_that_was_given_up_meanwhile_signs_nothing_more(logs: list[FakeLog]) -> None:
    logs[0].manner = logs[1].manner = logs[2].manner = "late"
    ca = ca_of(logs)
    issuing = Deferred.fromCoroutine(ca.authority.issue(request(profile="seen")))
    await deferLater(reactor, 0.1)
    assert await ca.store.abandon_intents(owner=None, before=None) == 1
    with pytest.raises(Refusal) as caught:
        await issuing
    assert caught.value.kind is RefusalKind.CONFLICT
    assert [deed for deed, _ in await deeds(ca)] == ["sign-precertificate", "abandon"]


@pytest.mark.parametrize("which", [0, 1])
@pytest_twisted.ensureDeferred
async def test_a_faulty_signature_reaches_nobody(
    which: int, logs: list[FakeLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = ca_of(logs)
    issuer = ca.issuers.by_name("ecdsa")
    assert issuer is not None
    real, made = issuer.signer.sign, []

    def sign(data: bytes) -> Deferred[bytes]:
        made.append(data)
        return succeed(b"wrong") if len(made) == which + 1 else real(data)

    monkeypatch.setattr(issuer.signer, "sign", sign)
    with pytest.raises(Refusal, match="cannot sign at present"):
        await ca.authority.issue(request(profile="seen"))
    assert len(await kept(ca)) == which
    assert any(log.seen for log in logs) == bool(which)  # not each: the first answers are enough
    assert await states(ca) == [CertificateState.ABANDONED]


@pytest_twisted.ensureDeferred
async def test_the_last_look_finds_every_bit(logs: list[FakeLog]) -> None:
    """Over a whole certificate to be: whatever bit is wrong, its precertificate and the timestamps do not fit it."""
    ca = ca_of(logs[:1], required=1)
    issued = await ca.authority.issue(request(profile="seen"))
    certificate = x509.load_der_x509_certificate(issued.certificate_der)
    (kept_der,) = await kept(ca)
    base = certificate.tbs_precertificate_bytes
    (read,) = listed(certificate)
    stamp = Timestamp(read.log_id, int(NOW.timestamp()) * 1000, read.extension_bytes, 4, 3, read.signature)
    precertificate = Precertificate(x509.load_der_x509_certificate(kept_der).tbs_certificate_bytes, base, 1)
    algorithm = issuer_of(ca, issued.record.issuer_id).signer.algorithm_der
    final = stamped(base, (stamp,))
    assert final == certificate.tbs_certificate_bytes
    check_certificate(precertificate, final, (stamp,), algorithm)
    for position in range(len(final)):
        wrong = bytearray(final)
        wrong[position] ^= 1
        with pytest.raises(ValueError, match=r"\w"):
            check_certificate(precertificate, bytes(wrong), (stamp,), algorithm)
    assert isinstance(logs[2].key, rsa.RSAPrivateKey)
