"""`twistd -n opencert …`: the options, and the service made of them.

The command line, the environment and the settings file are told apart here and nowhere else; what is wrong with any of
them is one sentence and a non-zero exit before anything listens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twisted.application.service import IService
from twisted.python import usage

from opencertd.config import ENVIRONMENT_PREFIX, Settings, read_settings
from opencertd.errors import StartError, sentence_of
from opencertd.hooks import Hooks
from opencertd.issuance.approvals import Decide
from opencertd.ocsp.inquiry import CheckInquiry

T = TypeVar("T")


class Options(usage.Options):
    """Options of the `opencert` plugin. Each is also a key of the settings file and an `OPENCERT_…` variable."""

    synopsis = "[options]"
    longdesc = (
        "Runs a certificate authority: ACME, EST, OCSP, CRL and the /ca API.\n"
        "Every option is also an environment variable (--http-port is OPENCERT_HTTP_PORT) and a key of the settings "
        "file (http_port); the command line wins over the environment, the environment over the file.\n"
        'To try it: twistd -n opencert --dn "CN=My Internal CA" --state-dir ./ca'
    )

    optParameters = [
        ["config", "c", None, "Settings file (TOML); etc/opencertd.toml explains every key."],
        ["dn", None, None, "Make a CA of this name at first start: 'CN=My CA' or a full 'CN=…,O=…,C=…'."],
        ["rsa", None, None, "Existing RSA CA: PEM certificate, chain, or certificate and key."],
        ["rsa-key", None, None, "Its private key, if not in the same file."],
        ["ec", None, None, "Existing EC CA: PEM certificate, chain, or certificate and key."],
        ["ec-key", None, None, "Its private key, if not in the same file."],
        ["key-passphrase-file", None, None, "File with the passphrase of CA keys, brought and kept."],
        [
            "key-store",
            None,
            None,
            "Where --dn makes CA keys: file, or pkcs11 for the token of [pkcs11]. [default: file]",
        ],
        ["state-dir", None, None, "Keys, certificates and SQLite. [default: per user; /var/lib/opencertd as root]"],
        ["database", None, None, "sqlite:////path or postgresql://… [default: SQLite in the state directory]"],
        ["port", None, None, "HTTPS port. [default: 5001]"],
        ["http-port", None, None, "Plain HTTP port for OCSP, CRLs and CA certificates. [default: off]"],
        ["external-url", None, None, "What clients see, as behind a proxy. [default: https://HOSTNAME:PORT]"],
        ["tls-cert", None, None, "Own TLS certificate chain for the listener. [default: one by this CA]"],
        ["tls-key", None, None, "Its private key."],
        ["workers", None, None, "Processes that share the listeners and the store. [default: 1]"],
        ["authority", None, None, "OpenID Connect issuer of bearer tokens. [default: no tokens]"],
        ["audience", None, None, "Audience that tokens must be made for."],
        ["est-users", None, None, "Users for HTTP Basic and Digest, made by `opencert user add`."],
        ["dns-server", None, None, "ADDRESS:PORT of the resolver for validation. [default: this host's]"],
        ["http01-port", None, None, "Where http-01 is looked for. [default: 80]"],
        ["tlsalpn01-port", None, None, "Where tls-alpn-01 is looked for. [default: 443]"],
    ]

    def _append(self, key: str, value: str) -> None:
        self.setdefault(key, []).append(value)

    def opt_key_type(self, name: str) -> None:
        """Keys of --dn's CA: ecdsa, rsa, rsa-pss, ed25519, ml-dsa-65 … May be repeated. [default: ecdsa, rsa]"""
        self._append("key-type", name)

    def opt_listen(self, endpoint: str) -> None:
        """Twisted endpoint string to serve HTTPS on, instead of --port. May be repeated."""
        self._append("listen", endpoint)

    def opt_ocsp(self, url: str) -> None:
        """OCSP URL to put into issued certificates. May be repeated."""
        self._append("ocsp", url)

    def opt_ca_issuer(self, url: str) -> None:
        """URL of the issuer's certificate to put into issued certificates; {issuer} is its name. May be repeated."""
        self._append("ca-issuer", url)

    def opt_crl(self, url: str) -> None:
        """CRL URL to put into issued certificates; {issuer} is the issuer's name. May be repeated."""
        self._append("crl", url)

    def opt_hostname(self, name: str) -> None:
        """Name or address in the daemon's own TLS certificate. May be repeated."""
        self._append("hostname", name)

    def opt_validation_allow(self, network: str) -> None:
        """Address range (CIDR) that validation may reach though it is refused otherwise. May be repeated."""
        self._append("validation-allow", network)

    def opt_test_faults(self) -> None:
        """Make mistakes on purpose, for tests of ACME clients ([acme.test_faults]). Only for a CA made with it."""
        self["test-faults"] = True

    def opt_caa_identity(self, domain: str) -> None:
        """Domain by which CAA records name this CA; with one, CAA is checked. May be repeated. [default: no CAA]"""
        self._append("caa-identity", domain)

    def postOptions(self) -> None:
        """Read and check all settings. Ends the process with one sentence when something is wrong with them.

        A `usage.UsageError` would do so too, but only after forty lines of help.
        """
        given = {key.replace("-", "_"): value for key, value in self.items() if value is not None}
        file = given.pop("config", None) or os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
        self.settings = or_exit(lambda: read_settings(given, os.environ, Path(file) if file else None))


def or_exit(deed: Callable[[], T]) -> T:
    """The result of `deed`; a StartError, or what a file or the network refuses, ends the process with its sentence."""
    try:
        return deed()
    except StartError as error:
        why = str(error)
    except OSError as error:
        why = sentence_of(error)
    sys.stderr.write(f"opencert: {why}\n")
    raise SystemExit(1)


def makeService(options: Options) -> IService:
    """The daemon as a service. Ends the process with one sentence when the CA cannot start."""
    return or_exit(lambda: make_daemon(options.settings))


def make_daemon(settings: Settings, decide: Decide | None = None, check_ocsp: CheckInquiry | None = None) -> IService:
    """The daemon for checked settings; for those who embed it in an application of their own. Raises StartError.

    `decide`: called with each request that waits for approval, whenever its requester asks. `check_ocsp`: called with
    each OCSP request, and says whether it is answered. Both need `workers` to be 1.
    """
    # The wiring imports Klein and so installs a reactor, which whoever reads only the options should be spared.
    from opencertd.processes import Daemon

    return Daemon.prepared(settings, Hooks(decide, check_ocsp))
