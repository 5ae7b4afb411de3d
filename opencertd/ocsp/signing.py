"""An answer is put together and signed, by the algorithm that its client likes where the responder's key has it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1 import der, ocsp
from opencertd.asn1.ocsp import CertStatus, OcspRequest
from opencertd.asn1.ocsp_wishes import Preference
from opencertd.keys.kinds import kind_of
from opencertd.keys.signer import Signer
from opencertd.model.certificates import Revocation
from opencertd.ocsp.responder import Responder
from opencertd.ocsp.terms import NEVER_ISSUED

Status = CertStatus | Revocation


class Times(NamedTuple):
    """What an answer says of time. `archive_cutoff`: since when revocations of expired certificates are told of."""

    this_update: datetime
    next_update: datetime
    archive_cutoff: datetime | None


def preferred_signer(signer: Signer, preferences: Sequence[Preference]) -> Signer:
    """The signer by the first of the preferred algorithms that its key has; itself when that is none, or its own.

    RFC 6960 §4.4.7.2.1. Each of the algorithms that keys here have is one that this CA would sign with.
    """
    key_algorithm = _key_algorithm(signer)
    schemes = kind_of(signer.public_key).schemes
    for preference in preferences:
        if preference.key_der is not None and not _means(preference.key_der, key_algorithm):
            continue
        for scheme in schemes:
            if _means(preference.signature_der, scheme.algorithm_der):
                return signer if scheme.algorithm_der == signer.algorithm_der else signer.by(scheme)
    return signer


def _key_algorithm(signer: Signer) -> bytes:
    spki = signer.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    algorithm, _ = der.children(spki, der.read_only(spki, der.SEQUENCE))
    return algorithm.raw(spki)


def _means(wish_der: bytes, algorithm_der: bytes) -> bool:
    """Whether a wish is for this algorithm; one without parameters, or with NULL, leaves open which."""
    if wish_der == algorithm_der:
        return True
    try:
        wish, ours = (der.children(each, der.read_only(each, der.SEQUENCE)) for each in (wish_der, algorithm_der))
    except der.DerError:
        return False
    open_ended = len(wish) == 1 or (len(wish) == 2 and wish[1].tag == der.NULL)
    return open_ended and wish[0].raw(wish_der) == ours[0].raw(algorithm_der)


async def sign_answer(
    request: OcspRequest,
    statuses: Sequence[Status],
    responder: Responder,
    signer: Signer,
    times: Times,
) -> bytes:
    """The OCSPResponse about the request's certificates, whose `statuses` were so at `times.this_update`."""
    responses = [
        ocsp.encode_single_response(cert_id.der, ocsp.encode_status(status), *times)
        for cert_id, status in zip(request.cert_ids, statuses, strict=True)
    ]
    data = ocsp.encode_response_data(
        responder.id_der,
        times.this_update,
        responses,
        request.nonce,
        extended_revoke=NEVER_ISSUED in statuses,
    )
    signature = await signer.sign(data)
    return ocsp.encode_response(data, signer.algorithm_der, signature, responder.certs_der)
