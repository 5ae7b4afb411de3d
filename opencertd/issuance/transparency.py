"""The way to a certificate that leads by the logs of Certificate Transparency (RFC 6962 §3).

The precertificate stands in the intent that the authority has stored → it is signed → stored, and said in the audit
chain → the logs are asked → their timestamps are put into the certificate → what it became is held against the
precertificate → stored as the intent from now on. A crash anywhere leaves a record that says what was to be signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from opencertd.asn1 import signed
from opencertd.asn1.transparency import SHA256, Timestamp, check_certified_alike, poisoned, stamped
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.profiles import Profile
from opencertd.issuance.signature import signed_by
from opencertd.issuance.timestamps import Entry, TransparencyLog, gather
from opencertd.keys.signer import Signer
from opencertd.model.certificates import CertificateRecord


class PrecertificateStore(Protocol):
    """Each method is one durable transaction; Refusal CONFLICT when the record is not INTENDED any more."""

    def keep_precertificate(
        self, record: CertificateRecord, precertificate_der: bytes, signed_at: datetime
    ) -> Deferred[None]:
        """Keep what was signed under this intent, and append it to the audit chain (UNAVAILABLE when it cannot)."""

    def intend_certificate(self, record_id: int, tbs_der: bytes) -> Deferred[None]:
        """From now on the intent is to sign these bytes."""


@dataclass(frozen=True)
class Precertificate:
    """What is to be signed first. `certificate_tbs_der`: without the poison. `needed`: how many timestamps."""

    tbs_der: bytes
    certificate_tbs_der: bytes
    needed: int


class Transparency:
    """The logs there are. `required`: of how many a certificate has timestamps, where its profile does not say.

    `seconds`: for all logs together.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        logs: tuple[TransparencyLog, ...],
        required: int,
        seconds: float,
        store: PrecertificateStore,
        clock: Clock,
        reactor: IReactorTime,
    ) -> None:
        self._logs = logs
        self._required = required
        self._seconds = seconds
        self._store = store
        self._clock = clock
        self._reactor = reactor

    def precertificate(self, profile: Profile, tbs_der: bytes) -> Precertificate:
        """For a certificate that was found right, without timestamps yet."""
        asked = profile.certificate_transparency
        return Precertificate(poisoned(tbs_der), tbs_der, self._required if asked is True else int(asked))

    async def certificate(
        self, precertificate: Precertificate, issuer: Issuer, signer: Signer, record: CertificateRecord
    ) -> bytes:
        """The to-be-signed bytes of the certificate, which the store knows as what is intended.

        Refusals: UNAVAILABLE (too few timestamps, the store), CONFLICT (the intent was given up meanwhile), INTERNAL
        (it is not the precertificate's certificate). Raises what `signed_by` raises.
        """
        precertificate_der = await signed_by(signer, precertificate.tbs_der)
        await self._store.keep_precertificate(record, precertificate_der, self._clock.now())
        above = (issuer.record.certificate_der, *issuer.chain_der, *([issuer.root_der] if issuer.root_der else []))
        entry = Entry(
            chain_der=(precertificate_der, *dict.fromkeys(above)),
            issuer_spki_der=signer.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            tbs_der=precertificate.certificate_tbs_der,
        )
        timestamps = await gather(
            self._logs,
            entry,
            precertificate.needed,
            seconds=self._seconds,
            clock=self._clock,
            reactor=self._reactor,
        )
        tbs_der = stamped(precertificate.certificate_tbs_der, timestamps)
        try:
            check_certificate(precertificate, tbs_der, timestamps, signer.algorithm_der)
        except ValueError as error:
            self._log.error("certificate transparency stopped an issuance: {why}", why=str(error))
            raise Refusal(RefusalKind.INTERNAL, f"the certificate would not be right: {error}") from None
        await self._store.intend_certificate(record.id, tbs_der)
        return tbs_der


def wanted(transparency: Transparency | None, profile: Profile, tbs_der: bytes) -> Precertificate | None:
    """The precertificate, if the profile wants one. Refusal UNAVAILABLE when it does and there are no logs."""
    if not profile.certificate_transparency:
        return None
    if transparency is None:
        raise Refusal(RefusalKind.UNAVAILABLE, f"the profile {profile.name!r} wants logs, and none are known")
    return transparency.precertificate(profile, tbs_der)


def check_certificate(
    precertificate: Precertificate, tbs_der: bytes, timestamps: tuple[Timestamp, ...], algorithm_der: bytes
) -> None:
    """The last look before signing: raise ValueError unless it is the precertificate with these timestamps."""
    check_certified_alike(precertificate.tbs_der, tbs_der)
    unsigned = x509.load_der_x509_certificate(signed.assemble(tbs_der, algorithm_der, b""))
    found = unsigned.extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
    if found.critical or [_read(one) for one in found.value] != list(timestamps):
        raise ValueError("the certificate does not hold the timestamps of the logs")
    if len({one.log_id for one in timestamps}) < precertificate.needed:
        raise ValueError("the certificate has too few timestamps")


def _read(found: x509.certificate_transparency.SignedCertificateTimestamp) -> Timestamp:
    """The timestamp as `cryptography` finds it in a certificate."""
    at = found.timestamp.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return Timestamp(
        log_id=found.log_id,
        milliseconds=at // timedelta(milliseconds=1),
        extensions=found.extension_bytes,
        hash_algorithm=SHA256 if isinstance(found.signature_hash_algorithm, hashes.SHA256) else -1,
        signature_algorithm=found.signature_algorithm.value,
        signature=found.signature,
    )
