"""Revocation, by the account that got the certificate, by whoever holds its key, or by whoever controls its names.

RFC 8555 §7.6 names the three. A name is controlled by an account that holds a valid authorization for it.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from opencertd.acme.messages import parse_revocation
from opencertd.acme.server import AcmeServer, ByAccount, ByKey
from opencertd.acme.star_store import StarStore
from opencertd.acme.states import Account
from opencertd.errors import Refusal, RefusalKind, RefusedName
from opencertd.issuance.authority import CertificateAuthority
from opencertd.model.certificates import CertificateRecord
from opencertd.model.names import lower_ascii
from opencertd.model.request import RevocationRequest
from opencertd.model.requester import NameGrant, Proof, Requester
from opencertd.tasks import Tasks


class Revocations:
    """Proves the right to revoke; the core revokes."""

    def __init__(self, server: AcmeServer, *, authority: CertificateAuthority, stars: StarStore, tasks: Tasks) -> None:
        self._stars = stars
        self._server = server
        self._authority = authority
        self._tasks = tasks

    async def revoke(self, asked: ByAccount | ByKey) -> None:
        """Refusals: MALFORMED, NOT_FOUND, UNAUTHORIZED, BAD_REVOCATION_REASON, ALREADY_REVOKED.

        REVOCATION_NOT_SUPPORTED for certificates that renew themselves (RFC 8739 §3.1.2).
        """
        wish = parse_revocation(asked.payload)
        record = await self._authority.recognise(wish.certificate_der)
        if record is None:
            raise Refusal(RefusalKind.NOT_FOUND, "this CA issued no such certificate")
        if await self._stars.is_of_series(record.id):
            words = "this certificate is short-lived: cancel its order, and there will be no other"
            raise Refusal(RefusalKind.REVOCATION_NOT_SUPPORTED, words)
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
            await self._check_controls_all(asked.account, record, certificate_der)
        return Requester(Proof.ACME_ACCOUNT, asked.account.id, f"ACME account {asked.account.id}", NameGrant())

    async def _check_controls_all(self, account: Account, record: CertificateRecord, certificate_der: bytes) -> None:
        """Raises UNAUTHORIZED, with a name for each that the account does not control."""
        names = record.names
        if not names or not _common_names(certificate_der) <= {name.value for name in names}:
            raise Refusal(RefusalKind.UNAUTHORIZED, "the certificate was not issued to this account")
        held = await self._server.store.authorized(account.id, names, self._server.clock.now())
        why = "the account holds no valid authorization for it"
        lacking = tuple(
            RefusedName(RefusalKind.UNAUTHORIZED, name.kind.value, name.value, why)
            for name in names
            if name not in held
        )
        if lacking:
            raise Refusal(
                RefusalKind.UNAUTHORIZED,
                "the certificate was not issued to this account, which does not control all of its names either",
                names=lacking,
            )


def _common_names(certificate_der: bytes) -> set[str]:
    """What the subject says beside subjectAltName; a person's name is nothing that an authorization is for."""
    subject = x509.load_der_x509_certificate(certificate_der).subject
    return {lower_ascii(str(one.value)) for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
