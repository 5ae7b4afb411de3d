"""A number is used up once, by whichever process; what might be forgotten is refused; nothing waits."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opencertd.errors import StartError
from opencertd.store import nonce_ledger
from opencertd.store.nonce_ledger import PLACES, REGIONS, SharedNonceLedger, open_nonce_ledger

ROOT_DIRECTORY = Path(__file__).parents[2]
TRIES = 10_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nonces"


def test_a_number_is_used_up_once_by_whoever_comes_first(path: Path) -> None:
    first, second = SharedNonceLedger(path), SharedNonceLedger(path)
    numbers = [ledger.draw() for ledger in (first, second, first)]
    assert len(set(numbers)) == 3
    assert all(0 <= number < 1 << 64 for number in numbers)
    for number in numbers:
        assert second.use_up(number)
        assert not second.use_up(number)
        assert not first.use_up(number)


@given(st.integers(0, (1 << 64) - 1))
def test_any_number_is_used_up_once(tmp_path_factory: pytest.TempPathFactory, number: int) -> None:
    ledger = SharedNonceLedger(tmp_path_factory.mktemp("ledger") / "nonces")
    ledger.use_up(number)
    assert not ledger.use_up(number)
    ledger.close()


def test_an_older_number_of_the_same_place_counts_as_used(path: Path) -> None:
    ledger = SharedNonceLedger(path)
    first = ledger.draw()
    others = [ledger.draw() for _ in range(PLACES)]
    assert ledger.use_up(others[-1])  # its place is the first's
    assert not ledger.use_up(first)
    assert ledger.use_up(others[0])


def test_raced_numbers_are_used_up_once(path: Path) -> None:
    """Four processes try the same 10,000 numbers at once."""
    ledger = SharedNonceLedger(path)
    numbers = [ledger.draw() for _ in range(TRIES)]
    code = (
        "import sys; from pathlib import Path; from opencertd.store.nonce_ledger import SharedNonceLedger\n"
        "ledger = SharedNonceLedger(Path(sys.argv[1])); print('ready', flush=True); sys.stdin.readline()\n"
        "first, count = int(sys.argv[2]), int(sys.argv[3])\n"
        "step = 1 << 16\n"
        "print([n for n in range(first, first + count * step, step) if ledger.use_up(n)])"
    )
    command = [sys.executable, "-c", code, str(path), str(numbers[0]), str(TRIES)]
    racers = [
        subprocess.Popen(command, cwd=ROOT_DIRECTORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = Counter(int(n) for racer in racers for n in racer.communicate(timeout=60)[0].strip("[]\n").split(",") if n)
    assert won == Counter(numbers)


def test_what_a_dead_process_used_up_stays_used(path: Path) -> None:
    ledger, victim = SharedNonceLedger(path), SharedNonceLedger(path)
    numbers = [victim.draw() for _ in range(5)]
    assert victim.use_up(numbers[4])
    victim.close()
    heir = SharedNonceLedger(path)
    assert heir.epoch == ledger.epoch
    assert heir.draw() not in numbers
    assert not heir.use_up(numbers[4])
    assert heir.use_up(numbers[0])


def test_after_a_restart_no_earlier_number_counts(path: Path) -> None:
    ledger = SharedNonceLedger(path)
    epoch = ledger.epoch
    ledger.close()
    heir = SharedNonceLedger(path)
    assert heir.epoch != epoch
    assert len(heir.epoch) == 16


def test_only_its_owner_reads_the_file(path: Path) -> None:
    SharedNonceLedger(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == mmap.PAGESIZE + REGIONS * PLACES * 8
    assert path.stat().st_blocks * 512 < 1 << 20  # sparse


def test_too_many_processes_are_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nonce_ledger, "REGIONS", 2)
    held = [SharedNonceLedger(path) for _ in range(2)]
    with pytest.raises(StartError, match="processes"):
        SharedNonceLedger(path)
    held.pop().close()
    SharedNonceLedger(path)


def test_only_a_sqlite_file_has_one(tmp_path: Path) -> None:
    assert open_nonce_ledger("postgresql://ca@db/ca") is None
    assert open_nonce_ledger("sqlite://") is None
    ledger = open_nonce_ledger(f"sqlite:///{tmp_path}/ca.db")
    assert ledger is not None
    assert (tmp_path / "ca.db.nonces").exists()


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="nowhere"):
        SharedNonceLedger(tmp_path / "nowhere" / "nonces")
