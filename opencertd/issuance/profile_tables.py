"""Profiles and policies as settings write them: `[profiles.NAME]`, `[policy]`, checked key by key.

Every key is left out or given; what is left out comes from the profile that a table begins with. Values are kept as
they were written, so that a table can be handed on, and turned into the core's own by `profile_file`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from opencertd.asn1 import der, dn
from opencertd.issuance.profiles import CMC_RA, KEY_USAGES, MAX_NAMES
from opencertd.issuance.rules import parse_rule, parse_subject_rule
from opencertd.issuance.shipped import DOCUMENT_SIGNING
from opencertd.issuance.subjects import parse_template
from opencertd.keys.kinds import KINDS, SIGNATURE_ALGORITHMS
from opencertd.model.durations import parse_duration
from opencertd.model.names import AltNameKind
from opencertd.model.request import IssuingProtocol
from opencertd.model.requester import Proof

EXTENDED_KEY_USAGES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "codeSigning": ExtendedKeyUsageOID.CODE_SIGNING,
    "emailProtection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timeStamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
    "documentSigning": DOCUMENT_SIGNING,
    "smartcardLogon": ExtendedKeyUsageOID.SMARTCARD_LOGON,
    "ipsecIKE": ExtendedKeyUsageOID.IPSEC_IKE,
    "cmcRA": CMC_RA,
}
"""Purposes by the names of their RFCs; others are given as OIDs."""


def _one_of(words: Iterable[str]) -> AfterValidator:
    known = tuple(words)

    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"must be one of {', '.join(known)}")
        return value

    return AfterValidator(check)


def parse_oid(text: str) -> x509.ObjectIdentifier:
    """A dotted OID. Raises ValueError in words."""
    try:
        return x509.ObjectIdentifier(text)
    except ValueError:
        raise ValueError("must be an OID in dotted form, such as 1.3.6.1.4.1.99999.1") from None


def _oid(value: str) -> str:
    return parse_oid(value).dotted_string


def _purpose(value: str) -> str:
    if value in EXTENDED_KEY_USAGES:
        return value
    try:
        return _oid(value)
    except ValueError:
        raise ValueError(f"must be an OID, or one of {', '.join(EXTENDED_KEY_USAGES)}") from None


def _duration(value: str) -> str:
    parse_duration(value)
    return value


def _attribute(value: str) -> str:
    if value.upper() in dn.ATTRIBUTES:
        return value
    try:
        return _oid(value)
    except ValueError:
        raise ValueError(f"must be an OID, or one of {', '.join(dn.ATTRIBUTES)}") from None


def _how_many_logs(value: Any) -> bool | int:
    if isinstance(value, bool) or (isinstance(value, int) and value >= 1):
        return value
    raise ValueError("must be true, false, or a number: timestamps of how many logs")


def _template(value: str) -> str:
    parse_template(value)
    return value


def _listed(value: object) -> object:
    """What stands alone needs no brackets."""
    return (value,) if isinstance(value, str) else value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https", "ldap"} or not parts.hostname or not value.isascii() or " " in value:
        raise ValueError("must be an http://, https:// or ldap:// URL")
    return value


def _rule(kind: AltNameKind) -> AfterValidator:
    def check(value: str) -> str:
        parse_rule(kind, value)
        return value

    return AfterValidator(check)


def _subject_rule(value: str) -> str:
    parse_subject_rule(value)
    return value


Duration = Annotated[str, AfterValidator(_duration)]
Url = Annotated[str, AfterValidator(_url)]
NameKind = Annotated[str, _one_of(kind.value for kind in AltNameKind)]
KeyType = Annotated[str, _one_of(KINDS)]
Algorithm = Annotated[str, _one_of(SIGNATURE_ALGORITHMS)]
KeyUsage = Annotated[str, _one_of(KEY_USAGES)]
ProtocolName = Annotated[str, _one_of(protocol.value for protocol in IssuingProtocol)]
ProofName = Annotated[str, _one_of(proof.value for proof in Proof if proof is not Proof.DAEMON)]


class Table(BaseModel):
    """A table of settings whose keys are all known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RulesTable(Table):
    """`allow` or `deny`: rules by kind of name."""

    dns: tuple[Annotated[str, _rule(AltNameKind.DNS)], ...] = ()
    ip: tuple[Annotated[str, _rule(AltNameKind.IP)], ...] = ()
    email: tuple[Annotated[str, _rule(AltNameKind.EMAIL)], ...] = ()
    uri: tuple[Annotated[str, _rule(AltNameKind.URI)], ...] = ()
    permanent_identifier: tuple[Annotated[str, _rule(AltNameKind.PERMANENT_IDENTIFIER)], ...] = ()
    hardware_module: tuple[Annotated[str, _rule(AltNameKind.HARDWARE_MODULE)], ...] = ()
    subject: tuple[Annotated[str, AfterValidator(_subject_rule)], ...] = ()


class LevelTable(Table):
    """`[profiles.NAME.policy]`: what is allowed and what denied at one level."""

    allow: RulesTable = RulesTable()
    deny: RulesTable = RulesTable()


class RequesterTable(Table):
    """Who is meant: all keys given must fit."""

    proof: ProofName | None = None
    id: str | None = None
    label: str | None = None
    role: str | None = None

    @model_validator(mode="after")
    def _somebody(self) -> RequesterTable:
        if self.proof is None and self.id is None and self.label is None and self.role is None:
            raise ValueError("nobody is named: give proof, id, label or role")
        return self


class RequesterPolicyTable(RequesterTable, LevelTable):
    """`[[policy.requester]]`: rules for those who are meant."""


class PolicyTable(LevelTable):
    """`[policy]`: rules for everybody, and for some requesters."""

    requester: tuple[RequesterPolicyTable, ...] = ()


class CertificatePolicyTable(Table):
    """One of `certificate_policies`."""

    oid: Annotated[str, AfterValidator(_oid)]
    cps: Url | None = None


class ExtensionTable(Table):
    """One of `extensions`: the same in every certificate. The value is DER in base64 or hex."""

    oid: Annotated[str, AfterValidator(_oid)]
    critical: bool = False
    base64: str | None = None
    hex: str | None = None

    @model_validator(mode="after")
    def _value(self) -> ExtensionTable:
        self.value_der()
        return self

    def value_der(self) -> bytes:
        """The value. Raises ValueError when it is not exactly one DER element."""
        if (self.base64 is None) is (self.hex is None):
            raise ValueError("give the DER value as base64 or as hex: one of them")
        try:
            if self.base64 is not None:
                value = base64.b64decode(re.sub(r"\s", "", self.base64), validate=True)
            else:
                value = bytes.fromhex((self.hex or "").replace(":", ""))
        except ValueError:
            raise ValueError(f"the value is not {'hex' if self.base64 is None else 'base64'}") from None
        try:
            whole = der.read_tlv(value).end == len(value)
        except der.DerError:
            whole = False
        if not whole:
            raise ValueError("the value is not exactly one DER element")
        return value


class ProfileTable(Table):
    """`[profiles.NAME]`. What is None was not given."""

    like: str | None = None
    description: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    protocols: tuple[ProtocolName, ...] | None = None
    requesters: tuple[RequesterTable, ...] | None = None
    approval: Literal["none", "person"] | None = None
    issuers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    issuer_fits_key: bool | None = None
    issuer_by_key: dict[KeyType, str] | None = None
    signature_algorithm: Annotated[tuple[Algorithm, ...], BeforeValidator(_listed), Field(min_length=1)] | None = None
    key_types: Annotated[tuple[KeyType, ...], Field(min_length=1)] | None = None
    rsa_min: Annotated[int, Field(ge=2048, le=8192)] | None = None
    rsa_max: Annotated[int, Field(ge=2048, le=8192)] | None = None
    validity: Duration | None = None
    validity_max: Duration | None = None
    validity_may_be_asked: bool | None = None
    backdate: Duration | None = None
    subject: Annotated[str, AfterValidator(_template)] | None = None
    subject_attributes: tuple[Annotated[str, AfterValidator(_attribute)], ...] | None = None
    subject_others: Literal["refuse", "drop"] | None = None
    names: tuple[NameKind, ...] | None = None
    names_required: tuple[NameKind, ...] | None = None
    names_max: Annotated[int, Field(ge=0, le=MAX_NAMES)] | None = None
    wildcards: bool | None = None
    ca: bool | None = None
    path_length: Annotated[int, Field(ge=0, le=100)] | None = None
    key_usage: tuple[KeyUsage, ...] | None = None
    extended_key_usage: tuple[Annotated[str, AfterValidator(_purpose)], ...] | None = None
    extended_key_usage_critical: bool | None = None
    certificate_policies: tuple[CertificatePolicyTable, ...] | None = None
    must_staple: bool | None = None
    extensions: tuple[ExtensionTable, ...] | None = None
    ocsp_no_check: bool | None = None
    certificate_transparency: Annotated[bool | int, PlainValidator(_how_many_logs)] | None = None
    ocsp: tuple[Url, ...] | None = None
    ca_issuer: tuple[Url, ...] | None = None
    crl: tuple[Url, ...] | None = None
    pkilint: Literal["off", "warn", "refuse"] | None = None
    hold: bool | None = None
    policy: LevelTable | None = None
