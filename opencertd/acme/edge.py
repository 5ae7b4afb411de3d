"""ACME as the site mounts it: its conversations built from what the worker has, behind one resource."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

from twisted.internet.interfaces import IReactorTime

from opencertd.acme import documents, urls
from opencertd.acme.accounts import Accounts
from opencertd.acme.authorizations import Authorizations
from opencertd.acme.external_account import EabKey, ExternalAccounts
from opencertd.acme.faults import Faults
from opencertd.acme.faulty import FaultyNonces, FaultyProofs, Marked
from opencertd.acme.finalize import Finalization
from opencertd.acme.key_change import KeyChanges
from opencertd.acme.limits import Limits
from opencertd.acme.nonces import NonceLedger, Nonces
from opencertd.acme.offer import Offer
from opencertd.acme.orders import Orders, OrderTerms
from opencertd.acme.proofs import Proofs
from opencertd.acme.renewal import Renewals, RenewalTerms
from opencertd.acme.resource import AcmeResource, Nouns
from opencertd.acme.revocation import Revocations
from opencertd.acme.server import AcmeServer
from opencertd.acme.star_store import StarStore
from opencertd.acme.stars import Stars
from opencertd.acme.store import AcmeStore
from opencertd.acme.work import Work
from opencertd.clock import Clock
from opencertd.issuance.authority import CertificateAuthority
from opencertd.jobs.hands import Hands
from opencertd.tasks import Tasks
from opencertd.web.site import Edge


def edge(
    *,
    store: AcmeStore,
    stars: StarStore,
    authority: CertificateAuthority,
    work: Work,
    clock: Clock,
    random: Callable[[int], bytes],
    base_url: str,
    nonce_key: bytes,
    tasks: Tasks,
    reactor: IReactorTime,
    hands: Hands,
    owner: str,
    terms: OrderTerms,
    ledger: NonceLedger | None = None,
    meta: documents.Meta | None = None,
    open_key: Callable[[EabKey], Awaitable[bytes]] | None = None,
    renewal: RenewalTerms = RenewalTerms(),  # noqa: B008  (a frozen value)
    limits: Limits = Limits(),  # noqa: B008  (a frozen value)
    faults: Faults | None = None,
    lease: timedelta = timedelta(seconds=60),
    patience: float = 2.0,
) -> Edge:
    """ACME, over TLS only. `base_url`: the external URL, no slash at its end. `hands`: the scheduler that validates.

    `nonce_key`: 32 secret bytes all workers share; `ledger`: of `Nonces`. `owner`: this worker's name in the job table.
    `open_key`: of `ExternalAccounts`; without, none is known. `lease`, `patience`: of `Finalization`.
    """
    meta, terms = _agreed(meta or documents.Meta(), terms, faults)
    make_nonces, make_proofs = _makers(faults)
    nonces = make_nonces(key=nonce_key, clock=clock, random=random, ledger=ledger)
    server = AcmeServer(store=store, nonces=nonces, urls=urls.Urls(base_url), clock=clock, random=random, limits=limits)
    offer = Offer(authority, terms.profile)
    finalization = Finalization(
        server,
        offer=offer,
        authority=authority,
        work=work,
        tasks=tasks,
        reactor=reactor,
        owner=owner,
        lease=lease,
        patience=patience,
    )
    nouns = _nouns(
        server,
        terms,
        make_proofs,
        finalization,
        authority=authority,
        offer=offer,
        external=ExternalAccounts(store.eab_key, open_key, required=meta.external_account_required),
        authorizations=Authorizations(server, hands, owner=owner, lease=lease, devices=terms.devices, reactor=reactor),
        renewals=Renewals(server, renewal, authority=authority),
        stars=Stars(server, stars, terms.auto_renewal, authority=authority, reactor=reactor),
        revocations=Revocations(server, authority=authority, stars=stars, tasks=tasks),
    )
    return _mounted(AcmeResource(server, nouns, meta), faults)


def _nouns(
    server: AcmeServer,
    terms: OrderTerms,
    make_proofs: Callable[..., Proofs],
    finalization: Finalization,
    *,
    authority: CertificateAuthority,
    offer: Offer,
    external: ExternalAccounts,
    authorizations: Authorizations,
    renewals: Renewals,
    stars: Stars,
    revocations: Revocations,
) -> Nouns:
    """The conversations, those that follow from others made here."""
    proofs = make_proofs(server, terms.proofs(), authority=authority, offer=offer, external=external)
    return Nouns(
        accounts=Accounts(server, authority=authority, terms_of_service=terms.terms_of_service, external=external),
        orders=Orders(
            server, terms, authority=authority, offer=offer, renewals=renewals, proofs=proofs, external=external
        ),
        authorizations=authorizations,
        finalization=finalization,
        revocations=revocations,
        key_changes=KeyChanges(server, authority=authority),
        renewals=renewals,
        proofs=proofs,
        offer=offer,
        stars=stars,
    )


def _makers(faults: Faults | None) -> tuple[Callable[..., Nonces], Callable[..., Proofs]]:
    if faults is None:
        return Nonces, Proofs
    return partial(FaultyNonces, faults), partial(FaultyProofs, faults)


def _mounted(made: AcmeResource, faults: Faults | None) -> Edge:
    """The edge; where faults are made without its lane, so that each answer goes by the one that marks it."""
    resource, lane = (made.resource, made.lane) if faults is None else (Marked(made.resource, faults.terms), None)
    return Edge("acme", resource, lambda path: path[0] in urls.FIRST_SEGMENTS, plain_http=False, lane=lane)


def _agreed(meta: documents.Meta, terms: OrderTerms, faults: Faults | None) -> tuple[documents.Meta, OrderTerms]:
    """What the directory tells, and what orders go by, each with what the other says of it.

    A proof made ahead of its order is of no use where none serves a further order.
    """
    if faults is not None:
        meta = replace(meta, test_faults=str(faults.terms))
        if terms.reuse is None and faults.terms.reuse:
            terms = replace(terms, reuse=terms.authorization_lifetime)
    told = replace(
        meta,
        preauthorization=terms.reuse is not None,
        subdomains=terms.subdomains,
        auto_renewal=terms.auto_renewal,
    )
    return told, replace(terms, terms_of_service=meta.terms_of_service)
