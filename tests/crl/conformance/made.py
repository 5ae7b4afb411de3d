"""CRLs of every kind, as the CRL room makes them, read by pyasn1: by its schema of RFC 5280, not by our own reader."""

from __future__ import annotations

import functools
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from cryptography import x509
from pyasn1.codec.der import decoder
from pyasn1_modules import rfc5280
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from opencertd.clock import FixedClock
from opencertd.crl.store import Line, PublishedCrl
from opencertd.crl.terms import CrlTerms, lines_of
from opencertd.model.certificates import RevocationReason
from opencertd.model.crl_parts import Partition
from tests.crl.rig import Rig
from tests.ocsp.pki import NOW, Ca, pki

T = TypeVar("T")

DAY = timedelta(days=1)
URL = "http://crl.example/ca/{issuer}/crl/{part}"
DELTA_URL = "http://crl.example/ca/{issuer}/crl/delta"
LATE = datetime(2062, 3, 4, 5, 6, 7, 891_000, tzinfo=UTC)

NUMBER, KEY, DELTA, POINT, FRESHEST = (
    rfc5280.id_ce_cRLNumber,
    rfc5280.id_ce_authorityKeyIdentifier,
    rfc5280.id_ce_deltaCRLIndicator,
    rfc5280.id_ce_issuingDistributionPoint,
    rfc5280.id_ce_freshestCRL,
)
REASON, INVALID_SINCE = rfc5280.id_ce_cRLReasons, rfc5280.id_ce_invalidityDate
_SYNTAX: Mapping[Any, Any] = {
    NUMBER: rfc5280.CRLNumber(),
    KEY: rfc5280.AuthorityKeyIdentifier(),
    DELTA: rfc5280.BaseCRLNumber(),
    POINT: rfc5280.IssuingDistributionPoint(),
    FRESHEST: rfc5280.FreshestCRL(),
    REASON: rfc5280.CRLReason(),
    INVALID_SINCE: rfc5280.InvalidityDate(),
}


def now(deed: Coroutine[Deferred[Any], Any, T]) -> T:
    """The result of what waits for nothing."""
    result: Any = Deferred.fromCoroutine(deed).result  # type: ignore[attr-defined]
    if isinstance(result, Failure):
        result.raiseException()
    return result  # type: ignore[no-any-return]


def read(data: bytes, syntax: Any) -> Any:
    """The value in DER, all of it."""
    value, rest = decoder.decode(data, asn1Spec=syntax)
    assert not rest
    return value


@dataclass(frozen=True)
class Extension:
    """An extension as read."""

    critical: bool
    der: bytes
    value: Any


def extensions_of(holder: Any) -> dict[Any, Extension]:
    """By identifier; none stands twice."""
    listed = list(holder) if holder.isValue else []
    found = {
        each["extnID"]: Extension(
            bool(each["critical"]), bytes(each["extnValue"]), read(bytes(each["extnValue"]), _SYNTAX[each["extnID"]])
        )
        for each in listed
    }
    assert len(found) == len(listed)
    return found


class Crl:
    """A CRL, who signed it, and what was listed when it was made."""

    def __init__(self, ca: Ca, published: PublishedCrl, listed: frozenset[int]) -> None:
        self.ca = ca
        self.published = published
        self.listed = listed
        self.whole = read(published.crl_der, rfc5280.CertificateList())
        self.tbs = self.whole["tbsCertList"]
        self.extensions = extensions_of(self.tbs["crlExtensions"])

    @property
    def parsed(self) -> x509.CertificateRevocationList:
        """As `cryptography` reads it."""
        return x509.load_der_x509_crl(self.published.crl_der)

    @property
    def is_of_all(self) -> bool:
        """Whether it is a complete CRL of all certificates."""
        return self.published.line == Line(self.published.issuer_id)

    def points(self) -> list[str]:
        """The URLs of its issuing distribution point."""
        value = self.parsed.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
        return [uri.value for uri in value.full_name or ()]

    @property
    def entries(self) -> dict[int, Any]:
        """By serial; none stands twice."""
        listed = self.tbs["revokedCertificates"]
        found = {int(entry["userCertificate"]): entry for entry in (listed if listed.isValue else ())}
        assert len(found) == (len(listed) if listed.isValue else 0)
        return found

    def reasons(self) -> dict[int, int | None]:
        """The reason code of each entry, None where none is said."""
        found = {serial: extensions_of(entry["crlEntryExtensions"]) for serial, entry in self.entries.items()}
        return {serial: int(said[REASON].value) if REASON in said else None for serial, said in found.items()}


def worker(clock: FixedClock | None = None, *, shards: int = 4) -> Rig:
    """A CA with CRLs by parts and deltas."""
    terms = CrlTerms(partition=Partition(shards, True), points=(URL,), delta=(DELTA_URL,))
    return Rig(clock=clock, terms=terms)


REASONS = tuple(reason for reason in RevocationReason if reason is not RevocationReason.REMOVE_FROM_CRL)


def fill(rig: Rig, ca: Ca, at: datetime) -> frozenset[int]:
    """Certificates revoked for each reason, in every shard, CAs among them; the serials."""
    serials = []
    for n in range(4 * len(REASONS)):
        serial = (n << 130) + n * 1637 + 1
        serials.append(serial)
        since = at - DAY if n % 3 == 0 else None
        reason = REASONS[n % len(REASONS)]
        rig.store.revoke(ca, serial, at=at, reason=reason, invalidity_date=since, is_ca=n % 7 == 0, recorded=at)
    return frozenset(serials)


def round_of(rig: Rig) -> Iterator[Crl]:
    """One CRL of every line of every issuer."""
    for issuer in rig.issuers.all():
        ca = rig.pki.ca_of(issuer)
        for line in lines_of(issuer.id, now(rig.server.schemes(issuer))):
            in_part = frozenset(row.serial for row in rig.store.revoked.get(issuer.id, ()) if row.is_in(line.part))
            yield Crl(ca, now(rig.server.publish(issuer.id, line)), in_part)


@functools.cache
def every(start: datetime = NOW) -> tuple[Crl, ...]:
    """CRLs of every line of every issuer, with nothing on them, then with much, then with a hold that has ended."""
    clock = FixedClock(start)
    rig = worker(clock)
    made = list(round_of(rig))
    clock.advance(DAY * 1.2)
    for issuer in rig.issuers.all():
        fill(rig, rig.pki.ca_of(issuer), clock.now())
    made += round_of(rig)
    clock.advance(DAY * 1.2)
    for issuer in rig.issuers.all():
        ca = rig.pki.ca_of(issuer)
        held = [row for row in rig.store.revoked[issuer.id] if row.revocation.held]
        rig.store.release(ca, held[0].serial, clock.now())
    return (*made, *round_of(rig))


def lines(crls: tuple[Crl, ...]) -> dict[Line, list[Crl]]:
    """The CRLs of each line, in order."""
    found: dict[Line, list[Crl]] = {}
    for crl in crls:
        found.setdefault(crl.published.line, []).append(crl)
    return found


def text_of(time: Any) -> str:
    """What stands in a Time."""
    return str(time.getComponent())


EC = pki().ecdsa
