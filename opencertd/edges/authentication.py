"""Who is asking, as the settings have it: one authenticator for every edge that asks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import treq.client
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import crypto
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS

from opencertd.acme.store import UnusedNonce
from opencertd.edges.parts import Parts
from opencertd.errors import StartError
from opencertd.issuance.identity_names import parse_name_rule
from opencertd.model.certificates import CertificateRecord
from opencertd.settings.manufacturers import ManufacturerTable
from opencertd.web.authentication import Authenticator
from opencertd.web.authority import Authority
from opencertd.web.bearer import BearerVerifier
from opencertd.web.claims import Claims
from opencertd.web.client_trust import ClientTrust, client_anchors
from opencertd.web.digest import Digest
from opencertd.web.enrolment_passwords import EnrolmentPasswords
from opencertd.web.manufacturer_crls import ManufacturerCrls
from opencertd.web.manufacturers import Manufacturer, Manufacturers
from opencertd.web.throttle import Throttle
from opencertd.web.users import Users


def build_authenticator(parts: Parts) -> Authenticator:
    """Every way of proving oneself that the settings offer. Raises StartError when the file of users is wrong."""
    settings, clock = parts.settings, parts.clock
    unknown = set(settings.access.registration_authorities) - parts.authority.profiles.keys()
    if unknown:
        raise StartError(f"access.registration_authorities: there is no profile {min(unknown)!r}")
    throttle = Throttle(clock, parts.stores.login_failures)
    users = Users(settings.est_users, clock=clock, throttle=throttle) if settings.est_users else None

    async def redeem(nonce: str, expires: datetime) -> None:
        await parts.stores.acme.redeem_nonce(UnusedNonce(nonce, expires))

    async def recognise(certificate_der: bytes) -> CertificateRecord | None:
        """What a revoked CA has signed counts no more, on connections that were there before neither."""
        record = await parts.authority.recognise(certificate_der)
        issuer = None if record is None else parts.authority.issuers.by_id(record.issuer_id)
        return None if issuer is not None and issuer.revoked else record

    return Authenticator(
        recognise=recognise,
        clock=clock,
        trust=ClientTrust(lambda: client_anchors(parts.authority.issuers)),
        users=users,
        digest=Digest(users=users, key=parts.secret, redeem=redeem, clock=clock) if users else None,
        bearer=_bearer(parts),
        enrolment_passwords=EnrolmentPasswords(parts.stores.enrolment_passwords, key=parts.secret, clock=clock),
        registration_authorities=frozenset(settings.access.registration_authorities),
        roles=settings.access.given_roles(),
    )


def build_manufacturers(parts: Parts) -> Manufacturers | None:
    """Whose devices may enrol with the certificates that they were made with. Raises StartError."""
    tables = parts.settings.est.manufacturers
    found = tuple(_manufacturer(name, table, parts) for name, table in tables.items())
    return Manufacturers(found, clock=parts.clock) if found else None


def _manufacturer(name: str, table: ManufacturerTable, parts: Parts) -> Manufacturer:
    where = f"est.manufacturers.{name}"
    roots = parts.manufacturer_roots[name]
    if {_key(root) for root in roots} & {_key(issuer.certificate) for issuer in parts.authority.issuers.all()}:
        raise StartError(f"{where}.roots: this CA's own certificates are not a manufacturer's")
    unknown = [profile for profile in table.profiles if profile not in parts.authority.profiles]
    if unknown:
        raise StartError(f"{where}.profiles: there is no profile {unknown[0]!r}")
    try:
        crls = ManufacturerCrls(table.crl, parts.elsewhere) if table.crl else None
    except StartError as error:
        raise StartError(f"{where}.crl: {error}") from None
    rules = tuple(parse_name_rule(text) for text in table.names)
    return Manufacturer(name, roots, rules, frozenset(table.profiles), crls)


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _bearer(parts: Parts) -> BearerVerifier | None:
    settings = parts.settings
    if not (settings.authority and settings.audience):
        return None
    tokens = settings.tokens
    agent = Agent(parts.reactor, _tls_policy(tokens.anchors()), connectTimeout=10)  # type: ignore[no-untyped-call]
    client: Any = treq.client.HTTPClient(agent)  # its options are typed one by one, Authority's as a whole
    authority = Authority(
        settings.authority, client=client, reactor=parts.reactor, clock=parts.clock, key_hosts=tokens.key_hosts
    )
    return BearerVerifier(
        authority,
        settings.audience,
        clock=parts.clock,
        claims=Claims(tokens.roles_claim, tokens.names_claim),
        leeway=timedelta(seconds=tokens.leeway_seconds),
    )


def _tls_policy(anchors: list[x509.Certificate] | None) -> Any:
    """How the authority's TLS is verified: by these CAs, None by the system's."""
    policy: Any = BrowserLikePolicyForHTTPS
    if anchors is None:
        return policy()
    certificate: Any = Certificate
    trust: Any = trustRootFromCertificates
    return policy(trust([certificate(crypto.X509.from_cryptography(anchor)) for anchor in anchors]))
