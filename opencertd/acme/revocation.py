"""Revocation, by the account that got the certificate or by whoever holds its key (RFC 8555 §7.6)."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.acme.messages import parse_revocation
from opencertd.acme.server import AcmeServer, ByAccount, ByKey
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.authority import CertificateAuthority
from opencertd.model.certificates import CertificateRecord
from opencertd.model.request import RevocationRequest
from opencertd.model.requester import NameGrant, Proof, Requester
from opencertd.tasks import Tasks


class Revocations:
    """Proves the right to revoke; the core revokes."""

    def __init__(self, server: AcmeServer, *, authority: CertificateAuthority, tasks: Tasks) -> None:
        self._server = server
        self._authority = authority
        self._tasks = tasks

    async def revoke(self, asked: ByAccount | ByKey) -> None:
        """Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED, BAD_REVOCATION_REASON, ALREADY_REVOKED."""
        wish = parse_revocation(asked.payload)
        record = await self._authority.recognise(wish.certificate_der)
        if record is None:
            raise Refusal(RefusalKind.NOT_FOUND, "this CA issued no such certificate")
        requester = await self._entitled(asked, record, wish.certificate_der)
        shown = isinstance(asked, ByKey)  # whoever signs with the certificate's key has shown that others may
        request = RevocationRequest(record.issuer_id, record.serial, wish.reason, requester, compromise_shown=shown)
        await self._tasks.shield(self._authority.revoke(request))

    async def _entitled(self, asked: ByAccount | ByKey, record: CertificateRecord, certificate_der: bytes) -> Requester:
        if isinstance(asked, ByKey):
            key = x509.load_der_x509_certificate(certificate_der).public_key()
            spki_der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            if spki_der == asked.key.spki_der:
                return Requester(Proof.ACME_ACCOUNT, asked.key.thumbprint, "the certificate's own key", NameGrant())
            raise Refusal(RefusalKind.UNAUTHORIZED, "the request is not signed by the certificate's key")
        if await self._server.store.certificate_account(record.id) != asked.account.id:
            raise Refusal(RefusalKind.UNAUTHORIZED, "the certificate was not issued to this account")
        return Requester(Proof.ACME_ACCOUNT, asked.account.id, f"ACME account {asked.account.id}", NameGrant())
