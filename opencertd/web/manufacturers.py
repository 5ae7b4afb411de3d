"""Devices that come with a certificate of their manufacturer's may enrol for a first one here, and do nothing else.

Such a certificate never counts as one of this CA's: it has a proof of its own, names of its own by rules, and no other
edge but EST knows of it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from OpenSSL import crypto

from opencertd.asn1 import dn
from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.identity_names import NameRule, grant_for, subject_of
from opencertd.model.requester import Proof, Requester
from opencertd.web.client_trust import trust_store, verified_chain
from opencertd.web.manufacturer_crls import ManufacturerCrls
from opencertd.web.peer import Shown

_BROKEN_HASHES = (hashes.MD5, hashes.SHA1)


@dataclass(frozen=True)
class Manufacturer:
    """Whose devices may enrol: `roots` certify them, `rules` make the names of what they say, `profiles` are allowed.

    `crls`: what the manufacturer has revoked; None when nobody asks.
    """

    name: str
    roots: tuple[x509.Certificate, ...]
    rules: tuple[NameRule, ...]
    profiles: frozenset[str]
    crls: ManufacturerCrls | None = None
    store: crypto.X509Store = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "store", trust_store(self.roots))


class Manufacturers:
    """All that the settings name."""

    def __init__(self, manufacturers: Iterable[Manufacturer], *, clock: Clock) -> None:
        self._manufacturers = tuple(manufacturers)
        self._clock = clock

    async def requester(self, shown: Shown) -> Requester:
        """Who the device is. Refusal UNAUTHENTICATED when no manufacturer vouches for it any more, UNAUTHORIZED when no
        name can be made of what its certificate says, UNAVAILABLE when it is not known what was revoked.
        """
        manufacturer, chain = self._judged(shown)
        if manufacturer.crls is not None:
            await manufacturer.crls.check(chain, self._clock.now())
        try:
            grant, subject = grant_for(chain[0], manufacturer.rules), dn.format_dn(subject_of(chain[0]))
        except (ValueError, x509.DuplicateExtension):
            raise _refuse("the manufacturer's certificate cannot be read") from None
        if not grant.names and not grant.common_names:
            raise Refusal(
                RefusalKind.UNAUTHORIZED,
                f"the certificate of {manufacturer.name!r} says nothing that its rules here make a name of",
            )
        return Requester(
            proof=Proof.MANUFACTURER_CERTIFICATE,
            id=f"{manufacturer.name}:{hashlib.sha256(shown.certificate_der).hexdigest()}",
            label=subject,
            grant=grant,
            profiles=manufacturer.profiles,
            certificate_der=shown.certificate_der,
        )

    def _judged(self, shown: Shown) -> tuple[Manufacturer, tuple[x509.Certificate, ...]]:
        """Judged again even where OpenSSL has done so in the handshake, for there all anchors count alike."""
        others = shown.others_der()
        why: Refusal | None = None
        for manufacturer in self._manufacturers:
            try:
                chain = verified_chain(manufacturer.store, shown.certificate_der, others)
            except Refusal as refusal:
                why = why or refusal
                continue
            _check_signatures(chain)
            return manufacturer, chain
        said = "" if why is None or len(self._manufacturers) > 1 else f": {why.detail}"
        raise _refuse(f"the client certificate is not one of this CA's, nor of a manufacturer it knows{said}")


def _check_signatures(chain: Sequence[x509.Certificate]) -> None:
    try:
        used = [below.signature_hash_algorithm for below, _ in itertools.pairwise(chain)]
    except UnsupportedAlgorithm:
        raise _refuse("the signature of the manufacturer's certificate is of an unknown kind") from None
    if any(isinstance(algorithm, _BROKEN_HASHES) for algorithm in used):
        raise _refuse("the manufacturer's certificate is signed with a hash that anybody can make collide")


def _refuse(detail: str) -> Refusal:
    return Refusal(RefusalKind.UNAUTHENTICATED, detail)
