"""TLS as a client that trusts exactly the anchors it was given, and says in words why a server is not trusted.

Host names are checked by service_identity (RFC 9525). An anchor may be any CA certificate, not only a self-signed
one: what the person put into the file is what is trusted (RFC 5280 §6.1.1 d).
"""

# mypy: disable-error-code="no-untyped-call"
# (Failure and the trust roots of twisted.internet.ssl have no annotations.)

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import Certificate, TLSVersion, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from opencertd.client.errors import ServerNotTrusted
from opencertd.keys.kinds import PrivateKey
from opencertd.keys.tls import tls_key

REASONS = {
    2: "the certificate of its issuer is not among the trust anchors",
    7: "its certificate was not issued by one of the trust anchors",  # one of them only has the same name
    9: "its certificate is not valid yet (is this machine's clock right?)",
    10: "its certificate has expired",
    18: "its certificate is self-signed and not among the trust anchors",
    19: "its chain ends in a root that is not among the trust anchors",
    20: "its certificate was not issued by one of the trust anchors",
    21: "its certificate was not issued by one of the trust anchors",
    24: "its chain contains a certificate that is no CA",
    26: "its certificate is not meant for TLS servers",
    66: "its key is too weak",
    68: "its signature algorithm is too weak",
}
"""The usual X509_V_ERR_ numbers of OpenSSL in words; others are told by number."""

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Identity:
    """The client's own certificate, the CA certificates to send with it, and its private key."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True)
class TlsSettings:
    """Whom the client trusts and who it is. `anchors` None: the CA certificates of the operating system.

    `version`: the only one that is spoken; None: TLS 1.2 and 1.3. `unverified`: whoever answers is believed, as long as
    somebody else looks at what it says (RFC 7030 §4.1.1).
    """

    anchors: tuple[x509.Certificate, ...] | None
    identity: Identity | None = None
    version: TLSVersion | None = None
    unverified: bool = False


def client_connection_creator(host: str, settings: TlsSettings) -> IOpenSSLClientConnectionCreator:
    """TLS 1.2 or 1.3 to `host` (a DNS name or an IP address, without brackets), verified by `settings`."""
    anchors = settings.anchors
    extra: dict[str, object] = {}
    if settings.version is not None:
        extra = {"insecurelyLowerMinimumTo": settings.version, "lowerMaximumSecurityTo": settings.version}
    if settings.identity is not None:
        extra |= {
            "privateKey": tls_key(settings.identity.key),
            "certificate": settings.identity.certificate,
            "extraCertChain": list(settings.identity.chain),
        }
    options = optionsForClientTLS(
        host,
        trustRoot=platformTrust() if anchors is None else trustRootFromCertificates(_twisted(anchors)),
        extraCertificateOptions=extra,
    )
    return _UnverifiedCreator(options) if settings.unverified else _ExplainingCreator(options, host)


def _twisted(certificates: Sequence[x509.Certificate]) -> list[Certificate]:
    return [Certificate(crypto.X509.from_cryptography(one)) for one in certificates]


@implementer(IOpenSSLClientConnectionCreator)
class _ExplainingCreator:
    """Connections as Twisted makes them; but a failed verification ends in `ServerNotTrusted` with its reason."""

    def __init__(self, inner: IOpenSSLClientConnectionCreator, host: str) -> None:
        self._inner = inner
        self._host = host

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802, N803  (Twisted)
        connection: SSL.Connection = self._inner.clientConnectionForTLS(tlsProtocol)
        store = connection.get_context().get_cert_store()
        if store is not None:
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        connection.set_verify(mode, _verification(tlsProtocol, self._host))
        return connection


@implementer(IOpenSSLClientConnectionCreator)
class _UnverifiedCreator:
    """Connections as Twisted makes them, to whoever answers."""

    def __init__(self, inner: IOpenSSLClientConnectionCreator) -> None:
        self._inner = inner

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802, N803  (Twisted)
        connection: SSL.Connection = self._inner.clientConnectionForTLS(tlsProtocol)
        connection.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        return connection


def _verification(
    protocol: TLSMemoryBIOProtocol, host: str
) -> Callable[[SSL.Connection, crypto.X509, int, int, int], bool]:
    """OpenSSL's callback, once per certificate of the chain: keeps its verdict, adds the host name's for the leaf."""

    def verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
        if not ok:
            why = REASONS.get(error, f"its certificate does not verify (OpenSSL's error {error})")
        elif depth == 0:
            why = _mismatch(certificate, host)
        else:
            return True
        if not why:
            return True
        protocol.failVerification(Failure(ServerNotTrusted(why)))
        return False

    return verify


def _mismatch(certificate: crypto.X509, host: str) -> str:
    """Why the certificate is not for `host`; empty when it is."""
    try:
        wanted = IPAddress_ID(host) if _is_ip_address(host) else DNS_ID(host)
        verify_service_identity(extract_patterns(certificate), [wanted], [])
    except (VerificationError, CertificateError):
        return f"its certificate is for {_names(certificate.to_cryptography())}, not for {host}"
    except ValueError:
        return f"the names in its certificate cannot be compared with {host}"
    return ""


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _names(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return "no name at all"
    shown = [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
    if not shown:
        return "no host name at all"
    return ", ".join(shown[:_NAMES_SHOWN]) + (" and others" if len(shown) > _NAMES_SHOWN else "")
