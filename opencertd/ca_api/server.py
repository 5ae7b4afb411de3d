"""The `/ca` API's conversation: CA certificates, enrolment by CSR, inventory, revocation. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from cryptography import x509

from opencertd.asn1.dn import canonical, parse_dn
from opencertd.asn1.pkcs10 import parse_csr
from opencertd.ca_api import messages
from opencertd.ca_api.proof import REINSTATE, check_signature
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.enrolment import (
    build_enrolment,
    check_still_good,
    client_profile,
    proven_certificate,
)
from opencertd.issuance.issuers import Issuer
from opencertd.model.certificates import CertificateRecord, CrossKind, IssuerRole
from opencertd.model.request import IssuedCertificate, IssuingProtocol, ReinstatementRequest, RevocationRequest
from opencertd.model.requester import Proof, Requester
from opencertd.tasks import Tasks

REVOKER = "revoker"
_CA_PROFILES = frozenset(kind.value for kind in (*IssuerRole, *CrossKind))
"""What CA certificates are recorded under: one stolen revoker key must not end the whole CA."""


class CaApiServer:
    """Answers the `/ca` API.

    `revokers`: subjects (RFC 4514) whose certificates may revoke any other and end holds; whoever lists a subject here
    must be sure that nobody else can enrol for it. Raises StartError for one that does not parse.
    `client_certificate_may_enrol_any_name`: as in EST.
    """

    def __init__(
        self,
        *,
        authority: CertificateAuthority,
        clock: Clock,
        tasks: Tasks,
        revokers: frozenset[str] = frozenset(),
        client_certificate_may_enrol_any_name: bool = False,
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._tasks = tasks
        self._revokers = _canonical_subjects(revokers)
        self._any_name = client_certificate_may_enrol_any_name

    def issuer(self, name: str | None) -> Issuer:
        """The issuer of that name, be it retired: `caIssuers` in what it signed leads here. Else the one whose
        certificate stands for the profile of that name (None: the default one). Raises NOT_FOUND, UNAVAILABLE.
        """
        named = self._authority.issuers.by_name(name) if name is not None else None
        return named or self._authority.issuer_for(self._client_profile(name), None)

    async def enrol(
        self, requester: Requester, profile: str | None, request: bytes, validity: timedelta | None = None
    ) -> IssuedCertificate:
        """A certificate for a PKCS#10 request in DER or PEM. Goes on when the asker leaves.

        `validity`: how long it is asked to be good, where the profile lets that be asked. Raises NOT_FOUND (profile),
        Refusals of `parse_csr`, of the rule of own names and of the core.
        """
        wish = build_enrolment(
            parse_csr(request),
            self._client_profile(profile),
            requester,
            protocol=IssuingProtocol.CA_API,
            client_certificate_may_enrol_any_name=self._any_name,
            validity=validity,
        )
        return check_still_good(await self._tasks.shield(self._authority.issue(wish)))

    def check_may_read(self, requester: Requester) -> None:
        """Raise UNAUTHORIZED for who was let in to enrol alone."""
        if requester.proof is Proof.ENROLMENT_PASSWORD:
            raise Refusal(RefusalKind.UNAUTHORIZED, "an enrolment password is good for enrolling, and nothing else")

    async def inventory(self, after: int, limit: int) -> dict[str, Any]:
        """A page of issued certificates with ids above `after`, as JSON shows it."""
        records = await self._authority.store.inventory(after, limit + 1)
        return messages.build_inventory(records, limit, self._issuer_name, self._clock.now())

    async def certificates(self, sn: str) -> dict[str, Any]:
        """The issued certificates with that serial and their histories, as JSON shows them.

        Raises MALFORMED, NOT_FOUND.
        """
        shown = []
        for record in await self._find(sn):
            history = await self._authority.store.revocation_history(record.id)
            shown.append(self._shown(record) | {"history": messages.build_history(history)})
        return {"certificates": shown}

    async def revoke(
        self,
        requester: Requester,
        *,
        sn: str,
        reason: str,
        signature: str,
        invalidity_date: str = "",
        issuer: str | None = None,
    ) -> dict[str, Any]:
        """Revoke or hold the certificate `sn` of `issuer` (a name or id; needed only when several used the serial).

        Answers the record as JSON shows it. Raises UNAUTHENTICATED without a client certificate or for a signature
        that is not its key's, MALFORMED and BAD_REVOCATION_REASON, NOT_FOUND, UNAUTHORIZED without the right,
        ALREADY_REVOKED. Goes on when the asker leaves.
        """
        own = proven_certificate(requester)
        messages.parse_serial(sn)
        why, since = messages.parse_reason(reason), messages.parse_invalidity_date(invalidity_date)
        check_signature(own, sn, reason + invalidity_date, signature)
        record = await self._one(sn, issuer)
        _check_end_entity(record)
        if not (await self._is_of(record, requester) or self._may_revoke(requester, own)):
            raise Refusal(
                RefusalKind.UNAUTHORIZED, "a certificate may revoke itself; revoking another needs the revoker right"
            )
        # Its own key has signed, or a revoker judges: either may say that the key is compromised.
        wish = RevocationRequest(
            record.issuer_id, record.serial, why, requester, invalidity_date=since, compromise_shown=True
        )
        return self._shown(await self._tasks.shield(self._authority.revoke(wish)))

    async def reinstate(
        self, requester: Requester, *, sn: str, signature: str, issuer: str | None = None
    ) -> dict[str, Any]:
        """End the hold of the certificate `sn`. Only revokers may, since a hold doubts whoever has the key.

        Answers the record as JSON shows it. Raises as `revoke` does, and CONFLICT when it is not on hold.
        """
        own = proven_certificate(requester)
        messages.parse_serial(sn)
        check_signature(own, sn, REINSTATE, signature)
        if not self._may_revoke(requester, own):
            raise Refusal(RefusalKind.UNAUTHORIZED, "ending a hold needs the revoker right")
        record = await self._one(sn, issuer)
        _check_end_entity(record)
        wish = ReinstatementRequest(record.issuer_id, record.serial, requester)
        return self._shown(await self._tasks.shield(self._authority.reinstate(wish)))

    def _client_profile(self, name: str | None) -> str:
        return client_profile(self._authority.profiles, name, IssuingProtocol.CA_API)

    async def _is_of(self, record: CertificateRecord, requester: Requester) -> bool:
        """Whether the requester has proven the key of this very certificate."""
        if record.certificate_der is not None:
            return record.certificate_der == requester.certificate_der
        shown = await self._authority.recognise(requester.certificate_der or b"")
        return shown is not None and shown.id == record.id

    def _may_revoke(self, requester: Requester, certificate: x509.Certificate) -> bool:
        return REVOKER in requester.roles or canonical(certificate.subject) in self._revokers

    async def _find(self, sn: str) -> tuple[CertificateRecord, ...]:
        found = await self._authority.store.by_serial(messages.parse_serial(sn))
        if not found:
            raise Refusal(RefusalKind.NOT_FOUND, "no certificate with that serial number was issued here")
        return found

    async def _one(self, sn: str, issuer: str | None) -> CertificateRecord:
        found = await self._find(sn)
        if issuer is not None:
            found = tuple(r for r in found if issuer in (r.issuer_id, self._issuer_name(r.issuer_id)))
            if not found:
                raise Refusal(RefusalKind.NOT_FOUND, "that issuer issued no certificate with that serial number")
        if len(found) > 1:
            names = ", ".join(self._issuer_name(record.issuer_id) for record in found)
            raise Refusal(
                RefusalKind.MALFORMED, f"several issuers used that serial number; add issuer=, one of {names}"
            )
        return found[0]

    def _shown(self, record: CertificateRecord) -> dict[str, Any]:
        return messages.build_certificate(record, self._issuer_name(record.issuer_id), self._clock.now())

    def _issuer_name(self, issuer_id: str) -> str:
        issuer = self._authority.issuers.by_id(issuer_id)
        return issuer_id if issuer is None else issuer.name  # another node may have added an issuer since our start


def _check_end_entity(record: CertificateRecord) -> None:
    if record.profile in _CA_PROFILES:
        raise Refusal(RefusalKind.UNAUTHORIZED, "the certificates of this CA itself are not revoked by this API")


def _canonical_subjects(subjects: Iterable[str]) -> frozenset[tuple[frozenset[tuple[str, str]], ...]]:
    try:
        return frozenset(canonical(parse_dn(subject)) for subject in subjects)
    except ValueError as error:
        raise StartError(f"in the list of revokers, {error}") from None
