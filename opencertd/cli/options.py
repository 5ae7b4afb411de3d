"""Options that several commands share, so that they look and mean the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

CURVES = ("P-256", "P-384", "P-521")
KEY_KINDS = ("ec", "rsa", "ed25519", "ed448", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87")


def force_option(command: Command) -> Command:
    """`--force`"""
    return click.option("--force", is_flag=True, help="Replace output files that exist already.")(command)


def passphrase_option(command: Command) -> Command:
    """`--passphrase-file`, for reading a key"""
    return click.option(
        "--passphrase-file",
        metavar="FILE",
        help="Passphrase of an encrypted key, on the file's first line. [default: ask]",
    )(command)


def out_option(what: str) -> Callable[[Command], Command]:
    """A required `--out` for `what`"""
    return click.option("--out", required=True, metavar="FILE", help=f"Where to write {what}; - is standard output.")


def key_kind_options(command: Command) -> Command:
    """`--type`, `--size`, `--curve` of a new key"""
    for option in (
        click.option(
            "--curve",
            type=click.Choice(CURVES, False),
            metavar=f"[{'|'.join(CURVES)}]",
            help="Curve of an EC key. [default: P-256]",
        ),
        click.option(
            "--size",
            type=click.IntRange(2048, 8192),
            metavar="BITS",
            help="Size of an RSA key, 2048 to 8192. [default: 3072]",
        ),
        click.option(
            "--type",
            "kind",
            type=click.Choice(KEY_KINDS, False),
            metavar=f"[{'|'.join(KEY_KINDS)}]",
            help="Kind of key. [default: ec]",
        ),
    ):
        command = option(command)
    return command


def name_options(command: Command) -> Command:
    """`--subject` and `--san`"""
    for option in (
        click.option(
            "--san",
            "names",
            multiple=True,
            metavar="NAME",
            help="A name for the certificate: dns:…, ip:…, email:… or uri:…; can be repeated.",
        ),
        click.option("--subject", metavar="DN", help='Subject, such as "CN=www.example.com,O=Example,C=DE".'),
    ):
        command = option(command)
    return command
