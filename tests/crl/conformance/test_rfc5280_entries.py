"""RFC 5280 §5.3: extensions of entries."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509

from opencertd.clock import FixedClock
from opencertd.model.certificates import RevocationReason
from tests.conformance import shows
from tests.crl.conformance.made import (
    DAY,
    EC,
    INVALID_SINCE,
    LATE,
    REASON,
    Extension,
    every,
    extensions_of,
    now,
    worker,
)
from tests.ocsp.pki import NOW


def extensions() -> list[dict[object, Extension]]:
    found = [extensions_of(entry["crlEntryExtensions"]) for crl in every() for entry in crl.entries.values()]
    assert len(found) > 300
    return found


@shows("5280 §5.3/1")
def test_5_3_not_critical() -> None:
    for said in extensions():
        assert set(said) <= {REASON, INVALID_SINCE}
        assert not any(extension.critical for extension in said.values())


@shows("5280 §5.3.1/1")
def test_5_3_1_reasons() -> None:
    rig = worker(FixedClock(NOW))
    reasons = [reason for reason in RevocationReason if reason not in (0, RevocationReason.REMOVE_FROM_CRL)]
    for serial, reason in enumerate(reasons, 1):
        rig.store.revoke(EC, serial, reason=reason)
    crl = x509.load_der_x509_crl(now(rig.server.publish(EC.issuer.id)).crl_der)
    said = [entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.name for entry in crl]
    assert sorted(said) == sorted(reason.name.lower() for reason in reasons)


@shows("5280 §5.3.1/2")
def test_5_3_1_unspecified() -> None:
    said = [int(one[REASON].value) for one in extensions() if REASON in one]
    assert 0 not in said and 7 not in said
    assert any(REASON not in one for one in extensions())


@shows("5280 §5.3.1/3")
def test_5_3_1_remove_from_crl() -> None:
    removing = [crl for crl in every() if RevocationReason.REMOVE_FROM_CRL in crl.reasons().values()]
    assert removing and all(crl.published.line.delta for crl in removing)


@shows("5280 §5.3.2/1")
def test_5_3_2_time() -> None:
    for start in (NOW, LATE):
        for crl in every(start):
            for entry in crl.entries.values():
                said = extensions_of(entry["crlEntryExtensions"])
                if INVALID_SINCE in said:
                    text = str(said[INVALID_SINCE].value)
                    assert len(text) == 15 and text[:14].isdigit() and text[14] == "Z"


@shows("5280 §5.3.2/2")
def test_5_3_2_when_known() -> None:
    rig = worker(FixedClock(NOW))
    rig.store.revoke(EC, 1, invalidity_date=NOW - DAY)
    rig.store.revoke(EC, 2)
    first, second = x509.load_der_x509_crl(now(rig.server.publish(EC.issuer.id)).crl_der)
    said = first.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc
    assert NOW - DAY - said < timedelta(seconds=1)
    assert not any(isinstance(extension.value, x509.InvalidityDate) for extension in second.extensions)
