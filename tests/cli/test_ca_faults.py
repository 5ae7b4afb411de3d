"""`opencert ca` when something fails in the middle, when two do the same at once, and with keys in a token."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import fail

from opencertd.errors import Refusal, RefusalKind
from opencertd.store.hierarchy import SqlHierarchyStore
from tests.cli.shell import ROOT, openssl
from tests.cli.test_ca import Ca
from tests.softhsm import MODULE, SoftHsm, make_token


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    made = Ca(tmp_path)
    made.done("init", "--dn", "CN=Test,O=X", "--key-type", "ecdsa")
    return made


CREATE = ("create", "office", "--parent", "ecdsa-root", "--dn", "CN=Office,O=X")


def test_a_ca_that_did_not_come_to_be_is_revoked_and_its_key_is_gone(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> Any:
        return fail(Refusal(RefusalKind.CONFLICT, "somebody else was first"))

    keys = sorted((ca.state / "keys").iterdir())
    with monkeypatch.context() as broken:
        broken.setattr("opencertd.store.hierarchy.SqlHierarchyStore.change", lost)
        assert "somebody else was first" in ca.run(*CREATE).stderr
    assert sorted((ca.state / "keys").iterdir()) == keys
    assert ca.issuer("ecdsa-root")["revoked"] == 1
    ca.done(*CREATE)


def test_a_key_stays_when_the_store_may_have_kept_its_record(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = SqlHierarchyStore.change

    def gone(store: SqlHierarchyStore, *change: Any, **what: Any) -> Any:
        keep(store, *change, **what)
        return fail(Refusal(RefusalKind.UNAVAILABLE, "the store cannot be used at the moment"))

    with monkeypatch.context() as broken:
        broken.setattr(SqlHierarchyStore, "change", gone)
        assert "cannot be used" in ca.run(*CREATE).stderr
    assert ca.issuer("ecdsa-root")["revoked"] == 0
    ca.done("create", "below", "--root", "--dn", "CN=Other")
    openssl("verify", "-CAfile", ca.anchors, ca.certificate("office"))
    secret, out = ca.directory / "secret", ca.directory / "office.key"
    secret.write_text("x\n")
    ca.done("export", "office", "--key", "--passphrase-file", secret, "--out", out)


def test_an_issuer_that_profiles_contradict_is_not_made(ca: Ca, tmp_path: Path) -> None:
    config = tmp_path / "ca.toml"
    config.write_text(f'state_dir = "{ca.state}"\n[profiles.sub-ca]\npath_length = 1\n')
    words = ("create", "middle", "--parent", "ecdsa-root", "--dn", "CN=M,O=X", "--path-len", "1", "--config", config)
    assert "'profiles.sub-ca.issuers'" in ca.run(*words).stderr
    assert ca.names() == ["ecdsa-root", "ecdsa"]
    assert ca.issuer("ecdsa-root")["revoked"] == 1
    assert ca.listed()["unused_key_files"] == []


def test_a_key_whose_deed_died_is_told_of(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr("opencertd.store.hierarchy.SqlHierarchyStore.change", die)
        broken.setattr("opencertd.desk.deeds.shred", lambda _: None)  # kill -9 leaves no time for it
        with pytest.raises(BaseException):  # noqa: B017  (the process is gone, whatever click makes of it)
            ca.done(*CREATE)
    (file,) = ca.listed()["unused_key_files"]
    assert file.startswith("office-")
    ca.done(*CREATE)
    assert ca.listed()["unused_key_files"] == [file]
    openssl("verify", "-CAfile", ca.anchors, ca.certificate("office"))


def test_of_two_that_make_the_same_one_wins(ca: Ca) -> None:
    code = "from opencertd.cli import main; main(prog_name='opencert')"
    words = [sys.executable, "-c", code, "ca", *CREATE, "--state-dir", str(ca.state)]
    both = [
        subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    assert not any("Traceback" in text for text in said)
    assert ca.names() == ["ecdsa-root", "ecdsa", "office"]
    assert ca.listed()["unused_key_files"] == []
    assert ca.issuer("ecdsa-root")["live"] == 3  # with its OCSP responder; a loser's certificate was revoked


def test_a_database_that_was_lost_does_not_become_another_ca(ca: Ca, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.sqlite3"
    assert "no CA" in ca.run("list", "--database", other).stderr
    assert not (tmp_path / "other.sqlite3").exists()
    (tmp_path / "secret").write_text("x\n")
    words = ("ceremony", "new", "--root-dn", "CN=R", "--dn", "CN=I", "--passphrase-file", tmp_path / "secret")
    files = ("--root-key-out", tmp_path / "r.key", "--transcript", tmp_path / "t.txt")
    assert "knows nothing of it" in ca.run(*words, *files, "--database", other).stderr
    assert not (tmp_path / "r.key").exists()


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    (tmp_path / "hsm").mkdir()
    with make_token(tmp_path / "hsm").in_use() as made:
        yield made


def test_keys_in_a_token(ca: Ca, hsm: SoftHsm, tmp_path: Path) -> None:
    config = tmp_path / "ca.toml"
    config.write_text(
        f'state_dir = "{ca.state}"\n[pkcs11]\nmodule = "{MODULE}"\ntoken = "{hsm.label}"\npin_file = "{hsm.pin_file}"\n'
    )
    with_token = ("--config", config, "--key-store", "pkcs11")
    ca.done(*CREATE, "--path-len", "1", *with_token)
    assert ca.issuer_with("office", config)["key_place"].startswith("pkcs11:object=office;")
    ca.done("create", "desk", "--parent", "office", "--dn", "CN=Desk,O=X", "--config", config)
    request, answer = tmp_path / "p.csr", tmp_path / "p.pem"
    ca.done("csr", "partner", "--dn", "CN=Partner,O=X", "--out", request, *with_token)
    openssl("req", "-in", request, "-noout", "-verify")
    ca.done("sign", request, "--by", "ecdsa-root", "--out", answer, "--config", config)
    ca.done("import", "partner", answer, "--config", config)
    assert ca.issuer_with("partner", config)["under"] == "ecdsa-root"
    refused = ca.run("export", "partner", "--key", "--out", tmp_path / "x", "--config", config, stdin=b"")
    assert refused.exit_code in {1, 2}
    secret = tmp_path / "secret"
    secret.write_text("x\n")
    words = ("export", "partner", "--key", "--passphrase-file", secret, "--out", tmp_path / "x", "--config", config)
    assert "gives it to nobody" in ca.run(*words).stderr
    assert not (tmp_path / "x").exists()


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ca:
    """A CA whose keys are encrypted."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("right\n")
    monkeypatch.setenv("OPENCERT_KEY_PASSPHRASE_FILE", str(passphrase))
    made = Ca(tmp_path)
    made.done("init", "--dn", "CN=Test,O=X", "--key-type", "ecdsa")
    return made


NEW_KEYS = {
    "root": ("create", "top", "--root", "--dn", "CN=Top"),
    "under": CREATE,
    "request": ("csr", "partner", "--dn", "CN=Partner", "--out", "-"),
    "import": ("import", "old", "{old}"),
}


@pytest.mark.parametrize("given", ["wrong", None])
@pytest.mark.parametrize("deed", NEW_KEYS)
def test_no_key_is_kept_under_another_passphrase_than_the_daemons(
    locked: Ca, deed: str, given: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / "old.pem"
    subject = ("-subj", "/CN=Old", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", old, "-out", tmp_path / "old.crt")
    old.write_bytes(old.read_bytes() + (tmp_path / "old.crt").read_bytes())
    keys = sorted((locked.state / "keys").iterdir())
    if given is None:
        monkeypatch.delenv("OPENCERT_KEY_PASSPHRASE_FILE")
    else:
        (tmp_path / "passphrase").write_text(given)
    assert "passphrase" in locked.refused(*(str(old) if word == "{old}" else word for word in NEW_KEYS[deed]))
    assert sorted((locked.state / "keys").iterdir()) == keys


def test_a_key_is_not_exported_over_itself(ca: Ca, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("secret\n")
    own = ca.state / "keys" / "ecdsa-root.pem"
    (tmp_path / "link.pem").symlink_to(own)
    before = own.read_bytes()
    for out in (own, tmp_path / "link.pem"):
        words = ("--key", "--remove-key", "--force", "--passphrase-file", tmp_path / "pw", "--out", out)
        assert "another place" in ca.refused("export", "ecdsa-root", *words)
    assert own.read_bytes() == before


def test_what_the_store_suffers_from_is_said_to_whoever_runs_it(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        refusal = Refusal(RefusalKind.UNAVAILABLE, "the store cannot be used at the moment")
        refusal.__cause__ = sqlite3.OperationalError("database or disk is full")
        return fail(refusal)

    monkeypatch.setattr(SqlHierarchyStore, "change", full)
    assert "at the moment: database or disk is full" in ca.run(*CREATE).stderr


def test_a_key_file_that_a_crash_left_half_written_is_named(ca: Ca) -> None:
    left = ca.state / "keys" / ".office-01234567.pem.4711.new"
    left.write_bytes(b"-----BEGIN PRIVATE KEY-----")
    assert f"nothing refers to the key file {left.name}" in ca.done("list")
    assert ca.listed()["unused_key_files"] == [left.name]


def test_the_list_shows_subjects_where_there_is_no_wide_terminal(ca: Ca) -> None:
    assert "CN=Test ECDSA Issuing CA" in ca.done("list")


def test_who_revokes_the_only_issuing_ca_is_told_what_that_means(ca: Ca) -> None:
    said = ca.done("revoke", "ecdsa", "--reason", "keyCompromise", "--yes")
    assert "the profile default can issue nothing now" in said
    assert "listener keeps the certificate that it has" in said
    ca.done(*CREATE)
    ca.done("init", "--dn", "CN=Test,O=X", "--key-type", "ecdsa")  # what the daemon does when it starts
