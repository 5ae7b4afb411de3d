"""Other chains above an issuer: through cross-certificates, by which another CA vouches for one of its chain.

Clients that trust that other CA only can use nothing else (RFC 8555 §7.4.2 offers them beside the usual chain).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.model.certificates import CrossCertificate


def alternate_chains(issuer: Issuer, issuers: Issuers, now: datetime) -> tuple[tuple[bytes, ...], ...]:
    """Chains in DER above what `issuer` signs, its own side first, each once; the usual chain is not among them."""
    return tuple(dict.fromkeys(_through(issuer, issuers, now)))


def _through(issuer: Issuer, issuers: Issuers, now: datetime) -> Iterator[tuple[bytes, ...]]:
    usual = issuer.chain_der
    if issuer.root_der is not None and issuer.root_der not in usual:
        usual = (*usual, issuer.root_der)
    for cross in issuers.crosses(now):
        subject = issuers.by_id(cross.subject_id)
        if subject is not None and subject.certificate_der in usual:
            below = usual[: usual.index(subject.certificate_der)]
            yield (*below, cross.certificate_der, *_above(cross, issuers))


def _above(cross: CrossCertificate, issuers: Issuers) -> tuple[bytes, ...]:
    """What leads on from who signed it: nothing above another's CA that is not here, nor above a root."""
    signer = issuers.by_id(cross.signer_id or "")
    return () if signer is None else tuple(der for der in signer.chain_der if der != signer.root_der)
