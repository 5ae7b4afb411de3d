"""A CA with its surroundings: users who may enrol, the DNS it asks, and a log that must stay clean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop.clients import run
from tests.interop.daemon import DN, Daemon, free_port
from tests.interop.https import PASSWORD, USER
from tests.interop.nginx import nginx
from tests.interop.records import DnsServer


@dataclass(frozen=True)
class Site:
    """A CA and the DNS it asks."""

    ca: Daemon
    dns: DnsServer


@contextmanager
def site(
    directory: Path,
    workers: int = 1,
    digest: bool = False,
    host: str = "localhost",
    key_types: tuple[str, ...] = (),
    settings: str = "",
    dn: str = DN,
    fronted: bool = False,
    sockets: tuple[Path, ...] = (),
) -> Iterator[Site]:
    """A CA with its surroundings, running; its log must be free of tracebacks in the end.

    `settings`: TOML for what has no option on the command line. `dn`: empty for a CA that is in the state directory.
    `fronted`: clients see it behind nginx. `sockets`: Unix sockets to listen on besides.
    """
    users = directory / "est-users"
    password = directory / "password"
    password.write_text(PASSWORD + "\n")
    options = ("--digest",) if digest else ()
    run("opencert", "user", "add", USER, "--est-users", users, "--password-file", password, *options)
    names = () if host == "localhost" else ("--hostname", host)
    kinds = (word for key_type in key_types for word in ("--key-type", key_type))
    config = directory / "opencertd.toml"
    config.write_text(settings)
    extra = ("--config", str(config), "--est-users", str(users), *names, *kinds)
    ca = Daemon(directory / "state", workers=workers, dn=dn, host=host, extra=extra)
    if sockets:
        endpoints = (f"tcp:{ca.port}", *(f"unix:{path}:mode=660" for path in sockets))
        ca.extra = (*extra, *(word for endpoint in endpoints for word in ("--listen", endpoint)))
    if fronted:
        ca.front_port, ca.front_http_port = free_port(), free_port()
    with ExitStack() as stack:
        dns = stack.enter_context(DnsServer(ca.dns_port, directory / "records"))
        stack.enter_context(ca.running())
        if fronted:
            stack.enter_context(nginx(ca, directory / "nginx"))
        yield Site(ca, dns)
    if ca.faults():
        raise AssertionError("the log of the daemon has faults:\n" + "\n".join(ca.faults()[:50]))
