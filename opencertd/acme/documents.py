"""Values → the JSON documents that ACME answers with (RFC 8555 §7.1). What is absent is left out, never null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opencertd.acme import urls
from opencertd.acme.auto_renewal import AutoRenewal, StarTerms
from opencertd.acme.external_account import shown
from opencertd.acme.problems import PREFIX, problem_document
from opencertd.acme.renewal import RenewalInfo
from opencertd.acme.states import (
    Account,
    Authorization,
    AuthorizationStatus,
    Challenge,
    Order,
    OrderStatus,
    Problem,
    authorization_status,
    failures,
    order_status,
    shown_challenges,
)
from opencertd.acme.terms import has_agreed
from opencertd.acme.times import format_time
from opencertd.acme.urls import Urls
from opencertd.model.names import AltName
from opencertd.validation.dns_persist import PersistTerms
from opencertd.validation.verdict import DNS_PERSIST_01

Json = dict[str, Any]


@dataclass(frozen=True)
class Meta:
    """What the directory tells of the CA beside its URLs (RFC 8555 §7.1.1)."""

    website: str | None = None
    terms_of_service: str | None = None
    external_account_required: bool = False
    caa_identities: tuple[str, ...] = ()
    persist: PersistTerms | None = None
    subdomains: bool = False
    preauthorization: bool = False
    auto_renewal: StarTerms | None = None
    test_faults: str | None = None


def directory(where: Urls, meta: Meta, profiles: Mapping[str, str], only: str | None = None) -> Json:
    """RFC 8555 §7.1.1. `profiles`: what is told of each; `only`: the directory is for this one of them."""
    told: Json = {"website": meta.website, "termsOfService": meta.terms_of_service, "testFaults": meta.test_faults}
    if meta.external_account_required:
        told["externalAccountRequired"] = True
    if meta.caa_identities:
        told["caaIdentities"] = list(meta.caa_identities)
    if meta.persist is not None:  # draft-ietf-acme-dns-persist-02 §3.2, §4.1
        told["issuerDomainNames"] = list(meta.persist.issuers)
        told["accountHashPrefix"] = meta.persist.hash_prefix
    if meta.subdomains:
        told["subdomainAuthAllowed"] = True  # RFC 9444 §4.4
    if meta.auto_renewal is not None and (only is None or meta.auto_renewal.offers(only)):
        told["auto-renewal"] = _offered(meta.auto_renewal)
    shown = profiles if only is None else {only: profiles[only]}
    if shown:
        told["profiles"] = dict(shown)
    document: Json = {
        "newNonce": where.of(urls.NEW_NONCE),
        "newAccount": where.of(urls.NEW_ACCOUNT),
        "newOrder": where.of(urls.NEW_ORDER) if only is None else where.new_order_of(only),
        "revokeCert": where.of(urls.REVOKE_CERT),
        "keyChange": where.of(urls.KEY_CHANGE),
        "renewalInfo": where.of(urls.RENEWAL_INFO),
        "meta": {name: value for name, value in told.items() if value is not None},
    }
    if meta.preauthorization:
        document["newAuthz"] = where.of(urls.NEW_AUTHORIZATION)
    return document


def _offered(terms: StarTerms) -> Json:
    """RFC 8739 §3.2."""
    document: Json = {
        "min-lifetime": int(terms.min_lifetime.total_seconds()),
        "max-duration": int(terms.max_duration.total_seconds()),
    }
    if terms.by_get:
        document["allow-certificate-get"] = True
    return document


def account(where: Urls, value: Account, terms_url: str | None) -> Json:
    """RFC 8555 §7.1.2. `terms_url`: the terms as they are now."""
    document: Json = {
        "status": value.status.value,
        "contact": list(value.contact),
        "orders": where.orders(value.id),
    }
    if value.terms_agreed and has_agreed(value, terms_url):
        document["termsOfServiceAgreed"] = True
    if value.binding is not None:
        document["externalAccountBinding"] = shown(value.binding)
    return document


def orders(where: Urls, order_ids: Sequence[str]) -> Json:
    """RFC 8555 §7.1.2.1."""
    return {"orders": [where.order(order_id) for order_id in order_ids]}


def order(where: Urls, value: Order, now: datetime) -> Json:
    """RFC 8555 §7.1.3."""
    status = order_status(value, now)
    document: Json = {
        "status": status.value,
        "expires": format_time(value.expires),
        "identifiers": [_identifier(name) for name in value.names],
        "authorizations": [where.authorization(authorization.id) for authorization in value.authorizations],
        "finalize": where.finalize(value.id),
        "profile": value.profile,
    }
    if value.replaces is not None:
        document["replaces"] = value.replaces
    if value.not_before is not None:
        document["notBefore"] = format_time(value.not_before)
    if value.not_after is not None:
        document["notAfter"] = format_time(value.not_after)
    if value.renewal is not None:
        document["auto-renewal"] = auto_renewal(value.renewal)
    if status is OrderStatus.VALID and value.renewal is None:
        document["certificate"] = where.certificate(value.id)
    elif status is OrderStatus.VALID:
        document["star-certificate"] = where.star_certificate(value.id)
    error = _order_error(value) if status is OrderStatus.INVALID else None
    if error is not None:
        document["error"] = error
    return document


def auto_renewal(value: AutoRenewal) -> Json:
    """RFC 8739 §3.1.1. Clients know by the lifetime-adjust, which is what certificates have, when to look."""
    document: Json = {
        "end-date": format_time(value.end),
        "lifetime": int(value.lifetime.total_seconds()),
        "lifetime-adjust": int(value.padding.total_seconds()),
    }
    if value.start is not None:
        document["start-date"] = format_time(value.start)
    if value.by_get:
        document["allow-certificate-get"] = True
    return document


def _order_error(value: Order) -> Json:
    """Its own error, or else those of its authorizations: several as one compound problem (RFC 8555 §6.7.1).

    What nothing failed for has ended.
    """
    if value.error is not None:
        return problem_document(value.error)
    failed = failures(value)
    if not failed:
        return problem_document(_end_of(value))
    if len(failed) == 1:
        authorization, problem = failed[0]
        return problem_document(Problem(problem.type, f"{authorization.name.value}: {problem.detail}"))
    return {
        "type": PREFIX + "compound",
        "detail": f"control of {len(failed)} names was not proven",
        "subproblems": [
            {**problem_document(problem), "identifier": _identifier(authorization.name)}
            for authorization, problem in failed
        ],
    }


def _end_of(value: Order) -> Problem:
    """Why an order is over that nothing failed for."""
    for each in value.authorizations:
        if each.status is AuthorizationStatus.PENDING:
            return Problem("unauthorized", f"{each.name.value}: control of it was not proven in time")
        if each.status is not AuthorizationStatus.VALID:
            return Problem("unauthorized", f"{each.name.value}: its authorization is {each.status.value}")
    return Problem("unauthorized", "the order, or an authorization of it, expired before it was finalized")


def authorization(where: Urls, value: Authorization, now: datetime, meta: Meta) -> Json:
    """RFC 8555 §7.1.4."""
    document: Json = {
        "identifier": _identifier(value.name),
        "status": authorization_status(value, now).value,
        "expires": format_time(value.expires),
        "challenges": [challenge(where, each, value.account_id, meta) for each in shown_challenges(value)],
    }
    if value.wildcard:
        document["wildcard"] = True
    if value.subdomains:  # RFC 9444 §4.1
        document["subdomainAuthAllowed"] = True
    return document


def challenge(where: Urls, value: Challenge, account_id: str, meta: Meta) -> Json:
    """RFC 8555 §8. `token` is there for every type and in every state: clients insist on it."""
    document: Json = {
        "type": value.type,
        "url": where.challenge(value.id),
        "status": value.status.value,
        "token": value.token,
    }
    if value.validated_at is not None:
        document["validated"] = format_time(value.validated_at)
    if value.error is not None:
        document["error"] = problem_document(value.error)
    if value.type == DNS_PERSIST_01 and meta.persist is not None:
        names = list(meta.persist.issuers)
        # As draft-ietf-acme-dns-persist-02 §3.1 has it, and as -01 had it, which clients in use read.
        document |= {"issuerDomainNames": names, "issuer-domain-names": names, "accounturi": where.account(account_id)}
    return document


def renewal_info(value: RenewalInfo, explanation_url: str | None) -> Json:
    """RFC 9773 §4.2. The page explains what is unusual."""
    document: Json = {"suggestedWindow": {"start": format_time(value.start), "end": format_time(value.end)}}
    if value.moved and explanation_url is not None:
        document["explanationURL"] = explanation_url
    return document


def _identifier(name: AltName) -> Json:
    return {"type": name.kind.value, "value": name.value}
