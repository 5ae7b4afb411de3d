"""A worker that is killed at one step of issuing by the logs: `transparent_victim.py STATE_DIR STEP TRANSACTION`.

As `victim`. What the issuer's key signs is noted in the file STATE_DIR/signed before anything else is done with it.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from opencertd.asn1.transparency import ECDSA, SHA256, Timestamp
from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.first_start import at_once, build_authority, take_over
from opencertd.issuance.authority import CertificateAuthority
from opencertd.issuance.issuers import load_issuers
from opencertd.issuance.profile_tables import ProfileTable
from opencertd.issuance.timestamps import TransparencyLog
from opencertd.issuance.transparency import Transparency
from opencertd.issuance.transparency_table import LogTable, TransparencyTable
from opencertd.keys.signer import Signer
from opencertd.model.request import Transaction
from opencertd.state import StateDirectory
from opencertd.store import certificates as certificate_rows
from opencertd.store import precertificates as precertificate_rows
from opencertd.store.certificates import SqlCertificateStore
from opencertd.store.database import Database
from opencertd.store.precertificates import SqlPrecertificateStore
from tests.ca import request
from tests.ct_log import without_poison
from tests.service.victim import after, before, die

STEPS = (
    "before the precertificate's intent is written",
    "after the precertificate's intent is written",
    "after the precertificate is signed",
    "before the precertificate is stored",
    "stored, before its audit entry",
    "with its audit entry, before the commit",
    "after the precertificate is stored",
    "after the log has it",
    "before the certificate's intent is written",
    "after the certificate's intent is written",
    "after the certificate is signed",
    "before it is stored as issued",
    "stored as issued, before its audit entry",
    "issued with its audit entry, before the commit",
    "after the commit, before the answer",
)

KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def settings(state_dir: Path) -> Settings:
    log = LogTable(url="http://log.test", key=base64.b64encode(SPKI).decode())
    return Settings(
        dn="CN=Victim",
        state_dir=state_dir,
        profiles={"seen": ProfileTable(certificate_transparency=True)},
        ct=TransparencyTable(logs=(log,), required=1),
    )


class Log:
    """A log without a network."""

    async def ask(self, chain_der: tuple[bytes, ...]) -> Timestamp:
        tbs = without_poison(x509.load_der_x509_certificate(chain_der[0]).tbs_certificate_bytes)
        issuer = x509.load_der_x509_certificate(chain_der[1]).public_key()
        spki = issuer.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        at = int(SystemClock().now().timestamp() * 1000)
        data = struct.pack(">BBQH", 0, 0, at, 1) + hashlib.sha256(spki).digest() + len(tbs).to_bytes(3, "big") + tbs
        signature = KEY.sign(data + b"\0\0", ec.ECDSA(hashes.SHA256()))
        self.answered()
        return Timestamp(hashlib.sha256(SPKI).digest(), at, b"", SHA256, ECDSA, signature)

    def answered(self) -> None:
        """A place for a trap."""


def note_signatures(signer: Signer, file: Path, trap: Callable[[int], None]) -> None:
    """Write down what is signed; then tell the trap how many signatures there are."""
    real, made = signer.sign, []

    def sign(data: bytes) -> Deferred[bytes]:
        made.append(data)
        with file.open("a") as out:
            out.write(hashlib.sha256(data).hexdigest() + "\n")
        return real(data).addCallback(lambda signature: trap(len(made)) or signature)

    signer.sign = sign  # type: ignore[method-assign]


def at_entry(module: Any, *, dies_first: bool) -> None:
    """Die when this module appends an entry to the audit chain, before it does or after."""
    real = module.append

    def append(connection: Any, *events: Any) -> None:
        if events and dies_first:
            die()
        real(connection, *events)
        if events:
            die()

    module.append = append


def doom(step: str, authority: CertificateAuthority, kept: SqlPrecertificateStore, log: Log, notes: Path) -> None:
    """Set the trap."""
    store: Any = authority.store
    signer = next(issuer.signer for issuer in authority.issuers.issuing() if issuer.name == "ecdsa")
    count = {STEPS[2]: 1, STEPS[10]: 2}.get(step)
    note_signatures(signer, notes, lambda made: die() if made == count else None)
    nothing: Callable[[], None] = lambda: None  # noqa: E731  (a row of the table)
    traps = (
        partial(before, store, "reserve"),
        partial(after, store, "reserve"),
        nothing,
        partial(before, kept, "keep_precertificate"),
        partial(at_entry, precertificate_rows, dies_first=True),
        partial(at_entry, precertificate_rows, dies_first=False),
        partial(after, kept, "keep_precertificate"),
        partial(before, log, "answered"),
        partial(before, kept, "intend_certificate"),
        partial(after, kept, "intend_certificate"),
        nothing,
        partial(before, store, "complete"),
        partial(at_entry, certificate_rows, dies_first=True),
        partial(at_entry, certificate_rows, dies_first=False),
        partial(after, store, "complete"),
    )
    if step != "none":
        dict(zip(STEPS, traps, strict=True))[step]()


async def main(reactor: Any, state_dir: str, step: str, transaction: str) -> None:
    given, clock = settings(Path(state_dir)), SystemClock()
    state = StateDirectory(given.state_dir)
    kept = take_over(given, state, 0, clock)
    database = Database.open(given.database_url(), reactor)
    store, precertificates, log = SqlCertificateStore(database, clock), SqlPrecertificateStore(database, clock), Log()
    transparency = Transparency(
        logs=(TransparencyLog("http://log.test", KEY.public_key(), log.ask),),
        required=1,
        seconds=10,
        store=precertificates,
        clock=clock,
        reactor=reactor,
    )
    issuers = load_issuers(kept.hierarchy.issuers, state.keys, None, at_once)
    authority = build_authority(
        given, issuers, store, clock=clock, reactor=reactor, owner=kept.owner, transparency=transparency
    )
    doom(step, authority, precertificates, log, Path(state_dir) / "signed")
    issued = await authority.issue(request(profile="seen", transaction=Transaction(transaction)))
    print(issued.record.serial, flush=True)
    await database.close()


if __name__ == "__main__":
    react(main, sys.argv[1:])
