"""A whole daemon with proofs that serve further orders: a client renews without proving again, and is told when to."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import openssl, run
from tests.interop.site import Site, site
from tests.interop.test_uacme import Uacme

SETTINGS = """
[acme]
authorization_reuse = "1h"
renewal_window = [0.5, 0.6]
explanation_url = "https://ca.example/why"
"""


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("trusting"), workers=2, settings=SETTINGS) as made:
        yield made


def told(where: Site, certificate_pem: bytes) -> dict[str, object]:
    """What the daemon answers, asked by curl, about the certificate (RFC 9773 §4.1)."""
    leaf = x509.load_pem_x509_certificate(certificate_pem)
    aki = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert aki is not None
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1, "big")
    name = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (aki, serial))
    curl = ("curl", "--silent", "--show-error", "--fail", "--cacert", where.ca.trust_anchors)
    directory = json.loads(run(*curl, where.ca.directory).stdout)
    return dict(json.loads(run(*curl, f"{directory['renewalInfo']}/{name}").stdout))


def test_a_client_renews_by_the_proof_it_gave_and_is_told_to_when_revoked(trusting: Site, tmp_path: Path) -> None:
    uacme = Uacme(trusting, tmp_path)
    with uacme.webroot:
        uacme("--type", "EC", "issue", "renewed.test")
    path = uacme.certificate("renewed.test")
    first = path.read_bytes()
    assert "explanationURL" not in told(trusting, first)

    # nobody answers http-01 any more
    uacme("--type", "EC", "--force", "issue", "renewed.test")
    second = path.read_bytes()
    assert second != first
    openssl("verify", "-CAfile", trusting.ca.trust_anchors, "-untrusted", path, path)

    uacme("revoke", path)
    assert told(trusting, second)["explanationURL"] == "https://ca.example/why"
