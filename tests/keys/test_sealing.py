"""Sealed secrets open with the file they were sealed under, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.keys.sealing import Sealing


def test_a_secret_comes_back_and_is_not_to_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "k"
    sealed = Sealing(file).seal("ann", b"secret" * 10)
    assert b"secret" not in sealed
    assert Sealing(file).open("ann", sealed) == b"secret" * 10
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["k"]
    assert sealed != Sealing(file).seal("ann", b"secret" * 10)


def test_it_opens_for_its_own_name_and_unchanged_only(tmp_path: Path) -> None:
    sealing = Sealing(tmp_path / "k")
    sealed = sealing.seal("ann", b"secret")
    for name, changed in (
        ("bob", sealed),
        ("ann", sealed[:-1]),
        ("ann", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        ("ann", b""),
        ("ann", b"x" * 12),
    ):
        with pytest.raises(Refusal) as caught:
            sealing.open(name, changed)
        assert caught.value.kind is RefusalKind.UNAVAILABLE


def test_without_the_file_or_with_another_it_does_not_open(tmp_path: Path) -> None:
    sealed = Sealing(tmp_path / "k").seal("ann", b"secret")
    Sealing(tmp_path / "other").seal("ann", b"secret")
    for file in ("other", "missing", "."):
        with pytest.raises(Refusal) as caught:
            Sealing(tmp_path / file).open("ann", sealed)
        assert caught.value.kind is RefusalKind.UNAVAILABLE
        assert str(tmp_path) not in caught.value.detail
    assert not (tmp_path / "missing").exists()


def test_a_damaged_file_is_said_and_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "k"
    for content in ("", "00" * 31, "zz" * 32):
        file.write_text(content)
        with pytest.raises(StartError, match="damaged"):
            Sealing(file).seal("ann", b"secret")
        assert file.read_text() == content
