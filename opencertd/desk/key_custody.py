"""Keys of issuers leave and come back: exported, removed here once their status is provided for, brought again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from twisted.internet.task import Clock as NoReactor

from opencertd.asn1 import pem
from opencertd.crl.server import JOB_KIND as PUBLISH_CRL
from opencertd.crl.server import CrlServer
from opencertd.desk.deeds import Desk
from opencertd.errors import Refusal, StartError
from opencertd.first_start import at_once, build_authority, run_now
from opencertd.issuance.hierarchy import is_certain
from opencertd.issuance.issuers import Issuer, Issuers, read_issuer_key
from opencertd.issuance.key_move import shred
from opencertd.issuance.shipped import responder_profile
from opencertd.keys.files import encode_private_key, load_private_key
from opencertd.keys.key_uri import in_token
from opencertd.keys.kinds import MlDsaPrivateKey, PrivateKey
from opencertd.model.certificates import IssuerRecord
from opencertd.own_certificates import OwnCertificates

_UNTIL_WORKERS_KNOW = timedelta(seconds=5)

AskPassphrase = Callable[[str], bytes]
"""The passphrase for a file of that name; asked only for what is encrypted."""


@dataclass(frozen=True)
class StatusLeft:
    """Until when clients get answers about an issuer's certificates without its key."""

    crl_number: int
    crl_until: datetime
    ocsp_until: datetime


def chain_of(issuer: Issuer, *, whole: bool) -> tuple[bytes, ...]:
    """The issuer's certificate; the `whole` chain with the root."""
    if not whole:
        return (issuer.certificate_der,)
    return tuple(dict.fromkeys((*issuer.chain_der, issuer.root_der or issuer.chain_der[-1])))


def export_key(desk: Desk, issuer: Issuer, passphrase: bytes, *, as_pkcs12: bool) -> bytes:
    """The issuer's key, encrypted, with its chain: PKCS#8 and certificates in PEM, or PKCS#12. Raises StartError."""
    key = _readable_key(desk, issuer)
    chain = chain_of(issuer, whole=True)
    if not as_pkcs12:
        return encode_private_key(key, passphrase) + pem.encode_certificates(chain)
    if isinstance(key, MlDsaPrivateKey):
        raise StartError(f"a key of the kind of {issuer.name!r} does not fit into PKCS#12: leave --pkcs12 out")
    above = [x509.load_der_x509_certificate(der) for der in chain[1:]]
    name, protection = issuer.name.encode(), BestAvailableEncryption(passphrase)
    return pkcs12.serialize_key_and_certificates(name, key, issuer.certificate, above or None, protection)


def _readable_key(desk: Desk, issuer: Issuer) -> PrivateKey:
    if in_token(issuer.record.key_reference):
        raise StartError(f"the key of {issuer.name!r} is in a token, which gives it to nobody")
    return read_issuer_key(issuer.record, desk.state.keys, desk.passphrase)


def read_key(data: bytes, file: str, ask: AskPassphrase) -> PrivateKey:
    """The private key in PEM, DER or PKCS#12 bytes. Raises StartError."""
    if b"-----BEGIN" in data:
        encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in data or b"Proc-Type: 4,ENCRYPTED" in data
        return load_private_key(data, ask(file) if encrypted else None, file)
    try:
        found = pkcs12.load_pkcs12(data, ask(file)).key
    except ValueError:
        return load_private_key(data, None, file)
    if not isinstance(found, PrivateKey):
        raise StartError(f"there is no key that signs in {file}")
    return found


def remove_key(desk: Desk, issuer: Issuer, exported: Path, passphrase: bytes, status_for: timedelta) -> StatusLeft:
    """Take the issuer's key away from here, once the exported one is known to be good and its status is provided for.

    In this order, so that a crash anywhere leaves a CA that works: the exported key is read back; an OCSP responder
    and a CRL are made that last; the record forgets the key; the file is overwritten and removed. Raises StartError.
    """
    _readable_key(desk, issuer)
    again = read_key(exported.read_bytes(), str(exported), lambda _: passphrase)
    if again.public_key() != issuer.certificate.public_key():
        raise StartError(f"the key in {exported} is another one: nothing was removed")
    left = leave_status(desk, desk.issuers(), issuer, status_for)
    reference = str(issuer.record.key_reference)
    run_now(desk.deeds().forget_key(issuer.name))
    shred(desk.state.keys / reference)
    return left


def leave_status(desk: Desk, issuers: Issuers, issuer: Issuer, status_for: timedelta) -> StatusLeft:
    """An OCSP responder (on this node) and CRLs that last that long, signed while the issuer's key is at hand.

    Of every part, as certificates name them; no delta CRL, which would be out of date soon.
    """
    authority = build_authority(
        desk.settings, issuers, desk.stores.certificates, clock=desk.clock, reactor=NoReactor(), owner=desk.owner
    )
    lasting = replace(responder_profile(issuer.name), validity=status_for)
    authority.profiles = {**authority.profiles, lasting.name: lasting}
    own = OwnCertificates(authority, desk.state.own, desk.passphrase, desk.clock, at_once)
    responder = run_now(own.new_responder(issuer))
    crls = CrlServer(
        issuers=issuers,
        store=desk.stores.crls,
        jobs=desk.stores.jobs,
        clock=desk.clock,
        elsewhere=at_once,
        terms=replace(
            desk.settings.crls.terms(desk.settings.crl), validity=status_for, interval=status_for / 2, delta=()
        ),
    )
    crl, *_ = run_now(crls.publish_complete(issuer))
    return StatusLeft(crl.number, crl.next_update, responder.certificate.not_valid_after_utc)


def bring_key(desk: Desk, issuer: Issuer, key: PrivateKey) -> IssuerRecord:
    """The issuer's key is here again, in a file or in the token. Raises StartError, Refusal CONFLICT."""
    if key.public_key() != issuer.certificate.public_key():
        raise StartError(f"this is not the key of {issuer.name!r}")
    deeds = desk.deeds()
    if issuer.has_key:
        raise StartError(f"the key of {issuer.name!r} is here already: {issuer.record.key_reference}")
    held = desk.keys.keep(issuer.name, key)
    try:
        record = run_now(deeds.found_key(issuer.name, held.reference))
    except (Refusal, StartError) as error:
        if is_certain(error):
            desk.keys.drop(held)
        raise

    async def owe_crl() -> None:
        await desk.stores.jobs.enqueue(PUBLISH_CRL, issuer.id, desk.clock.now() + _UNTIL_WORKERS_KNOW)

    run_now(owe_crl())
    return record
