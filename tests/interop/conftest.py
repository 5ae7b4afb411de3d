"""Daemons that many tests share: one with one worker, one with three, each with a DNS server and users of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.clients import run
from tests.interop.daemon import Daemon
from tests.interop.https import PASSWORD, USER
from tests.interop.records import DnsServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory is marked `interop`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)


@dataclass(frozen=True)
class Site:
    """A CA and the DNS it asks."""

    ca: Daemon
    dns: DnsServer


@contextmanager
def site(directory: Path, workers: int = 1, digest: bool = False) -> Iterator[Site]:
    """A CA with its surroundings, running; its log must be free of tracebacks in the end."""
    users = directory / "est-users"
    password = directory / "password"
    password.write_text(PASSWORD + "\n")
    options = ("--digest",) if digest else ()
    run("opencert", "user", "add", USER, "--est-users", users, "--password-file", password, *options)
    ca = Daemon(directory / "state", workers=workers, extra=("--est-users", str(users)))
    with ExitStack() as stack:
        dns = stack.enter_context(DnsServer(ca.dns_port, directory / "records"))
        stack.enter_context(ca.running())
        yield Site(ca, dns)
    assert ca.faults() == []


@pytest.fixture(scope="session")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One worker; the EST user has no Digest hashes."""
    with site(tmp_path_factory.mktemp("one")) as running:
        yield running


@pytest.fixture(scope="session")
def three_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three workers; the EST user may use Digest."""
    with site(tmp_path_factory.mktemp("three"), workers=3, digest=True) as running:
        yield running


@pytest.fixture(params=["one_worker", "three_workers"])
def each_site(request: pytest.FixtureRequest) -> Site:
    """Both sites in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Site)
    return found


@pytest.fixture
def ca(one_worker: Site) -> Daemon:
    """The daemon with one worker."""
    return one_worker.ca
