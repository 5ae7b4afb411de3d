"""`[validation]`: how control of names is proven and seen; and the validator that these settings describe."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from opencertd.clock import Clock
from opencertd.model.names import parse_dns_name
from opencertd.settings.attestation import AttestationSettings
from opencertd.validation.addresses import parse_network
from opencertd.validation.attestation import DEVICE_ATTEST_01
from opencertd.validation.dns_persist import PersistTerms
from opencertd.validation.perspectives import Perspective, SeveralPerspectives
from opencertd.validation.resolver import DnsResolver, parse_dns_server
from opencertd.validation.validator import ControlValidator, Validator
from opencertd.validation.verdict import DNS_PERSIST_01

ACCOUNT_HASHES = "/account-hash/"
"""Below the base URL: what stands before hashed accounts in dns-persist-01's records. Nothing is served there."""


def _dns_server(value: str) -> str:
    return str(parse_dns_server(value))


def _network(value: str) -> str:
    return str(parse_network(value))


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"{value[:80]!r} is not an IP address") from None


def _domain(value: str) -> str:
    try:
        return parse_dns_name(value, wildcard=False).value
    except Exception as error:
        raise ValueError(str(error)) from None


DnsServerText = Annotated[str, AfterValidator(_dns_server)]
NetworkText = Annotated[str, AfterValidator(_network)]
DomainText = Annotated[str, AfterValidator(_domain)]
AddressText = Annotated[str, AfterValidator(_address)]


class PerspectiveSettings(BaseModel):
    """One `[[validation.perspectives]]`: another resolver, other addresses to connect from, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=40)]
    dns_server: DnsServerText | None = None
    source: tuple[AddressText, ...] = ()

    @model_validator(mode="after")
    def _differs(self) -> PerspectiveSettings:
        if not self.dns_server and not self.source:
            raise ValueError(f"the perspective {self.name!r} needs a dns_server or a source: else it sees what all see")
        if len({ipaddress.ip_address(each).version for each in self.source}) < len(self.source):
            raise ValueError(f"the perspective {self.name!r} may have one source of IPv4 and one of IPv6")
        return self

    def addresses(self) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
        """The sources, parsed."""
        return tuple(ipaddress.ip_address(each) for each in self.source)


class ValidationSettings(BaseModel):
    """`[validation]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    challenges: tuple[Literal["http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01"], ...] = (
        "http-01",
        "dns-01",
        "tls-alpn-01",
    )
    refuse: tuple[NetworkText, ...] = ()
    dnssec: Literal["off", "require"] = "off"
    retry_seconds: Annotated[int, Field(ge=0, le=3600)] = 10
    at_once_per_account: Annotated[int, Field(ge=1, le=1000)] = 10
    perspectives: tuple[PerspectiveSettings, ...] = ()
    quorum: Annotated[int, Field(ge=0)] | None = None
    attestation: AttestationSettings = AttestationSettings()

    @model_validator(mode="after")
    def _together(self) -> ValidationSettings:
        if not self.challenges or len(set(self.challenges)) < len(self.challenges):
            raise ValueError("challenges names at least one challenge, and each once")
        if self.quorum is not None and self.quorum > len(self.perspectives):
            raise ValueError(f"quorum is {self.quorum}, but there are {len(self.perspectives)} perspectives")
        return self

    def offered(self) -> tuple[str, ...]:
        """The challenges that are offered: those set, and device-attest-01 where somebody's attestations are taken."""
        return (*self.challenges, DEVICE_ATTEST_01) if self.attestation.files() else self.challenges

    def needed(self) -> int:
        """How many of the further perspectives have to agree: as set, else all but one of several."""
        count = len(self.perspectives)
        return self.quorum if self.quorum is not None else count - 1 if count > 1 else count


def build_validator(
    table: ValidationSettings,
    *,
    reactor: Any,
    clock: Clock,
    dns_server: str | None,
    http01_port: int,
    tlsalpn01_port: int,
    allow: tuple[str, ...],
    caa_identities: tuple[str, ...],
    base_url: str,
) -> ControlValidator:
    """The validator of one worker."""

    def look(server: str | None, sources: tuple[Any, ...]) -> Validator:
        return Validator(
            resolver=DnsResolver(
                reactor,
                parse_dns_server(server) if server else None,
                dnssec=table.dnssec == "require",
                sources=sources,
            ),
            reactor=reactor,
            http01_port=http01_port,
            tlsalpn01_port=tlsalpn01_port,
            allow=tuple(parse_network(network) for network in allow),
            refuse=tuple(parse_network(network) for network in table.refuse),
            sources=sources,
            caa_identities=frozenset(caa_identities),
            persist=persist_terms(table, caa_identities, base_url),
            clock=clock,
        )

    own = look(dns_server, ())
    if not table.perspectives:
        return own
    others = [
        Perspective(each.name, look(each.dns_server or dns_server, each.addresses())) for each in table.perspectives
    ]
    return SeveralPerspectives(own, others, quorum=table.needed())


def persist_terms(table: ValidationSettings, identities: tuple[str, ...], base_url: str) -> PersistTerms | None:
    """What dns-persist-01 goes by, when it is offered."""
    if DNS_PERSIST_01 not in table.challenges:
        return None
    return PersistTerms(identities, base_url + ACCOUNT_HASHES)
