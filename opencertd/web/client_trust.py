"""Client certificates that OpenSSL has not seen in a handshake here are judged as the listener would judge them.

The same anchors, purpose and dates as in `tls.ServerTls`; revocation is asked elsewhere, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuers

Anchors = Sequence[x509.Certificate]


def client_anchors(issuers: Issuers) -> tuple[x509.Certificate, ...]:
    """Issuing CAs whose certificates clients may show: the retired too, until what they signed has expired."""
    return tuple(issuer.certificate for issuer in issuers.issuing() if not issuer.revoked)


class ClientTrust:
    """Judges by the anchors of the moment, which `anchors` answers."""

    def __init__(self, anchors: Callable[[], Anchors]) -> None:
        self._anchors = anchors
        self._known: tuple[x509.Certificate, ...] = ()
        self._store = crypto.X509Store()

    def check(self, certificate_der: bytes, others_der: Sequence[bytes] = ()) -> None:
        """Refusal UNAUTHENTICATED unless the certificate leads to an anchor, in its dates, and is for clients."""
        anchors = tuple(self._anchors())
        if anchors != self._known:
            self._store, self._known = trust_store(anchors), anchors
        verified_chain(self._store, certificate_der, others_der)


def trust_store(anchors: Anchors) -> crypto.X509Store:
    """OpenSSL's form of the anchors, none of which need be a root."""
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for anchor in anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
    return store


def verified_chain(
    store: crypto.X509Store, certificate_der: bytes, others_der: Sequence[bytes]
) -> tuple[x509.Certificate, ...]:
    """The certificate and what is above it, up to an anchor. Refusal UNAUTHENTICATED in words when there is no path."""
    try:
        leaf, *others = (crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in (certificate_der, *others_der))
        chain = crypto.X509StoreContext(store, leaf, others).get_verified_chain()
        found = tuple(each.to_cryptography() for each in chain)
        fit = all(map(is_for_clients, found)) and may_sign(found[0])
    except crypto.X509StoreContextError as error:
        raise _refuse(str(error.args[0])) from None
    except (crypto.Error, ValueError, TypeError, x509.DuplicateExtension):
        raise _refuse("it cannot be read") from None
    if not fit:
        raise _refuse("it is not for TLS clients")
    return found


def is_for_clients(certificate: x509.Certificate) -> bool:
    """Whether clients, or the CAs above them, may use it, as OpenSSL reads RFC 5280 §4.2.1.12. Raises ValueError."""
    usages = purposes(certificate)
    return usages is None or ExtendedKeyUsageOID.CLIENT_AUTH in usages


def purposes(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier] | None:
    """What the certificate is for; None when it does not say. Raises ValueError."""
    try:
        return frozenset(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None


def may_sign(certificate: x509.Certificate) -> bool:
    """Whether its key may take part in a handshake (RFC 5280 §4.2.1.3). Raises ValueError."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage.digital_signature or usage.key_agreement


def _refuse(why: str) -> Refusal:
    return Refusal(RefusalKind.UNAUTHENTICATED, f"the client certificate is not accepted: {why}")
