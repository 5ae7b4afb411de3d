"""The ACME edge as `[acme]`, `[validation]` and `[limits]` have it."""

from __future__ import annotations

import secrets

from opencertd.acme.edge import edge
from opencertd.edges.parts import Parts
from opencertd.settings.acme_accounts import eab_opener
from opencertd.settings.validation import persist_terms
from opencertd.web.site import Edge


def build_acme_edge(parts: Parts) -> Edge:
    """ACME, wired."""
    settings, validation = parts.settings, parts.settings.validation
    return edge(
        store=parts.stores.acme,
        stars=parts.stores.stars,
        authority=parts.authority,
        work=parts.work,
        clock=parts.clock,
        random=secrets.token_bytes,
        base_url=settings.base_url(),
        nonce_key=parts.secret,
        tasks=parts.tasks,
        reactor=parts.reactor,
        hands=parts.hands,
        owner=parts.owner,
        ledger=parts.ledger,
        renewal=settings.acme.renewal_terms(),
        limits=settings.limits.build(),
        terms=settings.acme.order_terms(validation.offered(), validation.attestation.roots()),
        open_key=eab_opener(parts.state.keys, parts.elsewhere),
        faults=settings.faults(),
        meta=settings.acme.meta(
            settings.caa_identity, persist_terms(validation, settings.caa_identity, settings.base_url())
        ),
    )
