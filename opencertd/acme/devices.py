"""device-attest-01 within ACME: a device's answer judged at once, and its key held to at finalize.

Nothing is looked up for it, so there is no job: the challenge is settled by the request that answers it. Which key
was attested is kept with the challenge, because a certificate that names a device must be for that key and no other.
"""

from __future__ import annotations

from datetime import datetime

from opencertd.acme.states import Authorization, Challenge, ChallengeStatus, Order, Problem, authorization_for
from opencertd.asn1.pkcs10 import CertificationRequest
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.devices import parse_device_name
from opencertd.model.names import DEVICE_KINDS, AltName, AltNameKind
from opencertd.validation.attestation import AttestationQuestion, Roots, judge_attestation
from opencertd.validation.verdict import FailedProof


def judge_device(
    authorization: Authorization,
    challenge: Challenge,
    thumbprint: str,
    attestation: bytes,
    *,
    roots: Roots,
    now: datetime,
) -> Problem | bytes:
    """The attested key as SubjectPublicKeyInfo, or what is wrong. `thumbprint`: of the account's key."""
    hardware = authorization.name.kind is AltNameKind.HARDWARE_MODULE
    question = AttestationQuestion(
        name=parse_device_name(authorization.name.value, oid_needed=hardware),
        hardware=hardware,
        token=challenge.token,
        key_authorization=f"{challenge.token}.{thumbprint}",
    )
    verdict = judge_attestation(question, attestation, roots, now)
    return Problem(verdict.kind.value, verdict.detail) if isinstance(verdict, FailedProof) else verdict.spki_der


def check_attested_key(order: Order, csr: CertificationRequest) -> None:
    """Raises BAD_CSR unless the CSR is for the key that each device of the order has attested."""
    for name in sorted(named_devices(order), key=str):
        authorization = authorization_for(order, name)
        challenges = () if authorization is None else authorization.challenges
        attested = {each.attested_spki for each in challenges if each.status is ChallengeStatus.VALID}
        if attested != {csr.spki_der}:
            why = f"the CSR is not for the key that the device {name.value} attested"
            raise Refusal(RefusalKind.BAD_CSR, why)


def named_devices(order: Order) -> frozenset[AltName]:
    """The devices of the order: their names come into the certificate also when the CSR, as some do, has none."""
    return frozenset(name for name in order.names if name.kind in DEVICE_KINDS)
