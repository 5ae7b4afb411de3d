"""`docs/est.md` is true: its commands, run in its order against a daemon with its settings."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.interop.clients import openssl, run
from tests.interop.daemon import ROOT, environment, opencert_command
from tests.interop.https import PASSWORD
from tests.interop.readme import walkthroughs
from tests.interop.site import Site, site

PAGE = walkthroughs((ROOT / "docs" / "est.md").read_text())
USER = "pump7"


@pytest.fixture(scope="module")
def page_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("est-page"), settings=PAGE["settings"].text) as running:
        yield running


class Device:
    """A directory in which the page's commands are run, one after another."""

    def __init__(self, running: Site, place: Path) -> None:
        self.ca = running.ca
        self.place = place
        (place / "password").write_text(f"{PASSWORD}\n")
        users = self.ca.state.parent / "est-users"
        files = ("--est-users", users, "--password-file", place / "password")
        run(
            "opencert",
            "user",
            "add",
            USER,
            *files,
            "--allow-name",
            "pump7.example.com",
            "--allow-name",
            USER,
            "--force",
        )
        commands = place / "bin"
        commands.mkdir()
        words = " ".join(f"'{word}'" for word in opencert_command())
        (commands / "opencert").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (commands / "opencert").chmod(0o755)

    def follow(self, name: str, **words: str) -> str:
        """What the commands of that name say; each must succeed."""
        there = {"ca.example.com:5001": f"localhost:{self.ca.port}", "/var/lib/opencertd": str(self.ca.state)}
        known = {old: new for old, new in there.items() if old in PAGE[name].text}
        script = "set -eu\n" + PAGE[name].replaced({**known, **words}).script
        return self._run(name, "sh", "-c", script)

    def python(self, name: str) -> str:
        """The same for a program in Python."""
        text = PAGE[name].replaced({'"ca.example.com", 5001': f'"localhost", {self.ca.port}'}).text
        return self._run(name, sys.executable, "-c", text)

    def _run(self, name: str, *command: str) -> str:
        path = f"{self.place / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        done = subprocess.run(
            command,
            cwd=self.place,
            env=environment(PATH=path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}"
        return done.stdout

    def certificate(self, name: str) -> x509.Certificate:
        """That file's, which must lead to the anchors that the device has got."""
        authorities = self.place / "authorities.pem"
        where = ("--server", self.ca.url, "--trust-anchors", self.place / "trust-anchors.pem")
        run("opencert", "est-server-certificates", *where, "--out", authorities, "--force")
        anchors = self.ca.trust_anchors
        openssl("verify", "-CAfile", anchors, "-untrusted", authorities, self.place / name)
        return x509.load_pem_x509_certificate((self.place / name).read_bytes())


def test_a_device_goes_through_the_page(page_site: Site, tmp_path: Path) -> None:
    device = Device(page_site, tmp_path)
    told = re.findall(r"SHA-256: (\S+)", device.follow("fingerprints"))
    roots = x509.load_pem_x509_certificates(device.ca.trust_anchors.read_bytes())
    assert told == [root.fingerprint(hashes.SHA256()).hex(":").upper() for root in roots]
    printed = re.findall(r"--fingerprint (\S+)", PAGE["bootstrap"].text)
    device.follow("bootstrap", **dict(zip(printed, told, strict=True)))

    device.follow("enrol")
    renewed, rekeyed = device.certificate("pump7.pem"), device.certificate("new.pem")
    assert renewed.public_key() != rekeyed.public_key() and renewed.subject == rekeyed.subject
    assert "purposes: TLS server" in device.follow("other operations")
    device.certificate("made.pem")
    assert openssl("pkey", "-in", tmp_path / "made.key", "-noout", "-check").returncode == 0

    device.follow("linked")
    for name in ("linked.pem", "also.pem"):
        device.certificate(name)
    device.python("by hand")
    printed_certificates = openssl("pkcs7", "-inform", "DER", "-in", tmp_path / "hand.p7", "-print_certs").stdout
    (tmp_path / "hand.pem").write_bytes(printed_certificates)
    assert device.certificate("hand.pem").subject.rfc4514_string() == "CN=pump7"


def test_every_walkthrough_is_run() -> None:
    run_here = {"fingerprints", "bootstrap", "enrol", "other operations", "settings", "linked", "by hand"}
    assert set(PAGE) == run_here


def test_statuses_of_the_page_are_statuses() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", (ROOT / "docs" / "est.md").read_text(), re.MULTILINE)
    codes = [int(code) for row in rows for code in row.split(",")]
    assert codes == sorted(codes) and set(codes) <= set(http.client.responses)
