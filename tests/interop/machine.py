"""A machine that an ACME client runs on: what `docs/acme-clients.md` prints, followed there as printed.

It is a mount namespace: `/etc/ssl/certs` has what the page's own lines put there, and `/etc/hosts` leads the page's
name to the loopback. Ports, the directory's URL and the web root are this test's; nothing else is changed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.clients import openssl, program, run
from tests.interop.daemon import ROOT, environment
from tests.interop.readme import walkthroughs
from tests.interop.responders import Webroot
from tests.interop.site import Site

NAME = "www.example.com"
PAGE = walkthroughs((ROOT / "docs" / "acme-clients.md").read_text())
HOSTS = f"127.0.0.1 localhost {NAME}\n"
ADDRESSES = (f"{NAME} A 127.0.0.1", f"*.{NAME} A 127.0.0.1")
SHOWS_SECONDS = 5.0  # how soon OCSP must tell what was done

TXT_RECORD = """#!/bin/sh
# txt-record add|remove NAME VALUE; without a value all records of the name go
case "$1" in
    add) echo "$2 TXT $3" >> "{records}" ;;
    remove) grep -v "^$2 TXT $3" "{records}" > "{records}.new"; mv "{records}.new" "{records}" ;;
esac
"""


class Machine:
    """A directory to work in, which trusts one CA. `www` is its web root."""

    def __init__(self, site: Site, place: Path) -> None:
        self.site = site
        self.place = place
        self.www = place / "www"
        self._certs = place / "ssl-certs"
        known = site.dns.records.read_text().splitlines()
        missing = [line for line in ADDRESSES if line not in known]
        site.dns.records.write_text("\n".join([*known, *missing]) + "\n")
        (place / "hosts").write_text(HOSTS)
        self.script("txt-record", TXT_RECORD.format(records=site.dns.records))
        self._trust()

    def script(self, name: str, text: str) -> None:
        (self.place / name).write_text(text)
        (self.place / name).chmod(0o755)

    def _trust(self) -> None:
        """The page's lines, with directories of this machine."""
        local = self.place / "local-certs"
        for directory in (local, self._certs):
            directory.mkdir()
        options = ("--certsdir", "/var/empty", "--localcertsdir", local, "--etccertsdir", self._certs)
        places = {
            "/usr/local/share/ca-certificates": str(local),
            "trust-anchors.pem": str(self.site.ca.trust_anchors),
            "update-ca-certificates": " ".join(map(str, ("update-ca-certificates", *options))),
        }
        run("sh", "-euc", PAGE["trust"].replaced(places).script, cwd=self.place)

    def text(self, name: str, words: Mapping[str, str] | None = None) -> str:
        """What the page prints under that name, with this test's URL, web root and `words`."""
        places = {"https://ca.example.com/directory": self.site.ca.directory, "/var/www/html": str(self.www)}
        words = {old: new for old, new in places.items() if old in PAGE[name].text} | dict(words or {})
        return PAGE[name].replaced(words).script

    def command(self, *command: str | Path) -> list[str]:
        """The words that run a program on this machine."""
        mounts = "mount --bind ssl-certs /etc/ssl/certs && mount --bind hosts /etc/hosts"
        alone = () if os.geteuid() == 0 else ("--map-root-user",)
        inside = [*program("unshare"), *alone, "--mount", "sh", "-euc", f'{mounts} && exec "$@"', "sh"]
        return [*inside, *program(str(command[0])), *map(str, command[1:])]

    def environment(self) -> dict[str, str]:
        """A home of its own, so that clients find no settings of this machine's user."""
        path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return environment(HOME=str(self.place), XDG_CONFIG_HOME=str(self.place / ".config"), PATH=path)

    def run(self, *command: str | Path) -> str:
        """What the program says. It must succeed."""
        done = subprocess.run(
            self.command(*command),
            check=False,
            cwd=self.place,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
        )
        if done.returncode != 0:
            pytest.fail(f"{' '.join(map(str, command))}\nexit status {done.returncode}\n{done.stdout[-6000:]}")
        return done.stdout

    def follow(self, name: str, words: Mapping[str, str] | None = None) -> str:
        """Do what the page prints under that name."""
        return self.run("sh", "-euc", self.text(name, words))

    def webroot(self) -> Webroot:
        """The machine's web server, where http-01 is looked for."""
        return Webroot(self.www, self.site.ca.http01_port)

    def check(self, certificate: Path, *names: str, chain: Path | None = None) -> x509.Certificate:
        """The certificate of a file; openssl verifies it, OCSP calls it good, and it has these names and no others."""
        openssl("verify", "-CAfile", self.site.ca.trust_anchors, "-untrusted", chain or certificate, certificate)
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        sans = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert set(sans.get_values_for_type(x509.DNSName)) == set(names or [NAME])
        assert self.status(certificate, chain) == "good"
        return found

    def status(self, certificate: Path, chain: Path | None = None) -> str:
        """What `openssl ocsp` says of it: "good" or "revoked". It verifies the answer."""
        issuer = self.place / "issuer.pem"
        pems = (chain or certificate).read_text().split("-----BEGIN CERTIFICATE-----")
        issuer.write_text("-----BEGIN CERTIFICATE-----" + pems[1 if chain else 2])
        url = ("-url", f"{self.site.ca.http_url}/ca/ocsp", "-CAfile", self.site.ca.trust_anchors)
        said = openssl("ocsp", *url, "-issuer", issuer, "-cert", certificate, "-verify_other", issuer).stdout.decode()
        return said.partition(f"{certificate}: ")[2].split()[0]

    def wait_revoked(self, certificate: Path, chain: Path | None = None) -> None:
        """OCSP says so within seconds."""
        deadline = time.monotonic() + SHOWS_SECONDS
        while self.status(certificate, chain) != "revoked":
            assert time.monotonic() < deadline, "OCSP does not say that the certificate was revoked"
            time.sleep(0.1)
