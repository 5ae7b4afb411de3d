"""`opencert user` writes what the daemon reads, private, and replaces nobody by accident."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

from opencertd.web.users import parse_users, read_users
from tests.cli.shell import ROOT, mode, opencert


def add(tmp_path: Path, *words: str, password: str = "sesam") -> tuple[int, str]:
    secret = tmp_path / "secret"
    secret.write_text(password + "\n")
    done = opencert("user", "add", *words, "--est-users", tmp_path / "users", "--password-file", secret)
    return done.exit_code, done.stderr


def test_users_are_added_with_their_names_and_kept_private(tmp_path: Path) -> None:
    assert add(tmp_path, "alice") == (0, f"user alice written to {tmp_path / 'users'}\n")
    assert add(tmp_path, "bob", "--allow-name", "b.example", "--allow-name", "*.b.example", "--digest")[0] == 0
    users = read_users(tmp_path / "users")
    assert users["alice"].names == ("*",)
    assert not users["alice"].digests
    assert users["bob"].names == ("b.example", "*.b.example")
    assert set(users["bob"].digests) == {"SHA-256", "MD5"}
    assert mode(tmp_path / "users") == 0o600
    assert b"sesam" not in (tmp_path / "users").read_bytes()
    assert opencert("user", "list", "--est-users", tmp_path / "users").stdout == (
        "alice: *\nbob: b.example, *.b.example (also by Digest)\n"
    )


def test_a_user_is_replaced_only_by_force(tmp_path: Path) -> None:
    add(tmp_path, "alice")
    before = (tmp_path / "users").read_bytes()
    status, words = add(tmp_path, "alice", password="other")
    assert (status, "use --force" in words) == (1, True)
    assert (tmp_path / "users").read_bytes() == before
    assert add(tmp_path, "alice", "--force", password="other")[0] == 0
    assert (tmp_path / "users").read_bytes() != before


def test_what_cannot_be_a_user_is_refused(tmp_path: Path) -> None:
    for words, password in ((("a:b",), "x"), (("",), "x"), (("a", "--allow-name", "*.*.b"), "x"), (("a",), "")):
        assert add(tmp_path, *words, password=password)[0] == 1
    assert not (tmp_path / "users").exists()
    (tmp_path / "users").write_text("not JSON")
    (tmp_path / "users").chmod(0o600)
    assert add(tmp_path, "alice")[0] == 1
    (tmp_path / "users").chmod(0o644)
    assert "chmod 600" in add(tmp_path, "alice")[1]
    assert (tmp_path / "users").read_text() == "not JSON"


def test_without_terminal_and_password_file_it_is_a_usage_error(tmp_path: Path) -> None:
    refused = opencert("user", "add", "alice", "--est-users", tmp_path / "users", stdin=b"secret\n")
    assert refused.exit_code == 2
    assert "--password-file" in refused.stderr
    given = ("user", "add", "alice", "--est-users", tmp_path / "users", "--password-file", "-")
    assert opencert(*given, stdin=b"secret\n").exit_code == 0


def test_at_a_terminal_the_password_is_asked_twice_and_not_shown(tmp_path: Path) -> None:
    code = "from opencertd.cli import main; main(prog_name='opencert')"
    words = ["user", "add", "alice", "--est-users", str(tmp_path / "users")]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    for _ in range(2):
        while not shown.rstrip().endswith(b":"):
            shown += os.read(ours, 1000)
        shown += b"|"
        os.write(ours, b"Geheimnis\n")
    assert process.wait(30) == 0
    assert b"Geheimnis" not in shown
    os.close(ours)
    assert "alice" in parse_users((tmp_path / "users").read_bytes())
