"""`[status]` is checked key by key."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from opencertd.config import Settings, read_settings
from opencertd.errors import StartError
from opencertd.ocsp.terms import OcspTerms
from opencertd.service import make_daemon


def read(tmp_path: Path, lines: str) -> Settings:
    file = tmp_path / "o.toml"
    file.write_text(f'dn = "CN=x"\n{lines}\n')
    return read_settings({}, {}, file)


def test_what_is_set_is_what_counts(tmp_path: Path) -> None:
    lines = (
        '[status]\nwindow = "2h"\nwindows = { rsa = "1d" }\nnonces = "ignore"\nextended_revoke = true\n'
        'archive_cutoff = "7y"'
    )
    hours, days = timedelta(hours=2), timedelta(days=1)
    archive = timedelta(days=7 * 365)
    assert read(tmp_path, lines).status.terms() == OcspTerms(hours, {"rsa": days}, False, True, archive)
    assert read(tmp_path, "").status.terms() == OcspTerms(timedelta(hours=1), {}, True, False, None)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('window = "5m"', "status.window"),
        ('window = "11d"', "status.window"),
        ("window = 3600", "status.window"),
        ('windows = { rsa = "1s" }', "status.windows.rsa"),
        ('nonces = "maybe"', "status.nonces"),
        ('require_signature = "no way"', "status.require_signature"),
        ('archive_cutoff = "1h"', "status.archive_cutoff"),
        ('responder_by = "number"', "status.responder_by"),
        ("ahead = true", "status.ahead"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, lines: str, words: str) -> None:
    with pytest.raises(StartError, match=words):
        read(tmp_path, f"[status]\n{lines}")


def test_a_window_is_for_an_issuer_that_there_is(tmp_path: Path) -> None:
    settings = Settings(dn="CN=x", state_dir=tmp_path / "state", status={"windows": {"nobody": "1h"}})
    with pytest.raises(StartError, match=r"status\.windows.*'nobody'.*ecdsa"):
        make_daemon(settings)


def test_code_that_checks_requests_is_not_left_out_by_several_workers(tmp_path: Path) -> None:
    settings = Settings(dn="CN=x", state_dir=tmp_path / "state", workers=2)
    with pytest.raises(StartError, match="--workers at 1"):
        make_daemon(settings, check_ocsp=lambda inquiry: True)
    assert not (tmp_path / "state").exists()
