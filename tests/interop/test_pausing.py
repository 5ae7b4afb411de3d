"""A client that has failed for weeks reads why it is refused, and goes on when a person resumes it."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from tests.interop.clients import run
from tests.interop.site import site
from tests.interop.test_certbot import REFUSED, Certbot, standalone

WEEK = 7 * 86_400
SETTINGS = """
[limits]
pause_after = "21d"
pause_failures = 10
"""


def test_certbot_is_paused_and_resumed(tmp_path: Path) -> None:
    with site(tmp_path, workers=2, settings=SETTINGS) as running:
        ca = running.ca
        at = ("--state-dir", ca.state)
        certbot = Certbot(ca, tmp_path)
        certbot("register", "--agree-tos", "--email", "admin@example.test")
        (account,) = run("opencert", "acme", "account", "list", *at).stdout.decode().split()[:1]
        now = int(time.time())
        with sqlite3.connect(ca.state / "opencertd.sqlite3", timeout=30) as database:  # the weeks that no test has
            database.execute(
                "INSERT INTO acme_failures (account_id, name, failed, since, last_failed_at) VALUES (?, ?, ?, ?, ?)",
                (account, '[["dns","zombie.test"]]', 20, now - 4 * WEEK, now - 3600),
            )
        certbot("certonly", *standalone(ca), "-d", "living.test")
        nobody = ("--manual", "--preferred-challenges", "http", "--manual-auth-hook", "true")
        with pytest.raises(REFUSED):
            certbot("certonly", *nobody, "-d", "zombie.test")  # the last failure that it takes
        with pytest.raises(REFUSED):
            certbot("certonly", *standalone(ca), "-d", "zombie.test", "-d", "new.test")
        dashes = "-- " if account.startswith("-") else ""
        assert f"paused resume {dashes}{account} zombie.test" in certbot.log()

        listed = run("opencert", "acme", "paused", "list", *at).stdout.decode()
        assert listed.startswith(f"{account}  zombie.test  paused 20")
        assert "21 failures since" in listed
        run("opencert", "acme", "paused", "resume", f"{ca.url}/account/{account}", "zombie.test", *at)
        certbot("certonly", *standalone(ca), "-d", "zombie.test")
        assert run("opencert", "acme", "paused", "list", *at).stdout == b""
        run("opencert", "audit", "verify", *at)
