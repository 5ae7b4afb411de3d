"""`opencert user …`: who may enrol by password, in the file that `twistd opencert --est-users` reads."""

from __future__ import annotations

from pathlib import Path

import click

from opencertd.cli.files import prompt_secret, read_secret, report
from opencertd.errors import StartError

_users_file = click.option(
    "--est-users", "file", required=True, metavar="FILE", help="The users file (made with mode 0600 when missing)."
)


@click.group()
def user() -> None:
    """Users who enrol by EST with a password."""


@user.command(
    "add",
    epilog="""\b
Examples:
  opencert user add alice --est-users est-users.json
  opencert user add printer7 --est-users est-users.json --password-file secret \\
      --allow-name printer7.example.com --allow-name "*.printers.example.com\"""",
)
@click.argument("name")
@_users_file
@click.option("--password-file", metavar="FILE", help="Password on the file's first line. [default: ask twice]")
@click.option(
    "--allow-name",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="A name the user may have, or *.example.com for all below; can be repeated. [default: every name]",
)
@click.option("--digest", is_flag=True, help="Let the user log in by HTTP Digest too; its hashes are easier to guess.")
@click.option("--force", is_flag=True, help="Replace a user of this name: new password, new allowed names.")
def add(
    *, name: str, file: str, password_file: str | None, patterns: tuple[str, ...], digest: bool, force: bool
) -> None:
    """Add a user; a running daemon knows it within a second."""
    from opencertd.web.users import read_users, set_user

    path = Path(file)
    if not force and path.exists() and name in read_users(path):
        raise StartError(f"there is a user {name} in {file} already: use --force to replace it")
    if password_file:
        password = read_secret(password_file, "password")
    else:
        password = prompt_secret("password", "--password-file", twice=True)
    set_user(path, name, password, digest=digest, names=patterns or ("*",))
    report(f"user {name} written to {file}")


@user.command("list")
@_users_file
def list_users(*, file: str) -> None:
    """Show the users and the names they may ask for, one user a line."""
    from opencertd.web.users import read_users

    for known in read_users(Path(file)).values():
        digest = " (also by Digest)" if known.digests else ""
        click.echo(f"{known.name}: {', '.join(known.names)}{digest}")
