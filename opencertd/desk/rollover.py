"""One rollover from a command line: beside the running daemon, whose workers follow within a second, or without one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.desk.deeds import Desk, open_desk
from opencertd.errors import Refusal, StartError
from opencertd.first_start import at_once, run_now
from opencertd.issuance.audit import hierarchy_change_refused
from opencertd.issuance.ceremony import HeldKey, record_ca_certificates
from opencertd.issuance.issuers import Issuer, Issuers, load_issuers
from opencertd.issuance.key_types import NewKey
from opencertd.issuance.rollover import HoldSuccessor, Rollover
from opencertd.keys.files import read_private_key, write_private_key
from opencertd.keys.key_uri import in_token
from opencertd.keys.kinds import label_of

T = TypeVar("T")


@dataclass(frozen=True)
class RolloverSession:
    """Rollovers at a desk. `key_store`: where keys are made, `file` or `pkcs11`; None: where the old key is."""

    desk: Desk
    key_store: str | None

    def do(self, deed: str, name: str, act: Callable[[Rollover], Coroutine[Deferred[Any], Any, T]]) -> T:
        """The result of `act`; a refusal is in the audit log before it is raised. Raises StartError, Refusal."""

        async def run() -> T:
            desk = self.desk
            issuers = await self._issuers()
            rollover = Rollover(
                issuers,
                hold=self._hold(issuers),
                signing=desk.signing(),
                store=desk.stores.hierarchy,
                by=desk.by,
                clock=desk.clock,
                check=desk.check_rules,
            )
            try:
                result = await act(rollover)
            except Refusal as refusal:
                event = hierarchy_change_refused(deed, desk.by, refusal, desk.clock.now(), {"issuer": name})
                await desk.stores.certificates.record(event)
                raise
            now = desk.clock.now().replace(microsecond=0)
            await record_ca_certificates(await self._issuers(), desk.stores.certificates, desk.owner, now)
            return result

        return run_now(run())

    async def _issuers(self) -> Issuers:
        """The issuers there are. A key that cannot be read is said at once: it would be missed in the middle."""
        desk = self.desk
        hierarchy = await desk.stores.hierarchy.hierarchy()
        return load_issuers(
            hierarchy.issuers,
            desk.state.keys,
            desk.passphrase,
            at_once,
            desk.tokens.signer(at_once),
            cross_certificates=hierarchy.cross_certificates,
        )

    def _hold(self, issuers: Issuers) -> HoldSuccessor:
        used = {issuer.record.key_reference for issuer in issuers.all()}

        def hold(before: Issuer, name: str, wanted: NewKey) -> HeldKey:
            usual = "pkcs11" if in_token(before.record.key_reference) else "file"
            if (self.key_store or usual) == "pkcs11":
                return self.desk.tokens.hold(name, wanted)
            return hold_in_file(self.desk.state.keys, self.desk.passphrase, name, wanted, used)

        return hold


@contextmanager
def rollover_session(settings: Settings, key_store: str | None) -> Iterator[RolloverSession]:
    """Opens what a rollover needs, and holds off other rollovers meanwhile. Raises StartError in words."""
    with open_desk(settings, SystemClock()) as desk, desk.state.one_deed():
        yield RolloverSession(desk, key_store)


def hold_in_file(keys: Path, passphrase: bytes | None, name: str, wanted: NewKey, used: set[str | None]) -> HeldKey:
    """A new key, durably in its file; the one a broken-off deed has left there, if any. Raises StartError."""
    reference = f"{name}.pem"
    path = keys / reference
    if reference in used:
        raise StartError(f"the file {path} is another CA's key")
    if path.exists():
        key = read_private_key(path, passphrase)
        if label_of(key.public_key()) != wanted.label:
            found = label_of(key.public_key())
            raise StartError(f"{path} holds another key ({found}), which no CA uses: move it away, then try again")
        return HeldKey(key, reference)
    key = wanted.make()
    write_private_key(path, key, passphrase)
    return HeldKey(key, reference)
