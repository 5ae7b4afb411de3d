"""Where deeds on the hierarchy are done: the store, the keys and the token of a CA, without its daemon or beside it.

No lock is taken: every deed is one transaction of the store, and the workers take up what has changed within a second.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from opencertd.asn1 import pem
from opencertd.clock import Clock
from opencertd.config import Settings
from opencertd.desk.pending_requests import PendingRequests
from opencertd.errors import Refusal, StartError, in_full
from opencertd.first_start import at_once, check_new, publication, rules_for, run_now
from opencertd.issuance.ca_certificates import CaSigning
from opencertd.issuance.ceremony import HeldKey
from opencertd.issuance.hierarchy import HierarchyDeeds, LoadIssuers
from opencertd.issuance.issuers import Issuers, load_issuers
from opencertd.issuance.key_move import shred
from opencertd.issuance.key_types import NewKey
from opencertd.keys.files import read_passphrase, write_private_key
from opencertd.keys.key_uri import in_token
from opencertd.keys.kinds import PrivateKey, scheme_of
from opencertd.keys.signer import Signer, SoftwareSigner
from opencertd.model.certificates import Hierarchy, IssuerRecord
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.state import StateDirectory
from opencertd.store.database import Database
from opencertd.store.holdings import SqlHoldings
from opencertd.stores import Stores
from opencertd.token_access import TokenAccess


@dataclass(frozen=True)
class Desk:
    """All that a deed needs. `passphrase`: of key files in the state directory. `by`: who sits at the desk."""

    settings: Settings
    state: StateDirectory
    stores: Stores
    holdings: SqlHoldings
    pending: PendingRequests
    keys: KeyFiles
    passphrase: bytes | None
    tokens: TokenAccess
    clock: Clock
    by: Requester

    @property
    def owner(self) -> str:
        """This process in the store."""
        return f"{self.state.node()}/desk-{os.getpid()}"

    def issuers(self) -> Issuers:
        """The issuers there are now; a key that cannot be had is only missed when it is to sign."""
        hierarchy = run_now(self._hierarchy())
        return load_issuers(
            hierarchy.issuers,
            self.state.keys,
            self.passphrase,
            at_once,
            self.tokens.signer(at_once),
            cross_certificates=hierarchy.cross_certificates,
            missing=lambda _record, _why: None,
        )

    async def _hierarchy(self) -> Hierarchy:
        return await self.stores.hierarchy.hierarchy()

    def signing(self) -> CaSigning:
        """What signs CA certificates, with the URLs of the settings in them."""
        return CaSigning(
            self.stores.certificates,
            clock=self.clock,
            random=secrets.token_bytes,
            owner=self.owner,
            publication=publication(self.settings),
        )

    def check_rules(self, added: tuple[IssuerRecord, ...]) -> None:
        """Raise StartError when the settings' profiles do not fit the issuers there are and these."""
        records = (*(issuer.record for issuer in self.issuers().all()), *added)
        rules_for(self.settings, self.settings.rules(), records)

    def deeds(self, load: LoadIssuers | None = None) -> HierarchyDeeds:
        """What can be done here. `load`: what answers the issuers, if not the desk's own."""
        return HierarchyDeeds(
            certificates=self.stores.certificates,
            hierarchy=self.stores.hierarchy,
            signing=self.signing(),
            keys=self.keys,
            load=load or self.issuers,
            check=self.check_rules,
            clock=self.clock,
            owner=self.owner,
            by=self.by,
        )

    def publish_anchors(self) -> None:
        """Write what clients are to trust now."""
        anchors = self.issuers().anchors_der(self.clock.now())
        if anchors:
            self.state.publish_trust_anchors(pem.encode_certificates(anchors))


class KeyFiles:
    """Keys of issuers in the state directory or, when settings say so, in the token (a `KeyKeeper`)."""

    def __init__(
        self, settings: Settings, state: StateDirectory, passphrase: bytes | None, tokens: TokenAccess
    ) -> None:
        self._settings = settings
        self._directory = state.keys
        self._passphrase = passphrase
        self._tokens = tokens

    def make(self, name: str, wanted: NewKey) -> HeldKey:
        """A new key, durably kept before anything refers to it."""
        if self._settings.key_store == "pkcs11":
            return self._tokens.hold(name, wanted)
        return self.keep(name, wanted.make())

    def keep(self, name: str, key: PrivateKey) -> HeldKey:
        """Keep a key that is there. Its file's name has a part of its hash, so that no other key is ever in the way."""
        if self._settings.key_store == "pkcs11":
            return HeldKey(key, self._tokens.bring(name, key))
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        reference = f"{name}-{hashlib.sha256(spki).hexdigest()[:8]}.pem"
        write_private_key(self._directory / reference, key, self._passphrase)
        return HeldKey(key, reference)

    def drop(self, held: HeldKey) -> None:
        """Nobody will ever refer to this key. One in a token stays there, of no use to anybody."""
        if not in_token(held.reference):
            shred(self._directory / held.reference)

    def signer(self, held: HeldKey, scheme: str | None) -> Signer:
        """What signs with it."""
        return SoftwareSigner(held.key, at_once, scheme_of(held.key.public_key(), scheme))


def operator() -> Requester:
    """Who works on the CA's own machine."""
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    return Requester(Proof.OPERATOR, user, user, ANY_NAME)


@contextlib.contextmanager
def open_desk(settings: Settings, clock: Clock, *, may_be_new: bool = False) -> Iterator[Desk]:
    """The CA of these settings. Raises StartError in words, when there is none too, unless it `may_be_new`."""
    if not may_be_new:
        check_there(settings)
    state = StateDirectory(settings.state_dir)
    passphrase = read_passphrase(settings.key_passphrase_file)
    with contextlib.closing(TokenAccess(settings.pkcs11, state)) as tokens:
        database = Database.open_inline(settings.database_url())
        try:
            desk = Desk(
                settings=settings,
                state=state,
                stores=Stores.over(database, clock),
                holdings=SqlHoldings(database),
                pending=PendingRequests(state.path),
                keys=KeyFiles(settings, state, passphrase, tokens),
                passphrase=passphrase,
                tokens=tokens,
                clock=clock,
                by=operator(),
            )
            if not desk.issuers().all():
                check_new(settings, state)
            yield desk
        except Refusal as refusal:
            raise StartError(in_full(refusal)) from None
        finally:
            run_now(database.close())


def check_there(settings: Settings) -> None:
    """Nothing is made where a path was mistyped."""
    if not settings.state_dir.is_dir():
        raise StartError(f"there is no state directory {settings.state_dir}: name the CA's by --state-dir")
    url = settings.database_url()
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        raise StartError(f"there is no CA in {settings.state_dir}: `opencert ca init` makes one")
