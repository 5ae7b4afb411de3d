"""The EST conversation: which certificates the CA has, and who may enrol for what. Knows no HTTP.

RFC 7030 §4.1 (cacerts), §4.2.1 (simpleenroll), §4.2.2 (simplereenroll), §4.4 (serverkeygen), §4.5
(csrattrs). A label names a profile.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import DeferredSemaphore, maybeDeferred

from opencertd.asn1.change_subject import changed_names
from opencertd.asn1.csr_attributes import encode_csr_attributes
from opencertd.asn1.pkcs10 import CertificationRequest, parse_csr
from opencertd.errors import Refusal, RefusalKind
from opencertd.est.binding import BindingRule, BindingRules, check_binding
from opencertd.est.generation import KeyWish, key_wish, pkcs8
from opencertd.est.key_package import enclose
from opencertd.est.wishes import wanted_attributes
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.enrolment import (
    build_enrolment,
    build_renewal,
    check_still_good,
    client_profile,
    proven_certificate,
)
from opencertd.keys.channel_binding import ChannelBinding
from opencertd.keys.kinds import PrivateKey
from opencertd.keys.signer import Elsewhere
from opencertd.model.request import IssuanceRequest, IssuedCertificate, IssuingProtocol
from opencertd.model.requester import Requester
from opencertd.tasks import Tasks

_KEYS_AT_ONCE = 2
"""An RSA key takes a core for a second; other threads have passwords to hash and certificates to sign."""

_KEYS_WAITING = 20

_CHECKED = BindingRules()
_NO_KEYS: Mapping[str, Mapping[bytes, bytes]] = {}


@dataclass(frozen=True)
class GeneratedKey:
    """`part`: the private key as PKCS#8, or in CMS EnvelopedData when `encrypted`; DER."""

    part: bytes = field(repr=False)
    encrypted: bool
    issued: IssuedCertificate


class EstServer:
    """Answers EST operations with DER certificates.

    `elsewhere` makes keys off the reactor. `decrypt_keys`: secrets to encrypt such keys to, by requester
    (`password:alice`) and the secret's identifier.

    `bindings`: what is made of requests that are linked to a TLS connection. Where operations take `binding`, it is
    that of the client's connection to us; None when TLS ends before us.

    `renewal_by_token`: profiles for which simplereenroll may bring a bearer token beside the client certificate.

    `client_certificate_may_enrol_any_name`: lets simpleenroll by TLS client certificate ask for any name. Off, since
    one stolen device certificate would then be good for every name of the house; on, for closed networks where a
    certificate stands for a trusted operator or a bootstrap identity.
    """

    def __init__(
        self,
        *,
        authority: CertificateAuthority,
        tasks: Tasks,
        client_certificate_may_enrol_any_name: bool = False,
        elsewhere: Elsewhere[PrivateKey] = maybeDeferred,
        random: Callable[[int], bytes] = secrets.token_bytes,
        decrypt_keys: Mapping[str, Mapping[bytes, bytes]] = _NO_KEYS,
        bindings: BindingRules = _CHECKED,
        renewal_by_token: frozenset[str] = frozenset(),
    ) -> None:
        self._renewal_by_token = renewal_by_token
        self._bindings = bindings
        self._elsewhere = elsewhere
        self._random = random
        self._secrets = decrypt_keys
        self._generating = DeferredSemaphore(_KEYS_AT_ONCE)
        self._authority = authority
        self._tasks = tasks
        self._any_name = client_certificate_may_enrol_any_name

    def profile(self, label: str | None) -> str:
        """The name of the profile that a label means; None is the default one. Raises NOT_FOUND."""
        return client_profile(self._authority.profiles, label, IssuingProtocol.EST)

    def check_renewal_by_token(self, profile: str) -> None:
        """Raise UNAUTHORIZED where who renews by that profile is to bring the certificate alone."""
        if profile not in self._renewal_by_token:
            why = "this profile takes no tokens for renewals: bring the client certificate alone"
            raise Refusal(RefusalKind.UNAUTHORIZED, why)

    def cacerts(self) -> tuple[bytes, ...]:
        """All certificates a client needs to trust and to build chains: issuing ones first, roots last."""
        return self._authority.authorities()

    def csrattrs(self, profile: str) -> bytes | None:
        """What requests for that profile should hold, CsrAttrs in DER; None when it leaves everything open."""
        linked = self._bindings.of(profile) is BindingRule.REQUIRED
        return encode_csr_attributes(wanted_attributes(self._authority.profiles[profile], binding=linked))

    async def simpleenroll(
        self, requester: Requester, profile: str, request: bytes, binding: ChannelBinding | None = None
    ) -> IssuedCertificate:
        """A certificate for the PKCS#10 `request` (DER or PEM), for whatever names `requester` may ask for.

        A repetition within a minute gives the same certificate. Goes on when the asker leaves. Raises Refusals of
        `parse_csr`, `check_binding`, of the rule of own names and of the core.
        """
        csr = self._linked(parse_csr(request), profile, requester, binding)
        return await self._issue(self._enrolment(csr, profile, requester))

    async def simplereenroll(
        self, requester: Requester, profile: str, request: bytes, binding: ChannelBinding | None = None
    ) -> IssuedCertificate:
        """A new certificate, for the same or a new key, in place of the one that TLS proved.

        With ChangeSubjectName (§4.2.2) for other names, as far as that certificate may ask for them by simpleenroll.
        Raises UNAUTHENTICATED without such a certificate, REJECTED_NAME when Subject or SubjectAltName differ.
        """
        proven_certificate(requester)
        csr = self._linked(parse_csr(request), profile, requester, binding)
        wish = build_renewal(csr, profile, requester, protocol=IssuingProtocol.EST)
        changed = changed_names(csr)
        return await self._issue(wish if changed is None else self._enrolment(changed, profile, requester))

    async def serverkeygen(
        self, requester: Requester, profile: str, request: bytes, binding: ChannelBinding | None = None
    ) -> GeneratedKey:
        """A new key and its certificate, for the names that the PKCS#10 `request` asks (§4.4).

        Nothing of the private key is kept, nor can it be told again: a repetition gives another key. Goes on when the
        asker leaves. Raises Refusals as simpleenroll, BAD_CSR for an encryption that cannot be done, UNAVAILABLE while
        too many others wait.
        """
        csr = self._linked(parse_csr(request, proven=False), profile, requester, binding)
        proven = requester.certificate_der
        certificate = None if proven is None else x509.load_der_x509_certificate(proven)
        known = self._secrets.get(f"{requester.proof.value}:{requester.id}", {})
        wish = key_wish(csr, self._authority.profiles[profile], certificate=certificate, secrets=known)
        enrolment = dataclasses.replace(self._enrolment(csr, profile, requester), applicant_spki_der=csr.spki_der)
        self._authority.check_order(profile, csr.names, enrolment.requester, IssuingProtocol.EST)
        if len(self._generating.waiting) >= _KEYS_WAITING:
            raise Refusal(RefusalKind.UNAVAILABLE, "too many keys are being made: try again later", retry_after=10)
        # No transaction: the same request again would be given this certificate, and a key that does not belong to it.
        enrolment = dataclasses.replace(enrolment, transaction=None)
        return await self._tasks.shield(self._generate(wish, enrolment))

    async def _generate(self, wish: KeyWish, enrolment: IssuanceRequest) -> GeneratedKey:
        await self._authority.check_approved(enrolment)
        key = await self._generating.run(self._elsewhere, wish.make)
        spki_der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        part = pkcs8(key)
        if wish.reader is not None:
            issuer = self._authority.issuer_for(enrolment.profile, spki_der)
            part = await enclose(part, wish.reader, wish.cipher, issuer, self._random)
        issued = await self._authority.issue(dataclasses.replace(enrolment, spki_der=spki_der))
        return GeneratedKey(part, wish.reader is not None, issued)

    def _linked(
        self, csr: CertificationRequest, profile: str, requester: Requester, binding: ChannelBinding | None
    ) -> CertificationRequest:
        """A registration authority brings requests that others have made, for connections of their own to it."""
        if not requester.enrols_for_others:
            check_binding(self._bindings.of(profile), csr.challenge_password, binding)
        return csr

    def _enrolment(self, csr: CertificationRequest, profile: str, requester: Requester) -> IssuanceRequest:
        return build_enrolment(
            csr,
            profile,
            requester,
            protocol=IssuingProtocol.EST,
            client_certificate_may_enrol_any_name=self._any_name,
        )

    async def _issue(self, request: IssuanceRequest) -> IssuedCertificate:
        return check_still_good(await self._tasks.shield(self._authority.issue(request)))
