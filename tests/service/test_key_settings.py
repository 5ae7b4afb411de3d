"""Lists of keys and pkilint are looked for before the daemon serves, and what is wrong with them is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opencertd.clock import SystemClock
from opencertd.config import RuleSettings, Settings
from opencertd.errors import StartError
from opencertd.first_start import check_rules, known_keys, prepare
from opencertd.issuance import pkilint_check


def settings(tmp_path: Path, **tables: Any) -> Settings:
    return Settings.model_validate({"dn": "CN=x", "state_dir": tmp_path / "state", **tables})


@pytest.mark.parametrize("kind", ["blocklist", "debian_weak"])
def test_a_broken_list_stops_the_start_by_file_and_line(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# fine\nnot a digest\n")
    value = path if kind == "blocklist" else [path]
    with pytest.raises(StartError, match=rf"{path}, line 2: 'not a digest'"):
        prepare(settings(tmp_path, keys={kind: value}), SystemClock())
    assert not (tmp_path / "state" / "trust-anchors.pem").exists()


def test_without_lists_nothing_is_looked_at(tmp_path: Path) -> None:
    assert not known_keys(settings(tmp_path))
    assert known_keys(settings(tmp_path, keys={"debian_weak": [tmp_path / "a", tmp_path / "b"]}))


@pytest.mark.parametrize("mode", ["warn", "refuse"])
def test_pkilint_that_is_not_installed_is_said(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkilint_check, "is_installed", lambda: False)
    with pytest.raises(StartError, match=r"pip install 'opencertd\[lint\]'"):
        prepare(settings(tmp_path, lint={"pkilint": mode}), SystemClock())
    with pytest.raises(StartError, match=r"'profiles.web.pkilint' = '.*' needs pkilint"):
        prepare(settings(tmp_path, profiles={"web": {"pkilint": mode}}), SystemClock())
    assert not (tmp_path / "state" / "trust-anchors.pem").exists()
    fine = settings(tmp_path, lint={"pkilint": "off"}, profiles={"web": {"pkilint": "off"}})
    prepare(fine, SystemClock()).unlock()
    with pytest.raises(StartError, match=r"profiles\.x\.pkilint"):  # as when they are read again
        check_rules(fine, RuleSettings.model_validate({"profiles": {"x": {"pkilint": mode}}}), SystemClock())


def test_the_daemons_own_certificate_does_not_wait_for_pkilint(tmp_path: Path) -> None:
    """It is made before there is a reactor, and for localhost, which pkilint faults."""
    state = prepare(settings(tmp_path, lint={"pkilint": "refuse"}, hostname=("localhost",)), SystemClock())
    state.unlock()
