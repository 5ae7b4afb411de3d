"""Which issuer a CertID means, and in which CertIDs a certificate is meant."""

from __future__ import annotations

from collections.abc import Sequence

from opencertd.asn1 import der, ocsp
from opencertd.asn1.ocsp import CertId
from opencertd.errors import Refusal, RefusalKind
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.ocsp.prepared import Certificate

Namesakes = tuple[Issuer, ...]
"""Issuers with one name and one key: a CA certificate and its renewals. CertIDs cannot tell them apart."""


class IssuerIndex:
    """The issuers of one set by the hashes that name them."""

    def __init__(self, issuers: Issuers) -> None:
        self._by_hashes: dict[tuple[str | None, bytes, bytes], Namesakes] = {}
        for issuer in issuers.all():
            for hash_name in ocsp.HASH_NAMES:
                key = (hash_name, *ocsp.hash_issuer(issuer.certificate_der, hash_name))
                self._by_hashes[key] = (*self._by_hashes.get(key, ()), issuer)
        self._first: dict[str, Issuer] = {}
        self._cert_id_heads: dict[str, list[bytes]] = {}
        for (name, name_hash, key_hash), group in self._by_hashes.items():
            heads = self._cert_id_heads.setdefault(group[0].id, [])
            heads += ocsp.cert_id_heads(str(name), name_hash, key_hash)
            self._first |= {issuer.id: group[0] for issuer in group}

    def named_by(self, cert_id: CertId) -> Namesakes:
        """The issuer that the CertID names, with its namesakes; none when it is a stranger."""
        return self._by_hashes.get((cert_id.hash_name, cert_id.name_hash, cert_id.key_hash), ())

    def responsible(self, cert_ids: Sequence[CertId]) -> Namesakes:
        """The issuer (with its namesakes) that a request is about. Refusal UNAUTHORIZED for none or several."""
        groups = (self.named_by(cert_id) for cert_id in cert_ids)
        found = {group[0].id: group for group in groups if group}
        if not found:
            raise Refusal(RefusalKind.UNAUTHORIZED, "no issuer of these certificates is served here")
        if len(found) > 1:
            raise Refusal(RefusalKind.UNAUTHORIZED, "certificates of several issuers need a request for each issuer")
        return found.popitem()[1]

    def certificate(self, issuer_id: str, serial: int) -> Certificate:
        """What stands for the certificate and for those of the issuer's namesakes with its serial."""
        first = self._first.get(issuer_id)
        return (issuer_id if first is None else first.id, serial)

    def namesakes(self, issuer_id: str) -> Namesakes:
        """The issuer of that id with its namesakes, the first of them first; none when it is not known."""
        first = self._first.get(issuer_id)
        return () if first is None else next(group for group in self._by_hashes.values() if group[0] is first)

    def cert_ids(self, certificate: Certificate) -> tuple[bytes, ...]:
        """Every CertID in DER that means what `certificate` answered: by each hash, with and without its NULL."""
        serial = der.integer(certificate[1])
        return tuple(der.sequence(head, serial) for head in self._cert_id_heads.get(certificate[0], ()))

    def usual_cert_id(self, certificate: Certificate) -> bytes:
        """The one of `cert_ids` that most clients ask by, with SHA-1. Raises KeyError for a strange issuer."""
        return der.sequence(self._cert_id_heads[certificate[0]][0], der.integer(certificate[1]))
