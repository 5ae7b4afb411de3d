"""`opencert ca rollover` says what it did, refuses in one line, and leaves files that the daemon can read."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from opencertd.clock import SystemClock
from opencertd.config import Settings
from opencertd.first_start import prepare, run_now
from opencertd.keys.files import read_private_key
from opencertd.model.certificates import Hierarchy
from opencertd.store.database import Database
from opencertd.stores import Stores
from tests.cli.shell import mode, opencert

PASSPHRASE = b"correct horse"


class Ca:
    """A CA whose daemon is stopped, its keys encrypted."""

    def __init__(self, path: Path) -> None:
        self.state, self.config, self.clock = path / "state", path / "ca.toml", SystemClock()
        (path / "passphrase").write_bytes(PASSPHRASE + b"\n")
        given: dict[str, Any] = {"state_dir": self.state, "key_passphrase_file": path / "passphrase"}
        self.config.write_text("".join(f'{key} = "{value}"\n' for key, value in given.items()))
        self.settings = Settings(dn="CN=Rolling", key_type=("ecdsa",), hostname=("localhost",), **given)
        self.start()

    def start(self) -> None:
        prepare(self.settings, self.clock).unlock()

    def roll_over(self, *words: str) -> Result:
        return opencert("ca", "rollover", *words, "--config", self.config)

    def read(self, ask: Any) -> Any:
        database = Database.open_inline(self.settings.database_url())

        async def read() -> Any:
            return await ask(Stores.over(database, self.clock))

        try:
            return run_now(read())
        finally:
            run_now(database.close())

    def hierarchy(self) -> Hierarchy:
        found: Hierarchy = self.read(lambda stores: stores.hierarchy.hierarchy())
        return found

    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        entries = self.read(lambda stores: stores.audit.page(None, 1000))
        return [(entry.result, json.loads(entry.what)) for entry in entries if entry.deed == "change-ca"]


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    return Ca(tmp_path)


def test_it_says_who_took_whose_place_and_what_is_left_to_do(ca: Ca) -> None:
    done = ca.roll_over("ecdsa-root", "--window", "30")
    assert done.exit_code == 0, done.stderr
    assert "ecdsa-root-2 has taken the place of ecdsa-root;" in done.stderr
    assert "ecdsa still stands under ecdsa-root" in done.stderr
    assert "the last certificate under ecdsa-root expires on" in done.stderr  # the listener's, of ninety days
    assert done.stdout == ""
    longer = ca.roll_over("ecdsa", "--window", "100")
    assert "the last certificate" not in longer.stderr


def test_the_new_key_is_encrypted_as_the_old_one_and_readable_by_the_daemon_alone(ca: Ca) -> None:
    if os.geteuid() == 0:
        os.chown(ca.state / "keys", 12345, 12345)
    ca.roll_over("ecdsa")
    path = ca.state / "keys" / "ecdsa-2.pem"
    assert b"ENCRYPTED" in path.read_bytes()
    assert mode(path) == 0o600
    assert path.stat().st_uid == (ca.state / "keys").stat().st_uid
    read_private_key(path, PASSPHRASE)


def test_the_daemon_starts_on_what_was_rolled_over(ca: Ca) -> None:
    for words in (("ecdsa-root", "--with-issuing"), ("ecdsa-root-2",), ("ecdsa-2", "--key-type", "ed25519")):
        assert ca.roll_over(*words).exit_code == 0
        ca.start()
    assert [issuer.name for issuer in ca.hierarchy().issuers if issuer.state.value == "active"] == [
        "ecdsa-root-3",
        "ecdsa-3",
    ]
    assert (ca.state / "trust-anchors.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody",), "there is no issuer 'nobody' in this CA: ecdsa-root, ecdsa"),
        (("ecdsa", "--close"), "was not rolled over"),
    ],
)
def test_a_refusal_is_one_line_changes_nothing_and_is_in_the_audit_log(
    ca: Ca, words: tuple[str, ...], said: str
) -> None:
    before = ca.hierarchy()
    refused = ca.roll_over(*words)
    assert (refused.exit_code, said in refused.stderr) == (1, True), refused.stderr
    assert ca.hierarchy() == before
    ((result, what),) = ca.changes()
    assert result != "done"
    assert (what["issuer"], said in what["why"]) == (words[0], True)


def test_a_repetition_says_that_it_was_done(ca: Ca) -> None:
    ca.roll_over("ecdsa")
    before = ca.hierarchy()
    again = ca.roll_over("ecdsa")
    assert (again.exit_code, "rolled over already, to ecdsa-2; nothing was changed" in again.stderr) == (1, True)
    assert ca.hierarchy() == before


def test_closing_says_until_when_the_old_key_is_needed(ca: Ca) -> None:
    ca.roll_over("ecdsa-root", "--with-issuing")
    closed = ca.roll_over("ecdsa-root", "--close")
    assert closed.exit_code == 0, closed.stderr
    assert "the last certificate that needs it expires on" in closed.stderr
    ca.start()
    assert (ca.state / "trust-anchors.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("ecdsa", "--close", "--with-issuing"),
        ("ecdsa", "--key-type", "rot13"),
        ("ecdsa", "--window", "0"),
        (),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(ca: Ca, words: tuple[str, ...]) -> None:
    assert ca.roll_over(*words).exit_code == 2


def test_two_commands_do_not_work_at_once(ca: Ca) -> None:
    with (ca.state / "deed-lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused = ca.roll_over("ecdsa")
    assert (refused.exit_code, "another command is at work" in refused.stderr) == (1, True)


def test_a_wrong_passphrase_or_no_ca_is_said_in_words(ca: Ca, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("wrong\n")
    wrong = ca.roll_over("ecdsa")
    assert (wrong.exit_code, "wrong passphrase" in wrong.stderr) == (1, True)
    missing = opencert("ca", "rollover", "ecdsa", "--state-dir", tmp_path / "nowhere")
    assert (missing.exit_code, "there is no state directory" in missing.stderr) == (1, True)
    assert not (tmp_path / "nowhere").exists()


def test_a_kind_of_key_that_a_profile_does_not_sign_by_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """A daemon would not start again, and one that runs would not go by the new issuer."""
    ca = Ca(tmp_path)
    plain, keys = ca.config.read_text(), sorted((ca.state / "keys").iterdir())
    ca.config.write_text(plain + '[profiles.default]\nsignature_algorithm = "ecdsa-sha384"\n')
    refused = ca.roll_over("ecdsa", "--key-type", "ed25519")
    assert refused.exit_code != 0 and "Traceback" not in refused.output
    assert "'profiles.default.signature_algorithm': the issuer 'ecdsa-2' has a key of Ed25519" in refused.output
    assert sorted((ca.state / "keys").iterdir()) == keys and len(ca.hierarchy().issuers) == 2
    ca.config.write_text(plain + '[profiles.default]\nsignature_algorithm = ["ecdsa-sha384", "ecdsa-sha512"]\n')
    assert ca.roll_over("ecdsa", "--key-type", "ecdsa-p521").exit_code == 0
    assert len(ca.hierarchy().issuers) == 3
