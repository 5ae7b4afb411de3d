"""One run of the reactor for one EST deed: the options of the command line in, certificates out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.internet.ssl import TLSVersion
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from opencertd.cli.certificate import read_certificates
from opencertd.cli.files import prompt_secret, read_secret, report
from opencertd.cli.keys import read_key
from opencertd.client.authentication import Credentials
from opencertd.client.bounds import Limits
from opencertd.client.est import EstClient, Linking, Patience, parse_est_url
from opencertd.client.http import HttpsClient
from opencertd.client.line import Line
from opencertd.client.redirects import Redirect, host, readable
from opencertd.client.tls import Identity, TlsSettings
from opencertd.clock import SystemClock
from opencertd.errors import StartError

T = TypeVar("T")


@dataclass(frozen=True)
class Connection:
    """The options of a command that speaks to a server, as they were typed."""

    server: str
    trust_anchors: str | None
    user: str | None
    password_file: str | None
    cert: str | None
    key: str | None
    passphrase_file: str | None
    timeout: float
    tls: str | None


def read_identity(cert: str | None, key: str | None, passphrase_file: str | None) -> Identity | None:
    """The client certificate and its key; the key may be in the certificate's file. Raises StartError."""
    if cert is None:
        if key is not None:
            raise click.UsageError("--key needs --cert: the certificate that goes with it")
        return None
    certificate, *chain = read_certificates(cert)
    private = read_key(key or cert, passphrase_file)
    if _spki(private.public_key()) != _spki(certificate.public_key()):
        raise StartError(f"the key in {key or cert} does not belong to the first certificate in {cert}")
    return Identity(certificate, private, tuple(chain))


def _spki(key: Any) -> bytes:
    spki: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return spki


def run_est(
    connection: Connection,
    deed: Callable[[EstClient], Coroutine[Deferred[Any], Any, T]],
    *,
    identity: Identity | None = None,
    wait: float = 0.0,
    linked: bool | None = None,
    unverified: bool = False,
) -> T:
    """Do `deed` with a client for `connection` and return what it returns. Raises what it raises.

    `linked`: whether requests are linked to their TLS connection; None: when the server wants it.
    """
    base_url = parse_est_url(connection.server)
    anchors = None if connection.trust_anchors is None else read_certificates(connection.trust_anchors)
    if identity is None:
        identity = read_identity(connection.cert, connection.key, connection.passphrase_file)
    credentials = _credentials(connection)

    version = _VERSIONS.get(connection.tls or "")
    settings = TlsSettings(anchors, identity, version, unverified)
    patience = Patience(wait, lambda pause: report(f"the CA decides later; asking again in {pause} seconds"))

    async def session(reactor: IReactorTime) -> T:
        line = Line(reactor, settings, Limits(seconds=connection.timeout))
        http = HttpsClient(line, credentials, follow=follow)
        try:
            return await deed(
                EstClient(
                    http, base_url, reactor=reactor, clock=SystemClock(), patience=patience, linking=_LINKING[linked]
                )
            )
        finally:
            await line.close()

    return run_reactor(session)


_VERSIONS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}
_LINKING = {None: Linking.WANTED, True: Linking.ALWAYS, False: Linking.NEVER}


def follow(redirect: Redirect) -> bool:
    """Ask the person at the terminal whether to go to another server; without a terminal, no."""
    if not sys.stdin.isatty():
        return False
    question = f"{host(redirect.url)} sends this {redirect.method} on to another server, {readable(redirect.target)}. "
    return confirm(question + "Go there, and prove there who you are if it asks?")


def confirm(question: str) -> bool:
    """The person's yes or no. An interrupt ends it with `Abort`, also when the reactor has taken that signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, err=True)
    finally:
        signal.signal(signal.SIGINT, before)


def _credentials(connection: Connection) -> Credentials | None:
    if connection.user is None:
        if connection.password_file is not None:
            raise click.UsageError("--password-file needs --user")
        return None
    if connection.password_file is not None:
        return Credentials(connection.user, read_secret(connection.password_file, "password"))
    return Credentials(connection.user, prompt_secret(f"password of {connection.user}", "--password-file"))


def run_reactor(deed: Callable[[IReactorTime], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Run the reactor until `deed` is done; an interrupt ends it with `Abort`."""
    from twisted.internet import reactor

    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)  # what fails is said once
    core, time = IReactorCore(reactor), IReactorTime(reactor)
    outcome: list[T | Failure] = []

    def start() -> None:
        running: Deferred[T] = Deferred.fromCoroutine(deed(time))
        running.addBoth(outcome.append).addCallback(lambda _: core.stop())

    core.callWhenRunning(start)
    core.run()
    if not outcome:
        raise click.Abort
    result = outcome[0]
    if not isinstance(result, Failure):
        return result
    raise cast(Exception, result.value)


def certificates_pem(certificates: tuple[x509.Certificate, ...]) -> bytes:
    """The certificates one after another in PEM."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
