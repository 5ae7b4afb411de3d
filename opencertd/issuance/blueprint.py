"""What all certificates of a profile under one issuer have in common is encoded once; each adds what is its own.

The common part is taken from a specimen that `cryptography` has put together from the profile, so that what goes into
a certificate is said in one place (`profiles.build`); the rest are the few fields that differ. A test holds both ways
of making a certificate together, byte for byte.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from opencertd.asn1 import signed, tbs
from opencertd.asn1.certificate import subject_and_key
from opencertd.issuance.issuers import Issuer
from opencertd.issuance.lint import Rules
from opencertd.issuance.profiles import Profile, Publication, build, normal_subject
from opencertd.issuance.specimen import SpecimenKeys
from opencertd.issuance.windows import first_and_last
from opencertd.keys.kinds import SubjectKey, kind_of
from opencertd.model.names import AltName
from opencertd.model.request import Window

_MOST = 256
"""Blueprints that are kept. Profiles times issuers times families of keys are fewer, until a reload replaces them."""
_SOME_TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Draft:
    """A certificate about to be: what is to be signed, and what the record will say of it."""

    tbs_der: bytes
    subject: x509.Name
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True)
class Blueprint:
    """For the certificates of one profile by one issuer, for keys of one family.

    Its extensions: `first`, then the key's identifier, `second`, the names, `third`, and the distribution points of
    `spread` where these depend on the serial. `rules`: what lint looks for.
    """

    profile: Profile
    issuer: Issuer
    rules: Rules
    algorithm_der: bytes
    issuer_der: bytes
    first: bytes
    second: bytes
    third: bytes
    spread: Publication | None = None

    def draft(
        self,
        *,
        spki_der: bytes,
        subject: x509.Name,
        names: tuple[AltName, ...],
        serial: int,
        now: datetime,
        wished: timedelta | Window | None = None,
    ) -> Draft:
        """The certificate for a request. `wished`: the validity asked.

        Raises UNAVAILABLE when the issuer's own certificate is not valid now, REJECTED_NAME for a subject that cannot
        be encoded, and the Refusals of `first_and_last`.
        """
        not_before, not_after = first_and_last(self.profile, self.issuer.certificate, now, wished)
        subject = normal_subject(subject)
        identifier = hashlib.sha1(tbs.public_key_octets(spki_der), usedforsecurity=False).digest()
        extensions = (
            self.first,
            tbs.encode_subject_key_identifier(identifier),
            self.second,
            # RFC 5280 §4.1.2.6: where the subject is empty, the names say who it is
            tbs.encode_subject_alternative_name(names, critical=not subject.rdns) if names else b"",
            self.third,
            self._points(serial),
        )
        tbs_der = tbs.encode_tbs(
            serial=serial,
            algorithm_der=self.algorithm_der,
            issuer_der=self.issuer_der,
            not_before=not_before,
            not_after=not_after,
            subject_der=subject.public_bytes(),
            spki_der=spki_der,
            extensions=b"".join(extensions),
        )
        return Draft(tbs_der, subject, not_before, not_after)

    def _points(self, serial: int) -> bytes:
        if self.spread is None:
            return b""
        return tbs.encode_crl_distribution_points(self.spread.points(self.issuer, serial, ca=self.profile.ca))


class Blueprints:
    """Blueprints, made at first need and kept for as long as profile and issuer are the very ones."""

    def __init__(self, publication: Publication, specimens: SpecimenKeys) -> None:
        self._publication = publication
        self._specimens = specimens
        self._made: dict[tuple[int, int, str], Blueprint] = {}

    def of(self, profile: Profile, issuer: Issuer, key: SubjectKey) -> Blueprint:
        """The blueprint for certificates of keys like this one."""
        # A blueprint keeps its profile and issuer alive, so that nothing else can have their identities.
        place = (id(profile), id(issuer), kind_of(key).family)
        made = self._made.get(place)
        if made is None:
            if len(self._made) >= _MOST:
                self._made.clear()
            made = self._made[place] = self._make(profile, issuer, key)
        return made

    def _make(self, profile: Profile, issuer: Issuer, key: SubjectKey) -> Blueprint:
        urls = profile.publication(self._publication)
        builder = build(
            profile,
            issuer,
            key=key,
            subject=issuer.certificate.subject,
            names=(),
            serial=1,
            validity=(_SOME_TIME, _SOME_TIME),
            publication=urls,
        )
        fields = tbs.read_tbs(signed.split(self._specimens.sign(builder, issuer.signer))[0])
        kinds = [tbs.is_subject_key_identifier(oid) for oid, _ in fields.extensions]
        encoded = [extension for _, extension in fields.extensions]
        at = kinds.index(True)
        spreads = urls.spreads(issuer.role)
        if spreads:
            encoded.pop()
        return Blueprint(
            profile=profile,
            issuer=issuer,
            rules=Rules(profile, issuer, key, urls),
            algorithm_der=fields.algorithm_der,
            issuer_der=subject_and_key(issuer.certificate_der)[0],
            first=b"".join(encoded[:at]),
            second=encoded[at + 1],  # authorityKeyIdentifier, after which the names come
            third=b"".join(encoded[at + 2 :]),
            spread=urls if spreads else None,
        )
