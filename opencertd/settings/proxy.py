"""`[proxy]`: whose word is taken for who is at the other end."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from opencertd.web.proxy import CLIENT_CERT, Proxies

UNIX = "unix"
_MODE = re.compile(r":mode=0?([0-7]{1,4})(?::|\Z)")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_TAKEN = frozenset(
    ("authorization", "host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "te")
)


def _neighbour(text: str) -> str:
    if text == UNIX:
        return text
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"must be an address, a network in CIDR, or {UNIX!r}: {error}") from None
    if network.prefixlen == 0:
        raise ValueError("trusts everybody: whoever is trusted can pose as any client")
    return text


def _header(name: str) -> str:
    if not _TOKEN.match(name):
        raise ValueError("must be the name of a header")
    if name.lower() in _TAKEN or name.lower() in {"client-cert-chain", "forwarded", "x-forwarded-for"}:
        raise ValueError(f"must be {CLIENT_CERT} or a header of its own: that one means something else")
    return name


class ProxySettings(BaseModel):
    """`trusted`: addresses, networks, or `unix`. The headers: see `Proxies`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trusted: tuple[Annotated[str, AfterValidator(_neighbour)], ...] = ()
    address_header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"
    certificate_header: Annotated[str, AfterValidator(_header)] | None = None

    @model_validator(mode="after")
    def _somebody(self) -> ProxySettings:
        if self.certificate_header and not self.trusted:
            raise ValueError("certificate_header needs trusted: say whose word is taken")
        return self

    def build(self) -> Proxies:
        """For the sites."""
        networks = tuple(ipaddress.ip_network(text) for text in self.trusted if text != UNIX)
        return Proxies(networks, UNIX in self.trusted, self.address_header, self.certificate_header)


def check_sockets(proxy: ProxySettings, listen: tuple[str, ...]) -> None:
    """Raise ValueError when everybody on this machine could open a Unix socket whose users are trusted."""
    if UNIX not in proxy.trusted:
        return
    for endpoint in listen:
        mode = _MODE.search(endpoint)
        if endpoint.startswith("unix:") and (mode is None or int(mode[1], 8) & 0o002):
            raise ValueError(
                f"[proxy] trusts whoever opens {endpoint!r}, which everybody on this machine may do: "
                "end it with :mode=660, and give the socket's directory to the proxy's group"
            )
