"""What is done to a request before anything is stored or signed: it is judged, put together, and linted.

The certificate is put together under a throw-away key of the issuer's kind, so that what is linted is to the last bit
what the issuer's key is then asked to sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.blueprint import Blueprints, Draft
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.lint import Expectation, lint
from opencertd.issuance.pkilint_check import PkilintCheck
from opencertd.issuance.policy import check_key_type, check_request
from opencertd.issuance.profiles import Profile, Publication
from opencertd.issuance.rules import Policies
from opencertd.issuance.specimen import SpecimenKeys
from opencertd.issuance.standing import check_chain, check_standing
from opencertd.issuance.transparency import Precertificate, Transparency, wanted
from opencertd.keys.kinds import SubjectKey, kind_of
from opencertd.model.names import AltName
from opencertd.model.request import IssuanceRequest


@dataclass(frozen=True)
class Prepared:
    """A linted certificate that waits for its signature. `precertificate`: what is signed before it, if anything."""

    issuer: Issuer
    key: SubjectKey
    serial: int
    draft: Draft
    tbs_der: bytes
    precertificate: Precertificate | None = None

    @property
    def intended_der(self) -> bytes:
        """What the issuer's key signs first."""
        return self.tbs_der if self.precertificate is None else self.precertificate.tbs_der


class Preparation:
    """Prepares certificates. `random` gives that many random bytes.

    `pkilint` looks at what clients get, after this program's own lint; None: nobody does. `transparency`: for profiles
    that want it; None: there are no logs.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        publication: Publication,
        clock: Clock,
        random: Callable[[int], bytes],
        pkilint: PkilintCheck | None = None,
        transparency: Transparency | None = None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._pkilint = pkilint
        self._transparency = transparency
        self._specimens = SpecimenKeys()
        self._blueprints = Blueprints(publication, self._specimens)

    async def prepare(
        self, request: IssuanceRequest, key: SubjectKey, profile: Profile, issuers: Issuers, policies: Policies
    ) -> Prepared:
        """The certificate for a request whose `key` has been found good.

        Refusals: NOT_FOUND (profile), BAD_PUBLIC_KEY, BAD_CSR, REJECTED_NAME, UNAUTHORIZED, MALFORMED (validity),
        UNAVAILABLE (issuer, pkilint or logs), INTERNAL (lint found it wrong).
        """
        subject = check_request(request, profile, issuers, policies)
        check_key_type(key, profile)
        self.check_hosts(request.names, profile)
        issuer = choose_issuer(profile, key, issuers).signing_by(profile.signature_algorithms)
        check_standing(issuer, issuers, self._clock.now())
        check_chain(issuer, subject, request.names, ca=profile.ca, path_length=profile.path_length)
        # 128 random bits below a leading one: always 17 octets, always positive (RFC 5280 §4.1.2.2).
        serial = int.from_bytes(b"\x01" + self._random(16), "big")
        blueprint = self._blueprints.of(profile, issuer, key)
        plan = blueprint.draft(
            spki_der=request.spki_der,
            subject=subject,
            names=request.names,
            serial=serial,
            now=self._clock.now(),
            wished=request.validity,
        )
        specimen = self._specimens.complete(plan.tbs_der, issuer.signer)
        expected = Expectation(blueprint.rules, request.spki_der, subject, request.names, serial)
        findings = lint(specimen, expected)
        if findings:
            self._log.error("lint stopped an issuance: {findings}", findings=findings)
            raise Refusal(RefusalKind.INTERNAL, f"the certificate would not be right: {findings[0]}")
        if self._pkilint is not None and profile.public:
            await self._pkilint.check(specimen, profile.pkilint)
        precertificate = wanted(self._transparency, profile, plan.tbs_der)
        return Prepared(issuer, key, serial, plan, plan.tbs_der, precertificate)

    def is_prompt(self, profile: Profile) -> bool:
        """Whether `prepare` answers at once."""
        return self._pkilint is None or not profile.public or self._pkilint.is_off(profile.pkilint)

    def check_hosts(self, names: tuple[AltName, ...], profile: Profile) -> None:
        """Raise REJECTED_NAME for names that pkilint would not let pass."""
        # What this program gets for itself bears names that pkilint faults, such as localhost.
        if self._pkilint is not None and profile.public:
            self._pkilint.check_hosts(names, profile.pkilint)


def choose_issuer(profile: Profile, key: SubjectKey | None, issuers: Issuers) -> Issuer:
    """Who signs for that profile and key; without a key, the profile's first. Raises UNAVAILABLE when there is none.

    One whose key was taken away is passed over. A retired issuer signs no certificate but its OCSP responder's: nobody
    else may say what became of those it signed (RFC 6960 §4.2.2.2).
    """
    if profile.speaks_for is not None and (own := issuers.by_name(profile.speaks_for)) is not None and not own.revoked:
        return own
    signing = [issuer for name in profile.issuers if (issuer := issuers.current(name)) is not None]
    candidates = [issuer for issuer in signing if issuer.has_key] or signing
    if not candidates:
        raise Refusal(RefusalKind.UNAVAILABLE, f"the profile {profile.name!r} has no issuer that signs certificates")
    if key is None:
        return candidates[0]
    kind = kind_of(key)
    chosen = issuers.current(profile.issuer_by_key.get(kind.name, ""))
    if chosen is not None:
        return chosen
    if profile.issuer_fits_key:
        for issuer in candidates:
            if kind_of(issuer.signer.public_key).family == kind.signed_by:
                return issuer
    return candidates[0]
