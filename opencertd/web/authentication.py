"""Who is asking: an Authorization header decides if there is one, else the client certificate that TLS proved.

Behind a proxy that ends TLS it is the one that the proxy passes on, where settings trust it; that is verified here.

A wrong password is refused even beside a good certificate: the client meant to be somebody else. Basic is RFC 7617,
Digest RFC 7616, Bearer RFC 6750.
"""

from __future__ import annotations

import base64
import binascii
import copy
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import cast

from cryptography import x509
from twisted.web.iweb import IRequest

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.profiles import CMC_RA
from opencertd.issuance.rules import RequesterMatch
from opencertd.model.certificates import CertificateRecord, CertificateState
from opencertd.model.requester import ANY_NAME, REGISTRATION_AUTHORITY, NameGrant, Proof, Requester
from opencertd.web.bearer import BearerVerifier
from opencertd.web.client_trust import ClientTrust, purposes
from opencertd.web.digest import Digest, StaleNonce
from opencertd.web.enrolment_passwords import EnrolmentPasswords
from opencertd.web.manufacturers import Manufacturers
from opencertd.web.peer import Shown, shown_certificate
from opencertd.web.users import REALM, User, Users

Recognise = Callable[[bytes], Awaitable[CertificateRecord | None]]
"""The CA's own record of exactly this certificate (DER), else None."""


class Authenticator:
    """Turns a request into a `Requester`, by whichever proofs are configured."""

    def __init__(
        self,
        *,
        recognise: Recognise,
        clock: Clock,
        trust: ClientTrust | None = None,
        users: Users | None = None,
        digest: Digest | None = None,
        bearer: BearerVerifier | None = None,
        enrolment_passwords: EnrolmentPasswords | None = None,
        registration_authorities: frozenset[str] = frozenset(),
        roles: Sequence[tuple[str, RequesterMatch]] = (),
    ) -> None:
        """`registration_authorities`: profiles of certificates that let their holders enrol for others. `roles`: who
        has which besides those that a token gives.
        """
        self._recognise = recognise
        self._clock = clock
        self._trust = trust or ClientTrust(lambda: ())
        self._manufacturers: Manufacturers | None = None
        self._users = users
        self._digest = digest
        self._bearer = bearer
        self._enrolment_passwords = enrolment_passwords
        self._registration_authorities = registration_authorities
        self._roles = tuple(roles)

    def admitting(self, manufacturers: Manufacturers | None) -> Authenticator:
        """The same for an edge where devices may come with their manufacturers' certificates."""
        other = copy.copy(self)
        other._manufacturers = manufacturers
        return other

    async def authenticate(self, request: IRequest) -> Requester:
        """Who sent the request. Refusal UNAUTHENTICATED when nobody proved anything or the proof is wrong;
        RATE_LIMITED, UNAVAILABLE when it could not be judged now.
        """
        return self._with_roles(await self._proven(request))

    async def by_certificate(self, request: IRequest) -> Requester:
        """Who has shown a client certificate, whatever else the request brings. Refusal UNAUTHENTICATED."""
        shown = shown_certificate(request)
        if shown is None:
            raise _refuse("this needs a client certificate beside the token, and the request brings none")
        return self._with_roles(await self._by_certificate(shown))

    def _with_roles(self, requester: Requester) -> Requester:
        given = frozenset(role for role, who in self._roles if who.matches(requester))
        return replace(requester, roles=requester.roles | given) if given else requester

    async def _proven(self, request: IRequest) -> Requester:
        headers = request.requestHeaders.getRawHeaders(b"Authorization") or []
        if len(headers) > 1:
            raise _refuse("there is more than one Authorization header")
        if headers:
            scheme, _, credentials = headers[0].decode("latin-1").strip().partition(" ")
            return await self._by_header(request, scheme.lower(), credentials.strip())
        shown = shown_certificate(request)
        if shown is None:
            raise _refuse("this needs a proof of who you are, and the request brings none")
        return await self._by_certificate(shown)

    async def challenges(self, refusal: Refusal | None = None) -> tuple[str, ...]:
        """The WWW-Authenticate values of a 401; `refusal`: what `authenticate` raised, which may make a nonce stale.

        Basic stands first: libest reads the first value only, and gives up when that is SHA-256 or Bearer. Digest
        is offered only when every user has its hashes: clients (curl --anyauth) take it whenever they see it, and
        the others could never log in. A client certificate cannot be asked for here: TLS has asked already.
        """
        offered: list[str] = []
        by_password = self._enrolment_passwords is not None and await self._enrolment_passwords.offered()
        if self._users is not None or by_password:
            offered.append(f'Basic realm="{REALM}"')
        if self._users is not None and self._digest is not None and await self._users.offer_digest():
            offered.extend(self._digest.challenges(stale=isinstance(refusal, StaleNonce)))
        if self._bearer is not None:
            offered.append(f'Bearer realm="{REALM}"')
        return tuple(offered)

    async def challenge(self, request: IRequest, refusal: Refusal) -> None:
        """Say in the answer how to prove oneself, when `refusal` is that nobody did (RFC 9110 §11.6.1)."""
        if refusal.kind is RefusalKind.UNAUTHENTICATED:
            values = await self.challenges(refusal)
            request.responseHeaders.setRawHeaders(b"WWW-Authenticate", [value.encode() for value in values])

    async def _by_header(self, request: IRequest, scheme: str, credentials: str) -> Requester:
        if scheme == "basic":
            found = await self._by_password(*parse_basic(credentials), _address(request))
            if found is not None:
                return found
        if scheme == "digest" and self._digest is not None:
            method, target = cast(bytes, request.method), cast(bytes, request.uri)
            return _user_requester(
                await self._digest.verify(
                    credentials, method.decode("ascii"), target.decode("latin-1"), _address(request)
                )
            )
        if scheme == "bearer" and self._bearer is not None:
            return await self._bearer.verify(credentials)
        raise _refuse("this kind of Authorization is not accepted here")

    async def _by_password(self, name: str, password: str, address: str) -> Requester | None:
        """None where no passwords are accepted. A user who has the name of an enrolment password keeps it."""
        users, others = self._users, self._enrolment_passwords
        if others is not None and others.is_name(name) and (users is None or await users.find(name) is None):
            return await others.check(name, password)
        return None if users is None else _user_requester(await users.check_password(name, password, address))

    async def _by_certificate(self, shown: Shown) -> Requester:
        """Exactly the names of the certificate may be had again (RFC 7030 §4.2.2), by an RA's any."""
        certificate_der = shown.certificate_der
        record = await self._recognise(certificate_der)
        if record is None or record.state is not CertificateState.ISSUED:
            if record is None and self._manufacturers is not None:
                return await self._manufacturers.requester(shown)
            raise _refuse("the client certificate is not one of this CA's")
        if shown.forwarded:
            self._trust.check(certificate_der)
        if record.revocation is not None:
            how = "is on hold" if record.revocation.held else "was revoked"
            raise _refuse(f"the client certificate {how}")
        if not record.not_before <= self._clock.now() <= record.not_after:
            raise _refuse("the client certificate has expired or is not valid yet")
        for_others = record.profile in self._registration_authorities and _is_registration_authority(certificate_der)
        return Requester(
            proof=Proof.TLS_CERTIFICATE,
            id=hashlib.sha256(certificate_der).hexdigest(),
            label=record.subject,
            grant=ANY_NAME if for_others else NameGrant(names=frozenset(record.names)),
            roles=frozenset({REGISTRATION_AUTHORITY}) if for_others else frozenset(),
            certificate_der=certificate_der,
        )


def _is_registration_authority(certificate_der: bytes) -> bool:
    """RFC 6402 §2.10; of a certificate of this CA's own, which can be read."""
    return CMC_RA in (purposes(x509.load_der_x509_certificate(certificate_der)) or ())


def parse_basic(credentials: str) -> tuple[str, str]:
    """Name and password of `Authorization: Basic …` (RFC 7617 §2), as UTF-8. Refusal UNAUTHENTICATED."""
    try:
        pair = base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        raise _refuse("the Basic credentials are not base64") from None
    try:
        text = pair.decode("utf-8")
    except UnicodeDecodeError:
        text = pair.decode("latin-1")  # what older clients send
    name, colon, password = text.partition(":")
    if not colon:
        raise _refuse("the Basic credentials have no colon")
    return name, password


def _address(request: IRequest) -> str:
    """Where the client is; a Unix socket has no address."""
    host = getattr(request.getClientAddress(), "host", None)  # type: ignore[no-untyped-call]
    return host if isinstance(host, str) else ""


def _user_requester(user: User) -> Requester:
    return Requester(proof=Proof.PASSWORD, id=user.name, label=user.name, grant=user.grant)


def _refuse(detail: str) -> Refusal:
    return Refusal(RefusalKind.UNAUTHENTICATED, detail)
