"""Daemons that many tests share: one with one worker, one with three, each with a DNS server and users of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.daemon import Daemon
from tests.interop.site import Site, site
from tests.interop.slow import Dripper, start_drippers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory is marked `interop`."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.interop)


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


@pytest.fixture(scope="session")
def one_worker_behind_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One worker; clients see nginx."""
    with site(tmp_path_factory.mktemp("fronted-one"), fronted=True) as running:
        yield running


@pytest.fixture(scope="session")
def three_workers_behind_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three workers; clients see nginx."""
    with site(tmp_path_factory.mktemp("fronted-three"), workers=3, fronted=True) as running:
        yield running


@pytest.fixture(scope="session")
def drippers(one_worker: Site) -> dict[str, Dripper]:
    """Slow senders to the daemon with one worker. They take a minute; other tests run meanwhile."""
    return start_drippers(one_worker.ca)


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
