"""Clients that ask when to renew (RFC 9773) renew when the window has moved to now: certbot 5, and Apache's mod_md.

Of Debian 12's other clients none asks: certbot 2.1, lego 4.9, Caddy 2.6, uacme and dehydrated go by the expiry.
"""

from __future__ import annotations

from pathlib import Path

from tests.interop.clients import openssl, run
from tests.interop.machine import Machine
from tests.interop.site import site
from tests.interop.test_acme_servers import Apache, served
from tests.interop.test_certbot import Certbot, standalone
from tests.interop.test_hierarchy import soon
from tests.interop.test_renewing_clients import told


class AskingCertbot(Certbot):
    """A certbot that asks."""

    program = "certbot 5"

    def renewed(self, name: str) -> bool:
        """Whether `renew`, as a timer runs it, got another certificate."""
        before = self.certificate(name)
        self("renew", "--no-random-sleep-on-renew", "--cert-name", name)
        return self.certificate(name) != before


def test_certbot_renews_by_another_issuer_what_a_distrusted_one_signed(tmp_path: Path) -> None:
    with site(tmp_path, workers=2, settings='[acme]\nexplanation_url = "https://ca.example/why"\n') as running:
        ca = running.ca
        certbot = AskingCertbot(ca, tmp_path)
        for name in ("early.test", "late.test"):
            certbot("certonly", *standalone(ca), "-d", name, "--key-type", "ecdsa")
            assert "ECDSA" in certbot.certificate(name).issuer.rfc4514_string()
        assert not certbot.renewed("early.test"), "nothing is due"
        leaf = certbot.live("late.test", "cert.pem")
        first, chain = leaf.read_bytes(), certbot.live("late.test", "chain.pem").read_bytes()

        run("opencert", "ca", "distrust", "ecdsa", "--state-dir", ca.state)
        soon(lambda: told(running, first).get("explanationURL") == "https://ca.example/why")
        assert certbot.renewed("late.test")
        assert "ECDSA" not in certbot.certificate("late.test").issuer.rfc4514_string()
        new_chain = certbot.live("late.test", "chain.pem")
        openssl("verify", "-CAfile", ca.trust_anchors, "-untrusted", new_chain, leaf)
        soon(lambda: "explanationURL" not in told(running, leaf.read_bytes()))

        old, issuer = tmp_path / "old.pem", tmp_path / "old-chain.pem"
        old.write_bytes(first)
        issuer.write_bytes(chain)
        asked = ("-url", f"{ca.http_url}/ca/ocsp", "-CAfile", ca.trust_anchors, "-issuer", issuer, "-cert", old)
        assert b"old.pem: good" in openssl("ocsp", *asked).stdout.replace(bytes(str(tmp_path) + "/", "ascii"), b"")

        run("opencert", "ca", "trust", "ecdsa", "--state-dir", ca.state)
        soon(lambda: "explanationURL" not in told(running, first))
        run("opencert", "audit", "verify", "--state-dir", ca.state)


def test_apache_renews_when_it_is_told_to(tmp_path: Path) -> None:
    with site(tmp_path, settings='[acme]\nexplanation_url = "https://ca.example/why"\n') as running:
        ca = running.ca
        (tmp_path / "apache").mkdir()
        apache = Apache(Machine(running, tmp_path / "apache"), "http-01")
        with apache.running() as process:
            apache.get(process, served(ca.tlsalpn01_port))
            first = apache.current()
        key_type = "ecdsa" if "ECDSA" in first.certificate.issuer.rfc4514_string() else "rsa"
        run("opencert", "ca", "distrust", key_type, "--state-dir", ca.state)
        soon(lambda: "explanationURL" in told(running, first.certificate_file.read_bytes()))
        before = first.certificate
        with apache.running() as process:  # it asks when it starts, and then as often as it is told to
            apache.get(process, served(ca.tlsalpn01_port))
        second = apache.current()
        assert second.certificate.issuer != before.issuer
        assert "CA advises renew via ARI" in apache.log.read_text()
        apache.machine.check(second.certificate_file)
