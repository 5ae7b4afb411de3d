"""SoftHSM2 tokens for tests: each in a directory of its own, with its module found where Debian puts it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from opencertd.keys.pin import PinFile
from opencertd.keys.pkcs11 import Token

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
LABEL = "ca keys"
PIN = "917364"
SO_PIN = "28465019"
CONFIGURATION = "SOFTHSM2_CONF"


@dataclass(frozen=True)
class SoftHsm:
    """One token. `SOFTHSM2_CONF` names its configuration to whoever loads the module, while `in_use`."""

    directory: Path
    label: str = LABEL

    @property
    def configuration(self) -> Path:
        return self.directory / "softhsm2.conf"

    @property
    def tokens(self) -> Path:
        return self.directory / "tokens"

    @property
    def pin_file(self) -> Path:
        return self.directory / "pin"

    @contextlib.contextmanager
    def in_use(self) -> Iterator[SoftHsm]:
        before = os.environ.get(CONFIGURATION)
        os.environ[CONFIGURATION] = str(self.configuration)
        try:
            yield self
        finally:
            if before is None:
                del os.environ[CONFIGURATION]
            else:
                os.environ[CONFIGURATION] = before

    def remove(self) -> None:
        """The token is pulled out."""
        self.tokens.rename(self.directory / "removed")
        self.tokens.mkdir()

    def put_back(self) -> None:
        """And put in again."""
        self.tokens.rmdir()
        (self.directory / "removed").rename(self.tokens)

    def token(self, seconds: object = None) -> Token:
        """The token as the daemon uses it."""
        more = {} if seconds is None else {"seconds": seconds}
        return Token(MODULE, self.label, PinFile(self.pin_file, self.directory / "refused"), **more)  # type: ignore[arg-type]

    def settings(self) -> str:
        """The `[pkcs11]` table of a settings file."""
        return f'[pkcs11]\nmodule = "{MODULE}"\ntoken = "{self.label}"\npin_file = "{self.pin_file}"\n'


def make_token(directory: Path, label: str = LABEL) -> SoftHsm:
    """A new token by `softhsm2-util`."""
    if not MODULE.exists():
        pytest.fail("SoftHSM2 is missing: apt-get install softhsm2")
    hsm = SoftHsm(directory, label)
    hsm.tokens.mkdir(parents=True)
    hsm.configuration.write_text(f"directories.tokendir = {hsm.tokens}\nlog.level = ERROR\n")
    hsm.pin_file.write_text(PIN + "\n")
    hsm.pin_file.chmod(0o600)
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN]
    environment = {**os.environ, CONFIGURATION: str(hsm.configuration)}
    subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment)
    return hsm
