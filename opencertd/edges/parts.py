"""What a worker has that edges are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509

from opencertd.acme.nonces import NonceLedger
from opencertd.acme.work import Work
from opencertd.clock import Clock
from opencertd.config import Settings
from opencertd.crl.server import CrlServer
from opencertd.issuance.authority import CertificateAuthority
from opencertd.jobs.hands import Hands
from opencertd.keys.signer import Elsewhere
from opencertd.ocsp.server import OcspServer
from opencertd.state import StateDirectory
from opencertd.stores import Stores
from opencertd.tasks import Tasks


@dataclass(frozen=True)
class Parts:
    """One worker's rooms below the edges, and what they share.

    `owner`: this worker's name in the store. `secret`: 32 bytes all workers of all nodes share. `hands`: the scheduler
    that validates. `elsewhere`: runs what blocks in a thread. `manufacturer_roots`: by the settings' name of each.
    """

    settings: Settings
    state: StateDirectory
    stores: Stores
    authority: CertificateAuthority
    status: OcspServer
    crls: CrlServer
    work: Work
    hands: Hands
    ledger: NonceLedger | None
    owner: str
    secret: bytes
    clock: Clock
    tasks: Tasks
    reactor: Any
    elsewhere: Elsewhere[Any]
    manufacturer_roots: Mapping[str, tuple[x509.Certificate, ...]]
