"""RFC 5280 §3.3, §4.2.1.13, §5 and §5.1: what CRLs list, where they are, and their fields."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyasn1.codec.der import encoder
from pyasn1_modules import rfc5280

from opencertd.clock import FixedClock
from opencertd.crl.resource import edge
from opencertd.crl.store import Line
from opencertd.model.crl_parts import shard_of
from tests.conformance import shows
from tests.crl.conformance.made import DAY, EC, KEY, LATE, NUMBER, Crl, every, fill, lines, now, read, text_of, worker
from tests.crl.rig import Rig
from tests.ocsp.browser import Browser, header
from tests.ocsp.pki import NOW

UTC_TIME = re.compile(r"[0-9]{12}Z")
GENERALIZED_TIME = re.compile(r"[0-9]{14}Z")


@shows("5280 §3.3/1")
def test_3_3_the_next_crl() -> None:
    rig = worker(FixedClock(NOW))
    before = now(rig.server.publish(EC.issuer.id))
    rig.store.revoke(EC, 5)
    after = now(rig.server.publish(EC.issuer.id))
    assert [list(Crl(EC, crl, frozenset()).entries) for crl in (before, after)] == [[], [5]]


@shows("5280 §3.3/2")
def test_3_3_not_removed_too_early() -> None:
    """Whatever is published besides, by the scheduled CRL that follows the expiry it is listed."""
    rig = Rig(clock=FixedClock(NOW))
    expiry = NOW + timedelta(days=3, hours=7)
    rig.store.revoke(EC, 5, not_after=expiry)
    due, seen_after_expiry = NOW, 0
    while True:
        scheduled = rig.clock.now() >= due
        crl = Crl(EC, now(rig.server.publish(EC.issuer.id)), frozenset())
        if scheduled:
            due = rig.clock.now() + DAY
            seen_after_expiry += rig.clock.now() > expiry and 5 in crl.entries
        if 5 not in crl.entries:
            break
        rig.clock.advance(timedelta(hours=5))
    assert seen_after_expiry >= 1
    assert rig.clock.now() < expiry + 4 * DAY, "and leaves in the end"


def site() -> tuple[Rig, Browser]:
    rig = worker(FixedClock(NOW))
    return rig, Browser(edge(server=rig.server, issuer_for=lambda _name, _key: EC.issuer, clock=rig.clock))


@shows("5280 §4.2.1.13/1")
def test_4_2_1_13_http() -> None:
    for crl in every():
        if crl.published.part.word:
            (point,) = crl.points()
            assert point.startswith("http://")


@pytest.mark.parametrize("word", ["", "/4-1", "/cas", "/users", "/delta"])
def test_4_2_1_13_every_kind_is_found(word: str) -> None:
    rig, browser = site()
    now(rig.server.ensure())
    line = Line(EC.issuer.id, delta=True)
    now(rig.server.publish(EC.issuer.id, line))
    response, body = now(browser.ask("GET", f"/ca/ecdsa/crl{word}"))
    assert response.code == 200
    assert header(response, "Content-Type") == "application/pkix-crl"
    assert x509.load_der_x509_crl(body).public_bytes(Encoding.DER) == body


@shows("5280 §4.2.1.13/2")
def test_4_2_1_13_a_single_crl_in_der() -> None:
    rig, browser = site()
    now(rig.server.ensure())
    _, body = now(browser.ask("GET", f"/ca/ecdsa/crl/{shard_of(7, 4).word}"))
    assert encoder.encode(read(body, rfc5280.CertificateList())) == body


@shows("5280 §4.2.1.13/3")
def test_4_2_1_13_media_type() -> None:
    rig, browser = site()
    now(rig.server.ensure())
    response, _ = now(browser.ask("GET", "/ca/ecdsa/crl/users"))
    assert header(response, "Content-Type") == "application/pkix-crl"


@shows("5280 §5/1")
def test_5_version_2() -> None:
    assert {str(crl.tbs["version"].prettyPrint()) for crl in every()} == {"v2"}


@shows("5280 §5/2")
def test_5_next_update() -> None:
    for crl in every():
        assert crl.parsed.next_update_utc == crl.published.next_update > crl.parsed.last_update_utc


@shows("5280 §5/3")
def test_5_number() -> None:
    for crl in every():
        assert int(crl.extensions[NUMBER].value) == crl.published.number > 0


@shows("5280 §5/4")
def test_5_key() -> None:
    for crl in every():
        own = crl.ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        assert bytes(crl.extensions[KEY].value["keyIdentifier"]) == own


@shows("5280 §5/5")
def test_5_complete() -> None:
    """Every complete CRL lists what of its scope is revoked, and nothing else; the largest are not empty."""
    complete = [crl for crl in every() if crl.published.base is None]
    assert all(set(crl.entries) == crl.listed for crl in complete)
    assert all(any(crl.entries for crl in of_line) for line, of_line in lines(every()).items() if not line.delta)


@shows("5280 §5/6")
def test_5_scope_of_deltas() -> None:
    """Deltas are of all certificates, as the CRL with the number that they name is: whatever changed is on them."""
    for line, of_line in lines(every()).items():
        for crl in of_line if line.delta else ():
            (base,) = [one for one in every() if one.published.number == crl.published.base and is_base(one, crl)]
            assert set(crl.entries) == base.listed ^ crl.listed | (set(crl.entries) & base.listed)


def is_base(one: Crl, of: Crl) -> bool:
    return one.published.line == Line(of.published.issuer_id)


@shows("5280 §5.1.1.2/1")
def test_5_1_1_2_algorithm() -> None:
    for crl in every():
        assert encoder.encode(crl.whole["signatureAlgorithm"]) == encoder.encode(crl.tbs["signature"])


@shows("5280 §5.1.1.3/1")
def test_5_1_1_3_signature() -> None:
    for crl in every():
        assert crl.parsed.is_signature_valid(crl.ca.certificate.public_key())
        assert encoder.encode(crl.tbs) == crl.parsed.tbs_certlist_bytes


@shows("5280 §5.1.2.1/1")
def test_5_1_2_1_version() -> None:
    for crl in every():
        assert crl.tbs["version"].isValue and int(crl.tbs["version"]) == 1


@shows("5280 §5.1.2.2/1")
def test_5_1_2_2_signature_field() -> None:
    names = {"rsa": "1.2.840.113549.1.1.11", "ecdsa": "1.2.840.10045.4.3.2", "ecdsa-root": "1.2.840.10045.4.3.3"}
    for crl in every():
        for holder in (crl.tbs["signature"], crl.whole["signatureAlgorithm"]):
            assert str(holder["algorithm"]) == names[crl.ca.issuer.name]


@shows("5280 §5.1.2.3/1")
def test_5_1_2_3_issuer() -> None:
    for crl in every():
        assert len(crl.tbs["issuer"]["rdnSequence"]) > 0


@shows("5280 §5.1.2.3/2")
def test_5_1_2_3_encoding() -> None:
    for crl in every():
        assert encoder.encode(crl.tbs["issuer"]) == crl.ca.certificate.subject.public_bytes()


def check_times(start: datetime, kind: str, shape: re.Pattern[str], *fields: str) -> None:
    for crl in every(start):
        for name in fields:
            assert crl.tbs[name].getName() == kind
            assert shape.fullmatch(text_of(crl.tbs[name])), text_of(crl.tbs[name])


@shows("5280 §5.1.2.4/1")
def test_5_1_2_4_until_2049() -> None:
    check_times(NOW, "utcTime", UTC_TIME, "thisUpdate")


@shows("5280 §5.1.2.4/2")
def test_5_1_2_4_from_2050() -> None:
    check_times(LATE, "generalTime", GENERALIZED_TIME, "thisUpdate")


@shows("5280 §5.1.2.4/3")
def test_5_1_2_4_utc_time() -> None:
    for crl in every():
        assert UTC_TIME.fullmatch(text_of(crl.tbs["thisUpdate"]))
        assert text_of(crl.tbs["thisUpdate"]) == f"{crl.published.this_update:%y%m%d%H%M%S}Z"


@shows("5280 §5.1.2.4/4")
def test_5_1_2_4_generalized_time() -> None:
    assert LATE.microsecond
    for crl in every(LATE):
        assert text_of(crl.tbs["thisUpdate"]) == f"{crl.published.this_update:%Y%m%d%H%M%S}Z"


@shows("5280 §5.1.2.5/1")
def test_5_1_2_5_always() -> None:
    assert all(crl.tbs["nextUpdate"].isValue for crl in every())


@shows("5280 §5.1.2.5/2")
def test_5_1_2_5_until_2049() -> None:
    check_times(NOW, "utcTime", UTC_TIME, "nextUpdate")


@shows("5280 §5.1.2.5/3")
def test_5_1_2_5_from_2050() -> None:
    check_times(LATE, "generalTime", GENERALIZED_TIME, "nextUpdate")
    start = NOW.replace(year=2049, month=12, day=28)  # the week in which the two fields differ
    for crl in every(start):
        kind = "utcTime" if crl.published.next_update.year < 2050 else "generalTime"
        assert crl.tbs["nextUpdate"].getName() == kind
    assert {crl.tbs["nextUpdate"].getName() for crl in every(start)} == {"utcTime", "generalTime"}


@shows("5280 §5.1.2.5/4")
def test_5_1_2_5_no_earlier_than_before() -> None:
    for of_line in lines(every()).values():
        ends = [crl.published.next_update for crl in of_line]
        assert ends == sorted(ends) and len(ends) == 3


@shows("5280 §5.1.2.6/1")
def test_5_1_2_6_absent() -> None:
    empty = [crl for crl in every() if not crl.entries]
    assert len(empty) > 10
    assert not any(crl.tbs["revokedCertificates"].isValue for crl in empty)


@shows("5280 §5.1.2.6/2")
def test_5_1_2_6_serial_and_date() -> None:
    rig = worker(FixedClock(NOW))
    serials = fill(rig, EC, NOW - 3 * DAY)
    crl = x509.load_der_x509_crl(now(rig.server.publish(EC.issuer.id)).crl_der)
    assert {entry.serial_number for entry in crl} == serials
    assert {entry.revocation_date_utc for entry in crl} == {(NOW - 3 * DAY).replace(microsecond=0)}


@shows("5280 §5.1.2.6/3")
def test_5_1_2_6_dates() -> None:
    for start, kind, shape in ((NOW, "utcTime", UTC_TIME), (LATE, "generalTime", GENERALIZED_TIME)):
        dates = [entry["revocationDate"] for crl in every(start) for entry in crl.entries.values()]
        assert len(dates) > 100
        assert all(date.getName() == kind and shape.fullmatch(text_of(date)) for date in dates)
