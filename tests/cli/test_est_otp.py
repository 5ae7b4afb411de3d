"""`opencert est otp add | list | revoke` beside a CA on disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.first_start import prepare
from tests.cli.shell import opencert


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state_dir = tmp_path_factory.mktemp("ca") / "state"
    prepare(Settings(dn="CN=Passwords", state_dir=state_dir, hostname=("localhost",)), SystemClock()).unlock()
    return state_dir


def listed(made: Path) -> dict[str, str]:
    lines = opencert("est", "otp", "list", "--state-dir", made).stdout.splitlines()
    return {line.split()[0]: line for line in lines}


def add(made: Path, *options: str) -> tuple[str, str]:
    said = opencert("est", "otp", "add", *options, "--state-dir", made)
    assert said.exit_code == 0, said.stderr
    match = re.fullmatch(r"(otp-[a-z2-9]{8}):([a-z2-9]{6}(?:-[a-z2-9]{6}){3})\n", said.stdout)
    assert match, said.stdout
    return match[1], match[2]


def test_a_password_is_shown_once_and_kept_nowhere(made: Path) -> None:
    name, password = add(
        made, "--allow-name", "*.b.test", "--allow-name", "a.test", "--profile", "iot-device", "--uses", "3",
        "--note", "hall 3",
    )  # fmt: skip
    line = listed(made)[name]
    assert re.search(r"good until 20\d\d-\S+Z  0/3  names \*\.b\.test a\.test  profiles iot-device  by operator:", line)
    assert line.endswith("  hall 3")
    for file in made.rglob("*"):
        if file.is_file():
            assert password.encode() not in file.read_bytes(), file


def test_it_is_revoked_once(made: Path) -> None:
    name, _ = add(made, "--allow-name", "*")
    assert opencert("est", "otp", "revoke", name, "--state-dir", made).exit_code == 0
    assert "was revoked" in listed(made)[name]
    for other, words in ((name, "was revoked before"), ("otp-nothing", "there is no enrolment password")):
        said = opencert("est", "otp", "revoke", other, "--state-dir", made)
        assert said.exit_code == 1 and words in said.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 2, "--allow-name"),
        (("--allow-name", "a b"), 1, "is no name pattern"),
        (("--allow-name", "*", "--profile", "nothing"), 1, "--profile: there is no profile 'nothing'"),
        (("--allow-name", "*", "--profile", "daemon-tls"), 1, "--profile: there is no profile 'daemon-tls'"),
        (("--allow-name", "*", "--uses", "0"), 2, "--uses"),
        (("--allow-name", "*", "--expires", "soon"), 2, "--expires"),
        (("--allow-name", "*", "--expires", "2y"), 2, "--expires"),
        (("--allow-name", "*", "--expires", "1s"), 2, "--expires"),
        (("--allow-name", "*", "--note", "two\nlines"), 2, "--note"),
    ],
)
def test_what_cannot_be_made_is_said(made: Path, options: tuple[str, ...], code: int, words: str) -> None:
    before = listed(made)
    said = opencert("est", "otp", "add", *options, "--state-dir", made)
    assert said.exit_code == code and words in said.stderr
    assert listed(made) == before


def test_no_ca_is_made_where_there_is_none(tmp_path: Path) -> None:
    said = opencert("est", "otp", "list", "--state-dir", tmp_path / "nothing")
    assert said.exit_code == 1 and "there is no state directory" in said.stderr
