"""`--test-faults` is for CAs that were made by it; whatever looks like one in earnest is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opencertd.acme.faults import FaultTerms
from opencertd.clock import SystemClock
from opencertd.config import Settings, read_settings
from opencertd.errors import StartError
from opencertd.fault_mode import MARK
from opencertd.first_start import prepare
from opencertd.service import Options

LOG_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErHfb0YhvFZDzs9ZpSk6xMGJeEadrHkfPw6OPJfvmMK91acVCVFmD+K1an+Qx5sovSri2mDDpHJc27Q"
    "AYFulVLg=="
)
LOG = {"url": "https://ct.example/2026", "key": LOG_KEY}


def start(tmp_path: Path, **changes: Any) -> None:
    given = {"dn": "CN=Faults", "state_dir": tmp_path / "state", "hostname": ("localhost",), **changes}
    given = {key: value for key, value in given.items() if value is not None}
    prepare(Settings.model_validate(given), SystemClock()).unlock()


def test_a_ca_made_by_it_has_it_at_each_start_that_asks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    start(tmp_path, test_faults=True)
    said = capfd.readouterr().err
    assert "TEST FAULTS: this server makes mistakes on purpose (nonces=5%, validation=5s, reuse=50%" in said
    assert (tmp_path / "state" / MARK).exists()
    start(tmp_path, dn=None)
    assert "TEST FAULTS" not in capfd.readouterr().err
    start(tmp_path, dn=None, test_faults=True)
    assert "TEST FAULTS" in capfd.readouterr().err


def test_a_ca_made_without_it_never_gets_it(tmp_path: Path) -> None:
    start(tmp_path)
    with pytest.raises(StartError, match="was made without it") as refused:
        start(tmp_path, test_faults=True)
    assert "new --state-dir" in str(refused.value)
    assert not (tmp_path / "state" / MARK).exists()
    start(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dn": None, "rsa": Path("ca.pem")}, "existing CA"),
        ({"dn": None, "ec_key": Path("ca.pem")}, "existing CA"),
        ({"database": "postgresql://ca@db.example/ca"}, "a database that others share"),
        ({"pkcs11": {"module": "/x.so", "token": "t", "pin_file": "/pin"}}, "keys in a token"),
        ({"ct": {"logs": [LOG], "required": 1}}, "logged for ever"),
    ],
)
def test_what_looks_like_production_is_refused_before_a_ca_is_made(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr("opencertd.first_start.Database.open_inline", _no_database(tmp_path))
        with pytest.raises(StartError, match=words):
            start(tmp_path, test_faults=True, **changes)
    assert not (tmp_path / "state" / MARK).exists()
    assert not list((tmp_path / "state" / "keys").iterdir())


def _no_database(tmp_path: Path) -> Any:
    from opencertd.store.database import Database

    really = Database.open_inline
    return lambda _url: really(f"sqlite:///{tmp_path / 'other.sqlite3'}")


def test_the_flag_and_the_table(tmp_path: Path) -> None:
    assert Settings(dn="CN=X").faults() is None
    options = Options()
    options.parseOptions(["--dn", "CN=X", "--test-faults"])
    assert options.settings.test_faults
    file = tmp_path / "opencertd.toml"
    file.write_text(
        'dn = "CN=X"\n[acme.test_faults]\nnonces_refused = 20\nvalidation_seconds = 0.5\nauthorizations_reused = 0\n'
        "orders_invalid = 10\norder_invalid_every = 7\n"
    )
    read = read_settings({}, {}, file)
    assert read.faults() is None, "the table alone makes no mistakes"
    made = read_settings({}, {"OPENCERT_TEST_FAULTS": "true"}, file).faults()
    assert made is not None
    assert made.terms == FaultTerms(20, 0.5, 0, 10, 7)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("nonces_refused = 100", "acme.test_faults.nonces_refused"),
        ("validation_seconds = 31", "acme.test_faults.validation_seconds"),
        ("validation_seconds = nan", "acme.test_faults.validation_seconds"),
        ("authorizations_reused = 101", "acme.test_faults.authorizations_reused"),
        ("orders_invalid = -1", "acme.test_faults.orders_invalid"),
        ("always_valid = true", "acme.test_faults.always_valid"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(tmp_path: Path, line: str, key: str) -> None:
    file = tmp_path / "opencertd.toml"
    file.write_text(f'dn = "CN=X"\n[acme.test_faults]\n{line}\n')
    with pytest.raises(StartError, match=key.replace(".", r"\.")):
        read_settings({}, {}, file)
