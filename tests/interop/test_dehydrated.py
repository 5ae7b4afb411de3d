"""dehydrated, which opens a connection for each request, gets certificates by http-01 and wildcards by dns-01."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import openssl, run
from tests.interop.records import hook_script
from tests.interop.responders import Webroot
from tests.interop.site import Site


class Dehydrated:
    """dehydrated with a directory and a registered account of its own."""

    def __init__(self, site: Site, directory: Path, *settings: str) -> None:
        self.directory = directory
        self._config = directory / "config"
        lines = [
            f'CA="{site.ca.directory}"',
            f'BASEDIR="{directory}"',
            f'WELLKNOWN="{directory}/www/.well-known/acme-challenge"',
            f'CURL_OPTS="--cacert {site.ca.trust_anchors}"',
            'KEY_ALGO="prime256v1"',
            'CONTACT_EMAIL="admin@example.test"',
            *settings,
        ]
        self._config.write_text("\n".join(lines) + "\n")
        self("--register", "--accept-terms")

    def __call__(self, *options: str | Path) -> subprocess.CompletedProcess[bytes]:
        return run("dehydrated", *options, "--config", self._config)

    def file(self, alias: str, name: str) -> Path:
        return self.directory / "certs" / alias / name


def dns_names(path: Path) -> set[str]:
    """The DNS names in the SAN of a certificate file."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(sans.get_values_for_type(x509.DNSName))


def check_chain(site: Site, dehydrated: Dehydrated, alias: str) -> None:
    chain, certificate = dehydrated.file(alias, "chain.pem"), dehydrated.file(alias, "cert.pem")
    openssl("verify", "-CAfile", site.ca.trust_anchors, "-untrusted", chain, certificate)


@pytest.mark.parametrize(
    ("workers", "algorithm"), [("one_worker", "secp384r1"), ("one_worker", "rsa"), ("three_workers", "prime256v1")]
)
def test_http01(request: pytest.FixtureRequest, tmp_path: Path, workers: str, algorithm: str) -> None:
    site = request.getfixturevalue(workers)
    dehydrated = Dehydrated(site, tmp_path, 'KEYSIZE="2048"')
    with Webroot(tmp_path / "www", site.ca.http01_port):
        dehydrated("--cron", "-d", "dehydrated.test", "-d", "two.dehydrated.test", "--algo", algorithm)
    check_chain(site, dehydrated, "dehydrated.test")
    assert dns_names(dehydrated.file("dehydrated.test", "cert.pem")) == {
        "dehydrated.test",
        "two.dehydrated.test",
    }
    dehydrated("--revoke", dehydrated.file("dehydrated.test", "cert.pem"))


def test_wildcard_by_dns01(three_workers: Site, tmp_path: Path) -> None:
    """The base name and its wildcard need two TXT records under one name at the same time."""
    hook = tmp_path / "hook"
    hook.write_text(hook_script(three_workers.dns.records))
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    dehydrated = Dehydrated(three_workers, tmp_path, 'CHALLENGETYPE="dns-01"', f'HOOK="{hook}"')
    names = ("-d", "wild.test", "-d", "*.wild.test")
    dehydrated("--cron", *names, "--alias", "wild")
    check_chain(three_workers, dehydrated, "wild")
    assert dns_names(dehydrated.file("wild", "cert.pem")) == {"wild.test", "*.wild.test"}


def test_a_wrong_token_fails(one_worker: Site, tmp_path: Path) -> None:
    """Nothing serves the token: the order fails in words, and no certificate comes of it."""
    dehydrated = Dehydrated(one_worker, tmp_path)
    (tmp_path / "www" / ".well-known" / "acme-challenge").mkdir(parents=True)
    with pytest.raises(pytest.fail.Exception) as failure:
        dehydrated("--cron", "-d", "nobody-serves.test")
    assert "urn:ietf:params:acme:error:" in str(failure.value)
    assert not dehydrated.file("nobody-serves.test", "cert.pem").exists()
