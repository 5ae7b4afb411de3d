"""What a proxy says of its clients counts when the settings trust the proxy, and is gone when anybody else says it.

A proxy that ends TLS tells the client's address by `X-Forwarded-For` or `Forwarded` (RFC 7239), and the certificate
that the client has proven by `Client-Cert` (RFC 9440) or by a header with nginx's `$ssl_client_escaped_cert`. Clients
can send all of these too: so one header of each kind is believed, from trusted neighbours alone.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote_to_bytes

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.web.http_headers import Headers

from opencertd.asn1 import pem
from opencertd.errors import Refusal, RefusalKind

FORWARDED = "Forwarded"
X_FORWARDED_FOR = "X-Forwarded-For"
CLIENT_CERT = "Client-Cert"
CLIENT_CERT_CHAIN = "Client-Cert-Chain"
MOST_IN_CHAIN = 8
"""CA certificates that a client may send; chains have two or three."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_WELL_KNOWN = (FORWARDED, X_FORWARDED_FOR, CLIENT_CERT, CLIENT_CERT_CHAIN)
_ITEM = re.compile(r"[ \t]*:([A-Za-z0-9+/]*={0,2}):[ \t]*\Z")
# Spaces are never given back ("*+"): else a long run of them, which any client may send, costs its length squared.
_PAIR = re.compile(
    r"[ \t]*+(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    r"(?:([!#$%&'*+.^_`|~0-9A-Za-z:-]+)|\"((?:[^\"\\]|\\.)*)\"))?[ \t]*+([;,]|\Z)"
)


@dataclass(frozen=True)
class Forwarded:
    """What the trusted proxy said of the client's certificate: values of its headers, nothing of them judged yet."""

    certificate: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    escaped: bool = False

    def certificates(self) -> tuple[bytes, ...]:
        """The client's certificate, then those that it sent with it, DER; nothing when it has shown none.

        Refusal MALFORMED when the proxy's words cannot be read.
        """
        values = [value for value in self.certificate if value.strip()]
        if not values:
            return ()
        if len(values) > 1:
            raise _malformed("names the client's certificate twice")
        if self.escaped:
            return parse_escaped(values[0])
        (certificate,) = parse_binaries(values) or (b"",)
        return (certificate, *parse_binaries(self.chain))


@dataclass(frozen=True)
class Proxies:
    """Whose word is taken, and by which headers.

    `networks`: addresses of proxies; `unix`: whether whoever connects to a Unix socket is one. `address_header`:
    `X-Forwarded-For` or `Forwarded`. `certificate_header`: `Client-Cert` for the form of RFC 9440, any other for a
    percent-encoded PEM; None: certificates are not passed on.
    """

    networks: tuple[Network, ...] = ()
    unix: bool = False
    address_header: str = X_FORWARDED_FOR
    certificate_header: str | None = None

    def take(self, headers: Headers, peer: IAddress) -> tuple[IAddress, Forwarded | None]:
        """The client's address, and what the proxy says of its certificate; None when `peer` is no proxy.

        Removes every such header from `headers`, so that nothing behind this can believe one by mistake.
        """
        client, said = peer, None
        if self.trusts(peer):
            client = self._client(_values(headers, self.address_header), peer)
            rfc = self.certificate_header is not None and self.certificate_header.lower() == CLIENT_CERT.lower()
            certificate = () if self.certificate_header is None else _values(headers, self.certificate_header)
            said = Forwarded(certificate, _values(headers, CLIENT_CERT_CHAIN) if rfc else (), escaped=not rfc)
        for name in self._theirs:
            headers.removeHeader(name)
        return client, said

    @cached_property
    def _theirs(self) -> tuple[bytes, ...]:
        """Headers that only proxies send."""
        return tuple(name.encode("ascii") for name in (*_WELL_KNOWN, self.certificate_header) if name)

    def trusts(self, peer: IAddress) -> bool:
        """Whether a neighbour is a proxy of ours."""
        if not (self.networks or self.unix):
            return False
        if isinstance(peer, UNIXAddress):
            return self.unix
        address = _parse(getattr(peer, "host", ""))
        return address is not None and self._is_proxy(address)

    def _is_proxy(self, address: _Address) -> bool:
        return any(address.version == network.version and address in network for network in self.networks)

    def _client(self, values: Sequence[str], peer: IAddress) -> IAddress:
        """The right-most address that is no proxy: what stands left of it, its sender could have made up."""
        hops = _forwarded_hops(values) if self.address_header.lower() == FORWARDED.lower() else _hops(values)
        found = peer
        for hop in hops:
            address = _parse_hop(hop)
            if address is None:
                return found  # `unknown`, or a name: nobody nearer to the client is known
            kind = IPv4Address if address.version == 4 else IPv6Address
            found = kind("TCP", str(address), 0)
            if not self._is_proxy(address):
                break
        return found


NO_PROXIES = Proxies()


def _values(headers: Headers, name: str) -> tuple[str, ...]:
    return tuple(value.decode("latin-1") for value in headers.getRawHeaders(name.encode("ascii")) or ())


def _hops(values: Sequence[str]) -> Iterator[str]:
    """The addresses of X-Forwarded-For, the nearest first."""
    for value in reversed(values):
        yield from reversed(value.split(","))


def _forwarded_hops(values: Sequence[str]) -> Iterator[str]:
    """The `for` of each element of Forwarded (RFC 7239 §4), the nearest first; empty where it cannot be read."""
    for value in reversed(values):
        yield from reversed(_elements(value))


def _elements(value: str) -> list[str]:
    found, current, position = [], "", 0
    while True:
        match = _PAIR.match(value, position)
        if match is None:
            return [""]  # an open quote may have swallowed what a proxy has added
        name, token, quoted, end = match.groups()
        if name is not None and name.lower() == "for":
            current = token if token is not None else re.sub(r"\\(.)", r"\1", quoted)
        if end != ";":
            found.append(current)
            current = ""
        if not end:
            return found
        position = match.end()


def _parse_hop(text: str) -> _Address | None:
    """An address, with or without a port: `192.0.2.1:4711`, `[2001:db8::1]:4711`."""
    text = text.strip()
    bracketed = re.match(r"\[([0-9A-Fa-f:.]+)\](?::[0-9_a-zA-Z.-]+)?\Z", text)
    if bracketed:
        return _parse(bracketed[1])
    host, colon, _ = text.partition(":")
    return _parse(host if colon and "." in host and text.count(":") == 1 else text)


def _parse(text: str) -> _Address | None:
    """An address; one of IPv4 that a socket for both shows as IPv6 is one of IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def parse_binaries(values: Iterable[str]) -> tuple[bytes, ...]:
    """Byte sequences of RFC 8941 §3.3.5, in a list or alone (RFC 9440 §2.2, §2.3). Refusal MALFORMED."""
    found = []
    for item in (item for value in values for item in value.split(",")):
        match = _ITEM.match(item)
        if match is None:
            raise _malformed("is not as RFC 9440 has it")
        try:
            found.append(base64.b64decode(match[1], validate=True))
        except binascii.Error:
            raise _malformed("is not base64") from None
    if len(found) > MOST_IN_CHAIN + 1:
        raise _malformed("has too many certificates")
    return tuple(found)


def parse_escaped(value: str) -> tuple[bytes, ...]:
    """The certificates of a percent-encoded PEM text, such as nginx's `$ssl_client_escaped_cert`. Refusal MALFORMED."""
    try:
        found = tuple(pem.parse_certificates(unquote_to_bytes(value)))
    except ValueError:
        found = ()
    if not 1 <= len(found) <= MOST_IN_CHAIN + 1:
        raise _malformed("is not a percent-encoded PEM certificate")
    return found


def _malformed(how: str) -> Refusal:
    return Refusal(RefusalKind.MALFORMED, f"what the proxy says of the client's certificate {how}")
