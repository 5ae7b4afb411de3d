"""A SoftHSM2 token for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from opencertd.keys.pkcs11 import Token
from tests.softhsm import SoftHsm, make_token


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    """A token, in use."""
    with make_token(tmp_path / "hsm").in_use() as made:
        yield made


@pytest.fixture
def token(hsm: SoftHsm) -> Iterator[Token]:
    """The token as the daemon uses it, with a clock of its own that every look moves by a minute."""
    moments = iter(range(0, 10**9, 60))
    used = hsm.token(lambda: next(moments))
    yield used
    used.close()
