"""RFC 5280 §5.2: extensions of CRLs."""

from __future__ import annotations

import pytest
from cryptography import x509
from pyasn1_modules import rfc5280

from opencertd.clock import FixedClock
from opencertd.crl.store import Line
from opencertd.crl.terms import CrlTerms
from opencertd.errors import Refusal
from opencertd.model.certificates import RevocationReason
from opencertd.model.crl_parts import ALL, CAS, USERS, Partition, point
from tests.ca import make_ca, request
from tests.conformance import shows
from tests.crl.conformance.made import (
    DELTA,
    DELTA_URL,
    EC,
    FRESHEST,
    KEY,
    NUMBER,
    POINT,
    URL,
    Crl,
    every,
    lines,
    now,
    worker,
)
from tests.crl.rig import Rig
from tests.ocsp.pki import NOW

ONLY = ("onlyContainsUserCerts", "onlyContainsCACerts", "onlyContainsAttributeCerts")


def scoped() -> list[Crl]:
    """Those with an issuing distribution point: all of parts."""
    found = [crl for crl in every() if POINT in crl.extensions]
    assert len(found) >= 3 * (2 + 4)
    assert {crl.published.part == ALL for crl in found} == {False}
    return found


def deltas() -> list[Crl]:
    found = [crl for crl in every() if crl.published.line.delta]
    assert len(found) == 9
    return found


@shows("5280 §5.2/1")
def test_5_2_in_all() -> None:
    assert all({KEY, NUMBER} <= set(crl.extensions) for crl in every())


@shows("5280 §5.2.1/1")
def test_5_2_1_by_key() -> None:
    for crl in every():
        value = crl.extensions[KEY].value
        assert value["keyIdentifier"].isValue
        assert not value["authorityCertIssuer"].isValue and not value["authorityCertSerialNumber"].isValue


@shows("5280 §5.2.1/2")
def test_5_2_1_in_all() -> None:
    assert all(KEY in crl.extensions and not crl.extensions[KEY].critical for crl in every())


@shows("5280 §5.2.3/1")
def test_5_2_3_grows() -> None:
    for of_line in lines(every()).values():
        numbers = [int(crl.extensions[NUMBER].value) for crl in of_line]
        assert numbers == sorted(set(numbers))
    assert not any(crl.extensions[NUMBER].critical for crl in every())


def of_all() -> dict[str, list[Crl]]:
    """Complete and delta CRLs of all certificates, by issuer."""
    found: dict[str, list[Crl]] = {}
    for crl in every():
        if crl.published.part == ALL:
            found.setdefault(crl.published.issuer_id, []).append(crl)
    return found


@shows("5280 §5.2.3/2")
def test_5_2_3_one_sequence() -> None:
    for made in of_all().values():
        numbers = [crl.published.number for crl in made]
        assert len({crl.published.line for crl in made}) == 2
        assert numbers == sorted(set(numbers)), "in the order in which they were made"


@shows("5280 §5.2.3/3")
def test_5_2_3_never_at_the_same_time() -> None:
    rig = worker(FixedClock(NOW))
    for delta in (False, True, False, True, True, False):
        now(rig.server.publish(EC.issuer.id, Line(EC.issuer.id, ALL, delta)))
    complete, changed = rig.store.kept[EC.issuer.id], rig.store.lines[Line(EC.issuer.id, ALL, True)]
    assert not {crl.this_update for crl in complete} & {crl.this_update for crl in changed}


@shows("5280 §5.2.3/4")
def test_5_2_3_no_number_twice() -> None:
    for of_scope in (*of_all().values(), *lines(every()).values()):
        assert len({crl.published.number for crl in of_scope}) == len(of_scope)


@shows("5280 §5.2.3/5")
def test_5_2_3_short() -> None:
    for crl in every(NOW.replace(year=2500)):
        assert crl.published.number.bit_length() < 20 * 8


@shows("5280 §5.2.4/1")
def test_5_2_4_indicator() -> None:
    for crl in every():
        assert (DELTA in crl.extensions) == crl.published.line.delta
    assert all(crl.extensions[DELTA].critical for crl in deltas())


def base_of(delta: Crl) -> Crl:
    number = int(delta.extensions[DELTA].value)
    (base,) = [crl for crl in every() if crl.published.number == number and crl.ca is delta.ca and crl.is_of_all]
    return base


@shows("5280 §5.2.4/2")
def test_5_2_4_base() -> None:
    for delta in deltas():
        assert base_of(delta).published.base is None
        assert base_of(delta).published.number < delta.published.number
    rig = worker(FixedClock(NOW))
    with pytest.raises(Refusal, match="there is no CRL"):
        now(rig.server.publish(EC.issuer.id, Line(EC.issuer.id, ALL, delta=True)))
    assert not rig.store.lines


@shows("5280 §5.2.4/3")
def test_5_2_4_scope() -> None:
    """All reasons, CAs and others, of all shards."""
    changed = [crl for crl in deltas() if crl.entries]
    assert changed
    for delta in changed:
        rows = {
            crl.published.part: crl for crl in every() if crl.ca is delta.ca and set(crl.entries) & set(delta.entries)
        }
        assert {ALL, CAS, USERS} <= set(rows)
        assert len(set(delta.reasons().values())) >= 7


@shows("5280 §5.2.4/4")
def test_5_2_4_no_point() -> None:
    for delta in deltas():
        assert POINT not in delta.extensions and POINT not in base_of(delta).extensions


@shows("5280 §5.2.4/5")
def test_5_2_4_key() -> None:
    for delta in deltas():
        key = delta.ca.certificate.public_key()
        assert delta.parsed.is_signature_valid(key) and base_of(delta).parsed.is_signature_valid(key)
        assert delta.extensions[KEY].der == base_of(delta).extensions[KEY].der


@shows("5280 §5.2.5/1")
def test_5_2_5_critical() -> None:
    assert all(crl.extensions[POINT].critical for crl in scoped())
    assert {crl.published.part for crl in every()} - {crl.published.part for crl in scoped()} == {ALL}


@shows("5280 §5.2.5/2")
def test_5_2_5_key() -> None:
    assert all(crl.parsed.is_signature_valid(crl.ca.certificate.public_key()) for crl in scoped())


@shows("5280 §5.2.5/3")
def test_5_2_5_all_reasons() -> None:
    assert not any(crl.extensions[POINT].value["onlySomeReasons"].isValue for crl in scoped())
    told = {reason for crl in scoped() for reason in crl.reasons().values()}
    assert told == {None, *(int(reason) for reason in RevocationReason if reason not in (0, 8))}


@shows("5280 §5.2.5/4")
def test_5_2_5_not_indirect() -> None:
    assert not any(bool(crl.extensions[POINT].value["indirectCRL"]) for crl in scoped())


@shows("5280 §5.2.5/5")
def test_5_2_5_one_only() -> None:
    for crl in scoped():
        said = [name for name in ONLY if bool(crl.extensions[POINT].value[name])]
        assert said == {CAS: [ONLY[1]], USERS: [ONLY[0]]}.get(crl.published.part, [])


@shows("5280 §5.2.5/6")
def test_5_2_5_no_attribute_certificates() -> None:
    assert not any(bool(crl.extensions[POINT].value[ONLY[2]]) for crl in scoped())


@shows("5280 §5.2.5/7")
def test_5_2_5_not_empty() -> None:
    """Nor where certificates name no distribution point with `{part}`, as before it was set."""
    bare = Rig(clock=FixedClock(NOW), terms=CrlTerms(partition=Partition(0, True)))
    more = [Crl(EC, crl, frozenset()) for crl in now(bare.server.publish_complete(EC.issuer))]
    found = [crl.extensions[POINT].der for crl in (*scoped(), *more) if POINT in crl.extensions]
    assert len(found) == len(scoped()) + 2
    assert b"\x30\x00" not in found


@shows("5280 §5.2.5/8")
def test_5_2_5_without_a_name() -> None:
    """The CRL of all has everything, and so has that of CAs, or of all others, that names no place."""
    bare = Rig(clock=FixedClock(NOW), terms=CrlTerms(partition=Partition(0, True)))
    for serial in range(1, 20):
        bare.store.revoke(EC, serial, is_ca=serial % 3 == 0)
    everything, cas, users = (
        set(Crl(EC, crl, frozenset()).entries) for crl in now(bare.server.publish_complete(EC.issuer))
    )
    assert everything == set(range(1, 20)) == cas | users
    assert cas == {serial for serial in range(1, 20) if serial % 3 == 0}


@shows("5280 §5.2.5/9")
def test_5_2_5_as_in_certificates() -> None:
    for crl in scoped():
        uri = x509.UniformResourceIdentifier(point(URL, crl.ca.issuer.name, crl.published.part))
        named = x509.CRLDistributionPoints([x509.DistributionPoint([uri], None, None, None)]).public_bytes()
        own = rfc5280_name(crl)
        assert own in named and len(own) > 20


def rfc5280_name(crl: Crl) -> bytes:
    """The distribution point's name as it is encoded: what `[0]` holds."""
    der = crl.extensions[POINT].der
    assert der[0] == 0x30 and der[2] == 0xA0
    return der[2 : 4 + der[3]]


@shows("5280 §5.2.5/10")
async def test_5_2_5_version_3() -> None:
    """All that this CA issues is of version 3."""
    ca = make_ca()
    issued = x509.load_der_x509_certificate((await ca.authority.issue(request())).certificate_der)
    made = {issued.version, *(issuer.certificate.version for issuer in ca.issuers.all())}
    assert made == {x509.Version.v3}


def complete() -> list[Crl]:
    return [crl for crl in every() if FRESHEST in crl.extensions]


@shows("5280 §5.2.6/1")
def test_5_2_6_not_in_deltas() -> None:
    assert not any(FRESHEST in crl.extensions for crl in deltas())


@shows("5280 §5.2.6/2")
def test_5_2_6_not_critical() -> None:
    assert len(complete()) == 9
    assert not any(crl.extensions[FRESHEST].critical for crl in complete())


@shows("5280 §5.2.6/3")
def test_5_2_6_where_it_leads() -> None:
    """CRLs of all certificates lead to the issuer's delta, which is of all; those of parts lead to none."""
    for crl in every():
        assert (FRESHEST in crl.extensions) == (crl.published.part == ALL and not crl.published.line.delta)
    for crl in complete():
        (place,) = crl.parsed.extensions.get_extension_for_class(x509.FreshestCRL).value
        assert [uri.value for uri in place.full_name or ()] == [DELTA_URL.format(issuer=crl.ca.issuer.name)]


@shows("5280 §5.2.6/4")
def test_5_2_6_nothing_else() -> None:
    for crl in complete():
        for place in crl.extensions[FRESHEST].value:
            assert not place["reasons"].isValue and not place["cRLIssuer"].isValue


def test_there_are_no_others() -> None:
    """What is not done is not done halfway."""
    absent = (rfc5280.id_ce_issuerAltName, rfc5280.id_pe_authorityInfoAccess)
    assert not any(identifier in crl.extensions for crl in every() for identifier in absent)
