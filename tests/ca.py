"""A CA for tests: the real core over an in-memory store, with a clock that stands still."""

from __future__ import annotations

import functools
import secrets
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.task import Clock as ReactorClock

from opencertd.asn1.dn import parse_dn
from opencertd.clock import FixedClock
from opencertd.config import RuleSettings
from opencertd.first_start import at_once, run_now
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.ceremony import NewAuthority, make_authorities, record_ca_certificates
from opencertd.issuance.issuers import Issuer, Issuers, chain_of
from opencertd.issuance.key_types import parse_key_types
from opencertd.issuance.profile_file import Rules, build_rules
from opencertd.issuance.profiles import Publication
from opencertd.issuance.store import CertificateStore
from opencertd.issuance.transparency import Transparency
from opencertd.keys.kinds import PrivateKey, SubjectKey, scheme_of
from opencertd.keys.signer import Signer, SoftwareSigner
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.request import IssuanceRequest
from opencertd.model.requester import ANY_NAME, NameGrant, Proof, Requester
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
PUBLICATION = Publication(
    ocsp=("http://ca.test/ca/ocsp",),
    ca_issuers=("http://ca.test/ca/{issuer}/certificate",),
    crl=("http://ca.test/ca/{issuer}/crl",),
)


@functools.cache
def authorities() -> tuple[NewAuthority, ...]:
    """One set of CA keys for the whole run: RSA keys take long to make."""
    return make_authorities(parse_dn("CN=Test CA,O=Testers,C=DE"), NOW)


@functools.cache
def hierarchy(*key_types: str) -> tuple[NewAuthority, ...]:
    """A CA of those key types, made once for the whole run."""
    return make_authorities(parse_dn("CN=Test CA,O=Testers,C=DE"), NOW, parse_key_types(key_types))


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@dataclass
class TestCa:
    """Everything a test may want to look at."""

    __test__ = False

    authority: CertificateAuthority
    issuers: Issuers
    store: CertificateStore
    database: Database
    clock: FixedClock
    reactor: ReactorClock


def in_memory(authority: NewAuthority) -> Signer:
    scheme = scheme_of(authority.key.public_key(), authority.record.scheme)
    return SoftwareSigner(authority.key, at_once, scheme)


signers: list[Callable[[NewAuthority], Signer]] = [in_memory]
"""What makes signers; the last one counts, so that a suite can run over keys elsewhere."""


def signer_of(authority: NewAuthority) -> Signer:
    return signers[-1](authority)


def make_issuers(made: tuple[NewAuthority, ...] | None = None) -> Issuers:
    made = made or authorities()
    by_id = {authority.record.id: authority.record for authority in made}
    issuers = []
    for authority in made:
        chain, root = chain_of(authority.record, by_id)
        certificate = x509.load_der_x509_certificate(authority.record.certificate_der)
        issuers.append(Issuer(authority.record, certificate, signer_of(authority), chain, root))
    return Issuers(tuple(issuers))


def make_ca(
    *,
    issuers: Issuers | None = None,
    store: CertificateStore | None = None,
    database: Database | None = None,
    rules: str = "",
    transparency: Callable[[Database, FixedClock], Transparency] | None = None,
) -> TestCa:
    """A CA whose settings file holds `rules`. `transparency` makes what asks logs."""
    clock = FixedClock(NOW)
    reactor = ReactorClock()
    issuers = issuers or make_issuers()
    database = database or Database.in_memory()
    store = store or SqlCertificateStore(database, clock)
    run_now(keep(store, issuers))
    built = make_rules(rules, issuers)
    authority = CertificateAuthority(
        issuers=issuers,
        profiles=built.profiles,
        policies=built.policies,
        publication=PUBLICATION,
        store=store,
        clock=clock,
        reactor=reactor,
        random=secrets.token_bytes,
        owner="node/0",
        transparency=transparency(database, clock) if transparency else None,
    )
    return TestCa(authority, issuers, store, database, clock, reactor)


def make_rules(toml: str = "", issuers: Issuers | None = None) -> Rules:
    """Profiles and policies as a settings file with this in it has them. Raises StartError."""
    records = tuple(issuer.record for issuer in (issuers or make_issuers()).all())
    settings = RuleSettings.model_validate(tomllib.loads(toml))
    return build_rules(settings.profiles, settings.policy, records, PUBLICATION)


async def keep(store: CertificateStore, issuers: Issuers) -> None:
    if not await store.issuers():
        await store.add_issuers(tuple(issuer.record for issuer in issuers.all()))
        await record_ca_certificates(issuers, store, "node/0", NOW)


def spki_of(key: PrivateKey) -> bytes:
    return spki_der(key.public_key())


def spki_der(key: SubjectKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def dns(*names: str) -> tuple[AltName, ...]:
    return tuple(AltName(AltNameKind.DNS, name) for name in names)


def requester(grant: NameGrant = ANY_NAME, **changes: Any) -> Requester:
    return Requester(**{"proof": Proof.PASSWORD, "id": "estuser", "label": "estuser", "grant": grant, **changes})


def request(**changes: Any) -> IssuanceRequest:
    """A request that is fine, but for the changes."""
    key = changes.pop("key", None) or ec.generate_private_key(ec.SECP256R1())
    return IssuanceRequest(
        **{
            "spki_der": spki_of(key),
            "subject": parse_dn("CN=device.test"),
            "names": dns("device.test"),
            "profile": "default",
            "requester": requester(),
            **changes,
        }
    )


def make_csr(
    key: PrivateKey | None = None,
    subject: str = "CN=device.test",
    names: tuple[x509.GeneralName, ...] = (x509.DNSName("device.test"),),
    *extensions: tuple[x509.ExtensionType, bool],
) -> bytes:
    """A CSR in DER with whatever extensions a test wants to ask for."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(parse_dn(subject) if subject else x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    digest = scheme_of(key.public_key()).digest and hashes.SHA256()
    return builder.sign(key, digest).public_bytes(Encoding.DER)


def last_bit_flipped(data: bytes) -> bytes:
    """Damage for certain: a byte set to a value might have had it already."""
    return data[:-1] + bytes([data[-1] ^ 1])
