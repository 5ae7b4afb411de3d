"""Client certificates count through nginx's `stream`, and where TLS ends at nginx they do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.clients import run
from tests.interop.daemon import ROOT, free_port
from tests.interop.https import EST, Identity, enrol
from tests.interop.nginx import USER, serving
from tests.interop.readme import walkthroughs
from tests.interop.site import Site

MAIN = """
{user}
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{}}
"""


@pytest.fixture
def stream_port(one_worker: Site, tmp_path: Path) -> Iterator[int]:
    """Where nginx passes TLS on to the CA, as docs/operating.md prints it."""
    port = free_port()
    page = walkthroughs((ROOT / "docs" / "operating.md").read_text())
    words = {"listen 443": f"listen 127.0.0.1:{port}", "127.0.0.1:5001": f"127.0.0.1:{one_worker.ca.port}"}
    printed = page["nginx stream"].replaced(words).text
    with serving(tmp_path, MAIN.format(place=tmp_path, user=USER) + printed, port):
        yield port


def reenrol(site: Site, port: int, identity: Identity) -> str:
    """The status of an EST request with the certificate, by curl."""
    csr = identity.key_file.with_suffix(".csr")
    tls = ("--cacert", site.ca.trust_anchors, "--cert", identity.certificate_file, "--key", identity.key_file)
    head = ("-H", "Content-Type: application/pkcs10", "--data-binary", f"@{csr}")
    said = run(
        "curl",
        "-sS",
        *tls,
        *head,
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        f"https://localhost:{port}{EST}/simplereenroll",
    )
    return said.stdout.decode()


def test_a_stream_passes_client_certificates_on(one_worker: Site, stream_port: int, tmp_path: Path) -> None:
    identity = enrol(one_worker.ca, tmp_path / "device", "stream.test")
    assert reenrol(one_worker, stream_port, identity) == "200"


def test_where_tls_ends_at_nginx_they_prove_nothing(one_worker_behind_nginx: Site, tmp_path: Path) -> None:
    site = one_worker_behind_nginx
    identity = enrol(site.ca, tmp_path / "device", "ended.test")
    assert reenrol(site, site.ca.port, identity) == "200"
    assert reenrol(site, site.ca.front_port, identity) == "401"
