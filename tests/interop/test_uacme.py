"""uacme, which opens a connection for each request and asks OCSP before it renews, gets along with the CA."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

from tests.interop.clients import openssl, program, run
from tests.interop.responders import Webroot
from tests.interop.site import Site

HOOK = """#!/bin/sh
# method type ident token auth; any other type than http-01 is refused, and uacme then offers the next
test "$2" = http-01 || exit 1
case "$1" in
    begin) printf %s "$5" > "{challenges}/$4" ;;
    *) rm -f "{challenges}/$4" ;;
esac
"""


class Uacme:
    """uacme with a directory and an account of its own.

    Its libcurl reads trust anchors from /etc/ssl/certs only, so it runs where another directory is mounted there.
    """

    def __init__(self, site: Site, directory: Path, acme_url: str | None = None) -> None:
        self._acme_url = acme_url or site.ca.directory
        self._configuration = directory / "uacme.d"
        self._trust = directory / "certs"
        self._trust.mkdir()
        shutil.copy(site.ca.trust_anchors, self._trust / "ca-certificates.crt")
        webroot = directory / "www"
        self._hook = directory / "hook"
        self._hook.write_text(HOOK.format(challenges=webroot / ".well-known" / "acme-challenge"))
        self._hook.chmod(self._hook.stat().st_mode | stat.S_IXUSR)
        self.webroot = Webroot(webroot, site.ca.http01_port)
        self("--yes", "new", "admin@example.test")

    def __call__(self, *options: str | Path, ok: bool = True) -> subprocess.CompletedProcess[bytes]:
        mounted = 'mount --bind "$0" /etc/ssl/certs && exec "$@"'
        inside = ("unshare", "--map-root-user", "--mount", "sh", "-c", mounted, self._trust)
        places = ("--acme-url", self._acme_url, "--confdir", self._configuration)
        return run(*inside, *program("uacme"), "--verbose", *places, "--hook", self._hook, *options, ok=ok)

    def certificate(self, name: str) -> Path:
        return self._configuration / name / "cert.pem"


def test_issue_ocsp_revoke_reissue(three_workers: Site, tmp_path: Path) -> None:
    uacme = Uacme(three_workers, tmp_path)
    with uacme.webroot:
        uacme("--type", "EC", "issue", "uacme.test", "www.uacme.test")
        path = uacme.certificate("uacme.test")
        openssl("verify", "-CAfile", three_workers.ca.trust_anchors, "-untrusted", path, path)

        # a second call asks OCSP, finds the certificate good, and issues nothing: exit status 1
        again = uacme("--type", "EC", "issue", "uacme.test", "www.uacme.test", ok=False)
        assert again.returncode == 1, again.stderr.decode()

        kept = tmp_path / "kept.pem"
        shutil.copy(path, kept)
        uacme("revoke", kept)
        if not path.exists():
            shutil.copy(kept, path)
        before = path.read_bytes()
        # now OCSP says revoked, so the same call issues anew
        uacme("--type", "EC", "issue", "uacme.test", "www.uacme.test")
        assert path.read_bytes() != before


def test_rsa_and_key_change(one_worker: Site, tmp_path: Path) -> None:
    uacme = Uacme(one_worker, tmp_path)
    uacme("newkey")
    with uacme.webroot:
        uacme("--type", "RSA", "--bits", "2048", "issue", "uacme-rsa.test")
    path = uacme.certificate("uacme-rsa.test")
    openssl("verify", "-CAfile", one_worker.ca.trust_anchors, "-untrusted", path, path)


def test_a_profile_by_its_own_directory(one_worker: Site, tmp_path: Path) -> None:
    uacme = Uacme(one_worker, tmp_path, one_worker.ca.directory.replace("/directory", "/acme/short-lived/directory"))
    with uacme.webroot:
        uacme("--type", "EC", "issue", "uacme-short.test")
    path = uacme.certificate("uacme-short.test")
    expires_within = run("openssl", "x509", "-in", path, "-noout", "-checkend", "86400", ok=False)
    assert expires_within.returncode == 1, "a certificate of this profile is good for a day"
    openssl("verify", "-CAfile", one_worker.ca.trust_anchors, "-untrusted", path, path)
