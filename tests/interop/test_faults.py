"""A whole daemon that makes mistakes on purpose: clients live with them, curl sees that they are announced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.clients import openssl, run
from tests.interop.site import Site, site
from tests.interop.test_uacme import Uacme

SETTINGS = """
test_faults = true
[acme.test_faults]
nonces_refused = 10
validation_seconds = 1
order_invalid_every = 2
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("faulty"), settings=SETTINGS) as made:
        yield made


def test_it_is_announced(faulty: Site) -> None:
    curl = ("curl", "--silent", "--show-error", "--fail", "--include", "--cacert", faulty.ca.trust_anchors)
    head, _, body = run(*curl, faulty.ca.directory).stdout.decode().partition("\r\n\r\n")
    said = "nonces=10%, validation=1s, reuse=50%, invalid-orders=0%, invalid-order-every=2"
    assert f"Opencertd-Test-Faults: {said}" in head
    assert json.loads(body)["meta"]["testFaults"] == said
    assert faulty.ca.log.count(f"TEST FAULTS: this server makes mistakes on purpose ({said})") == 2, "log and stderr"


def test_a_client_gets_its_certificate_all_the_same_unless_its_turn_has_come(faulty: Site, tmp_path: Path) -> None:
    uacme = Uacme(faulty, tmp_path)
    with uacme.webroot:
        uacme("--type", "EC", "issue", "faulty.test")
        path = uacme.certificate("faulty.test")
        openssl("verify", "-CAfile", faulty.ca.trust_anchors, "-untrusted", path, path)
        with pytest.raises(pytest.fail.Exception):
            uacme("--type", "EC", "--force", "issue", "faulty.test")
        uacme("--type", "EC", "--force", "issue", "faulty.test")
