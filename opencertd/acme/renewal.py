"""When a certificate should be renewed: a window in its life, which moves to now when it has lost its worth (RFC 9773).

The window follows from the certificate and the settings alone, so that every worker says the same; clients choose
their moment in it at random (§4.2), and come back for news at moments that are spread too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from opencertd.acme.encoding import b64url, parse_b64url
from opencertd.acme.server import AcmeServer
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.model.certificates import CertificateRecord
from opencertd.model.names import AltName

LEAST_POLL = timedelta(minutes=1)
_LONGEST_PART = 64  # octets of a key identifier or a serial number; real ones have at most 32
_LOOKS = 24  # times that a client should look during the life of a certificate that is short
_AT_ONCE = timedelta(hours=1)  # how long a window is that is over: clients renew when they see it


@dataclass(frozen=True)
class RenewalTerms:
    """`window`: which part of a certificate's life is for renewing, from 0 to 1. `poll`: how often clients should look.

    `explanation_url`: a page for people, given with windows that have moved to now.
    """

    window: tuple[float, float] = (0.6, 0.7)
    poll: timedelta = timedelta(hours=6)
    explanation_url: str | None = None


@dataclass(frozen=True)
class CertificateName:
    """How RFC 9773 §4.1 names a certificate: by its authorityKeyIdentifier's keyIdentifier and its serial number."""

    key_identifier: bytes
    serial: int

    def __str__(self) -> str:
        return f"{b64url(self.key_identifier)}.{b64url(_integer(self.serial))}"


@dataclass(frozen=True)
class RenewalInfo:
    """What a client is told. `moved`: the window is over since the certificate or its issuer is to be trusted no more.

    `retry_after`: whole seconds until the client should look again.
    """

    start: datetime
    end: datetime
    moved: bool
    retry_after: int


def parse_certificate_name(text: str) -> CertificateName:
    """`base64url(keyIdentifier).base64url(serial number's DER content)`, in its one spelling. Raises MALFORMED."""
    what = "the certificate's identifier"
    parts = text.split(".")
    if len(parts) != 2 or not all(parts):
        raise Refusal(RefusalKind.MALFORMED, f"{what} is not two base64url texts with a dot between (RFC 9773 §4.1)")
    key_identifier, serial = (parse_b64url(part, what) for part in parts)
    if max(len(key_identifier), len(serial)) > _LONGEST_PART:
        raise Refusal(RefusalKind.MALFORMED, f"{what} is too long")
    number = int.from_bytes(serial, "big", signed=True)
    if number < 0 or _integer(number) != serial:
        raise Refusal(RefusalKind.MALFORMED, f"{what} has no serial number as DER writes it")
    return CertificateName(key_identifier, number)


def _integer(number: int) -> bytes:
    """The content of a DER INTEGER that is not negative."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def is_given_up(issuer: Issuer, issuers: Issuers) -> bool:
    """Whether certificates of the issuer are to be replaced: it signs no more, or something above it is revoked."""
    if issuers.current(issuer.name) is not issuer:
        return True
    above = issuers.by_id(issuer.record.parent_id or "")
    while above is not None:
        if above.revoked:
            return True
        above = issuers.by_id(above.record.parent_id or "")
    return False


def suggested_window(record: CertificateRecord, terms: RenewalTerms) -> tuple[datetime, datetime]:
    """Where in the certificate's life it should be renewed, as long as all is well; whole seconds, never empty."""
    life = record.not_after - record.not_before
    start, end = ((record.not_before + part * life).replace(microsecond=0) for part in terms.window)
    return start, max(end, start + timedelta(seconds=1))


class Renewals:
    """Answers for all certificates of this CA, whatever protocol they were got by."""

    def __init__(self, server: AcmeServer, terms: RenewalTerms, *, authority: CertificateAuthority) -> None:
        self._server = server
        self._terms = terms
        self._authority = authority

    @property
    def explanation_url(self) -> str | None:
        return self._terms.explanation_url

    async def info(self, text: str) -> RenewalInfo:
        """About the certificate that `text` names. Refusals: MALFORMED, NOT_FOUND."""
        record = await self._find(parse_certificate_name(text))
        if record is None:
            raise Refusal(RefusalKind.NOT_FOUND, "this CA issued no such certificate")
        now = self._server.clock.now().replace(microsecond=0)
        retry_after = self._retry_after(record)
        if self._has_lost_its_worth(record):
            return RenewalInfo(now - _AT_ONCE, now, moved=True, retry_after=retry_after)
        start, end = suggested_window(record, self._terms)
        return RenewalInfo(start, end, moved=False, retry_after=retry_after)

    async def check_replaced(self, text: str, account_id: str, names: tuple[AltName, ...]) -> None:
        """Raise unless an order of that account for these names may replace the certificate (RFC 9773 §5).

        Refusals: MALFORMED (not its name, unknown, no name shared), UNAUTHORIZED (another account's). Whether another
        order has replaced it is seen when the order is kept.
        """
        record = await self._find(parse_certificate_name(text))
        if record is None:
            raise Refusal(RefusalKind.MALFORMED, "'replaces' names no certificate of this CA")
        if await self._server.store.certificate_account(record.id) != account_id:
            raise Refusal(RefusalKind.UNAUTHORIZED, "the certificate in 'replaces' was not issued to this account")
        if not set(names) & set(record.names):
            raise Refusal(RefusalKind.MALFORMED, "the certificate in 'replaces' shares no name with the order")

    async def _find(self, name: CertificateName) -> CertificateRecord | None:
        for record in await self._authority.store.by_serial(name.serial):
            issuer = self._authority.issuers.by_id(record.issuer_id)
            if issuer is not None and issuer.subject_key_identifier == name.key_identifier:
                return record
        return None

    def _has_lost_its_worth(self, record: CertificateRecord) -> bool:
        if record.revocation is not None and not record.revocation.held:  # a hold may end, and is not to be evaded
            return True
        issuers = self._authority.issuers
        issuer = issuers.by_id(record.issuer_id)
        return issuer is not None and is_given_up(issuer, issuers)

    def _retry_after(self, record: CertificateRecord) -> int:
        """The poll of the settings, sooner for short lives; up to a quarter longer, so that clients do not flock."""
        poll = min(self._terms.poll, max(LEAST_POLL, (record.not_after - record.not_before) / _LOOKS))
        late = int.from_bytes(self._server.random(2), "big") / 0x10000
        return int(poll.total_seconds() * (1 + late / 4))
