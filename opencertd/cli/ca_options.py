"""Options of `opencert ca …`: which CA is meant, and how a CA certificate that is to be made is described."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cryptography import x509

    from opencertd.config import Settings
    from opencertd.desk.deeds import Desk
    from opencertd.issuance.hierarchy import CaWish
    from opencertd.issuance.key_types import KeyType

Command = TypeVar("Command", bound=Callable[..., Any])

_YEARS = {"root": "20y", "sub": "10y"}


def where_options(command: Command) -> Command:
    """`--config`, `--state-dir`, `--database`: the CA that is meant, as its daemon has them."""
    for option in (
        click.option("--database", metavar="URL", help="The database, where the daemon was given one."),
        click.option("--state-dir", metavar="DIR", help="The daemon's state directory, if the settings do not say."),
        click.option(
            "--config", metavar="FILE", help="The daemon's settings file; its OPENCERT_… variables count too."
        ),
    ):
        command = option(command)
    return command


def settings_of(where: dict[str, Any], **more: Any) -> Settings:
    """The settings that `where_options` lead to. Raises StartError."""
    from opencertd.config import ENVIRONMENT_PREFIX, read_settings

    file = where["config"] or os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    given = {key: where[key] for key in ("state_dir", "database") if where[key]}
    given |= {key: value for key, value in more.items() if value}
    return read_settings(given, os.environ, Path(file) if file else None, existing=True)


def desk_of(where: dict[str, Any], *, may_be_new: bool = False, **more: Any) -> AbstractContextManager[Desk]:
    """The CA that `where_options` lead to, to do deeds on it. `may_be_new`: it is made where there is none."""
    from opencertd.clock import SystemClock
    from opencertd.desk.deeds import open_desk

    return open_desk(settings_of(where, **more), SystemClock(), may_be_new=may_be_new)


def key_options(command: Command) -> Command:
    """`--key-type`, `--key-store` of a CA's new key"""
    for option in (
        click.option(
            "--key-store",
            type=click.Choice(["file", "pkcs11"]),
            help="Where the key is made: a file, or the token of [pkcs11]. [default: as the settings say]",
        ),
        click.option(
            "--key-type",
            default="ecdsa",
            show_default=True,
            metavar="TYPE",
            help="ecdsa, ecdsa-p384, rsa, rsa-4096, rsa-pss, ed25519, ed448, ml-dsa-65 …",
        ),
    ):
        command = option(command)
    return command


def name_option(command: Command) -> Command:
    """`--dn`"""
    return click.option(
        "--dn", "name_text", required=True, metavar="DN", help='Subject, such as "CN=Office CA,O=Example,C=DE".'
    )(command)


def certificate_options(command: Command) -> Command:
    """What a CA certificate may be limited to."""
    for option in (
        click.option(
            "--signs",
            type=click.Choice(["end-entities", "cas"]),
            help="What it signs for profiles that name no issuer. [default: CAs if it may have CAs below it]",
        ),
        click.option(
            "--policy",
            "policies",
            multiple=True,
            metavar="OID[=URL]",
            help="A certificate policy, and where its practice statement is; can be repeated.",
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="SUBTREE",
            help="Names that nobody below it may have: as for --permit; can be repeated.",
        ),
        click.option(
            "--permit",
            multiple=True,
            metavar="SUBTREE",
            help="The only names of that kind below it: dns:example.com, ip:10.0.0.0/8, email:example.com, "
            "uri:.example.com, dir:O=Example; can be repeated.",
        ),
        click.option("--path-len", "path_length", type=click.IntRange(0, 20), help="How many CAs may follow below it."),
        click.option("--validity", metavar="TIME", help="Such as 5y or 90d. [default: 20y for a root, else 10y]"),
    ):
        command = option(command)
    return command


def parse_name(text: str) -> x509.Name:
    """The subject of a CA; `CN=` is added where there is no `=`. Raises a usage error."""
    from cryptography.x509.oid import NameOID

    from opencertd.asn1 import dn

    try:
        name = dn.normal(dn.parse_dn(text if "=" in text else f"CN={text}"))
    except ValueError as error:
        raise click.UsageError(f"--dn: {error}") from None
    if not name.get_attributes_for_oid(NameOID.COMMON_NAME):
        raise click.UsageError("--dn: it has no common name (CN=…)")
    return name


def parse_validity(option: str, text: str) -> timedelta:
    """A length of time. Raises a usage error."""
    from opencertd.model.durations import parse_duration

    try:
        length = parse_duration(text)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None
    if not timedelta(hours=1) <= length <= timedelta(days=365 * 100):
        raise click.UsageError(f"{option}: {text} is not between an hour and 100 years")
    return length


def parse_type(text: str) -> KeyType:
    """A key type. Raises a usage error."""
    from opencertd.issuance.key_types import parse_key_type

    try:
        return parse_key_type(text)
    except ValueError as error:
        raise click.UsageError(f"--key-type: {error}") from None


def wish_of(subject: x509.Name, given: dict[str, Any], *, root: bool) -> CaWish:
    """The CA that `certificate_options` describe. Raises a usage error."""
    from opencertd.issuance.hierarchy import CaWish
    from opencertd.issuance.name_constraints import build_constraints, parse_subtree
    from opencertd.model.certificates import IssuerRole

    path_length = given["path_length"]
    if path_length is None and not root and given["signs"] != "cas":
        path_length = 0
    signs = given["signs"] or ("end-entities" if path_length == 0 else "cas")
    if signs == "cas" and path_length == 0:
        raise click.UsageError("--signs cas: with --path-len 0 there may be no CA below it")
    try:
        constraints = build_constraints(map(parse_subtree, given["permit"]), map(parse_subtree, given["exclude"]))
    except ValueError as error:
        raise click.UsageError(f"--permit or --exclude: {error}") from None
    return CaWish(
        subject=subject,
        role=IssuerRole.ROOT if signs == "cas" else IssuerRole.ISSUING,
        validity=parse_validity("--validity", given["validity"] or _YEARS["root" if root else "sub"]),
        path_length=path_length,
        name_constraints=constraints,
        policies=tuple(_policy(text) for text in given["policies"]),
    )


def _policy(text: str) -> Any:
    from cryptography import x509

    from opencertd.issuance.profiles import CertificatePolicy

    oid, _, cps = text.partition("=")
    try:
        return CertificatePolicy(x509.ObjectIdentifier(oid), cps or None)
    except ValueError:
        raise click.UsageError(f"--policy: {oid!r} is no object identifier: write 1.3.6.1.4.1.…") from None
