"""Who guesses passwords meets the same patience on every worker, and the owner of the right one waits no longer."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.daemon import Daemon
from tests.interop.https import BASIC, EST, USER, request
from tests.interop.site import site


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with site(tmp_path_factory.mktemp("guessing"), workers=3, digest=True) as running:
        yield running.ca


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("user", [USER, "nobody"])
def test_the_sixth_guess_waits_on_whichever_worker(ca: Daemon, user: str, tmp_path: Path) -> None:
    statuses = []
    for number in range(6):
        answer = request(ca, "GET", f"{EST}/csrattrs", headers=basic(user, f"guess {number}"))
        statuses.append(answer.status)
    assert statuses == [401] * 5 + [429]
    assert int(answer.headers["retry-after"]) >= 1
    if user == USER:
        assert request(ca, "GET", f"{EST}/csrattrs", headers=BASIC).status == 429, "it was not looked at"
        deadline = time.monotonic() + 30
        while request(ca, "GET", f"{EST}/csrattrs", headers=BASIC).status == 429:
            assert time.monotonic() < deadline
            time.sleep(0.3)
        again = request(ca, "GET", f"{EST}/csrattrs", headers=basic(user, "guess"))
        assert again.status == 401, "the row has ended"
