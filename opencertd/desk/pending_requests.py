"""CAs whose key was made here and whose certificate another CA is to make: kept until that certificate comes.

Each is one file in the state directory's `pending/`, on the node that has the key.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from opencertd.errors import StartError
from opencertd.keys.files import make_private_directory, write_secret


@dataclass(frozen=True)
class PendingRequest:
    """A CSR that waits for its answer. `key_reference` and `scheme` as an issuer's record has them."""

    name: str
    key_reference: str
    scheme: str | None
    csr_pem: str


class PendingRequests:
    """Those of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "pending"

    def keep(self, pending: PendingRequest) -> None:
        """Keep it durably. Raises StartError when one of that name waits already."""
        if self.get(pending.name) is not None:
            raise StartError(f"a request of the name {pending.name!r} waits for its certificate already")
        make_private_directory(self._directory)
        write_secret(self._path(pending.name), json.dumps(asdict(pending), indent=1).encode())

    def get(self, name: str) -> PendingRequest | None:
        """The request of that name. Raises StartError when its file is damaged."""
        path = self._path(name)
        if "/" in name or not path.is_file():
            return None
        try:
            return PendingRequest(**json.loads(path.read_bytes()))
        except (ValueError, TypeError):
            raise StartError(f"the file {path} is damaged: restore it from a backup") from None

    def all(self) -> tuple[PendingRequest, ...]:
        """All that wait, by name."""
        names = sorted(path.stem for path in self._directory.glob("*.json"))
        return tuple(found for name in names if (found := self.get(name)) is not None)

    def forget(self, name: str) -> None:
        """It has been answered."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"
