"""Files of the command line: read within limits, written whole or not at all, never over something by accident."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import sys
from pathlib import Path
from types import TracebackType

import click

from opencertd.errors import StartError

STANDARD = "-"
_MOST_BYTES = 16 << 20
_LONGEST_SECRET = 1000
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def read_input(path: str) -> bytes:
    """Everything in the file, or on standard input for `-`. Raises StartError."""
    if path == STANDARD:
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        try:
            with Path(path).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise StartError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise StartError(f"{shown(path)} is larger than {_MOST_BYTES >> 20} MiB")
    return data


def shown(path: str) -> str:
    """What to call `path` in a sentence."""
    return "standard input" if path == STANDARD else path


def read_secret(path: str, what: str) -> str:
    """The password or passphrase (`what`) on the first line of a file. Raises StartError."""
    lines = read_input(path).splitlines()
    if not lines or not lines[0]:
        raise StartError(f"{shown(path)} is empty: put the {what} on its first line")
    if len(lines[0]) > _LONGEST_SECRET:
        raise StartError(f"the {what} in {shown(path)} is longer than {_LONGEST_SECRET} bytes")
    try:
        return lines[0].decode("utf-8")
    except UnicodeDecodeError:
        raise StartError(f"the {what} in {shown(path)} is not UTF-8 text") from None


def prompt_secret(question: str, option: str, *, twice: bool = False) -> str:
    """Ask the person at the terminal, without echo; `option` is what to use where there is none."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"there is no terminal to ask for the {question}: use {option}")
    answer: str = click.prompt(question.capitalize(), hide_input=True, confirmation_prompt=twice, err=True)
    return answer


class OutputFile:
    """A file that appears with its whole content at `commit`, or not at all.

    On entering, a temporary file is opened beside it (mode 0600 when `private`), so that what stands in the way
    shows before anything is asked of a server. An existing file is replaced only by `force`, and a private key never
    by something else. `-` is standard output. Raises StartError.
    """

    def __init__(self, path: str, *, private: bool = False, force: bool = False) -> None:
        self._name = path
        self._target = Path(path).resolve()
        self._private = private
        self._force = force
        self._descriptor: int | None = None
        self._temporary = self._target.with_name(f".{self._target.name[:100]}.{secrets.token_hex(4)}.new")

    def __enter__(self) -> OutputFile:
        if self._name == STANDARD:
            return self
        self._check_target()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self._temporary, flags, 0o600 if self._private else 0o666)
        except OSError as error:
            raise self._failed(error) from None
        return self

    def _check_target(self) -> None:
        if self._target.is_dir():
            raise StartError(f"cannot write {self._name}: it is a directory")
        if not os.path.lexists(self._target):
            return
        if not self._force:
            raise StartError(f"{self._name} exists already: use --force to replace it")
        if not self._target.is_file():
            raise StartError(f"cannot replace {self._name}: it is not a plain file (use - for standard output)")
        if not self._private and b"PRIVATE KEY-----" in read_input(str(self._target)):
            raise StartError(f"{self._name} holds a private key: it is not replaced by something else")

    def commit(self, content: bytes) -> None:
        """Write `content` durably and give the file its name."""
        if self._name == STANDARD:
            stream = sys.stdout.buffer
            stream.write(content)
            stream.flush()
            return
        if self._descriptor is None:
            raise ValueError("the file is not open")
        descriptor, self._descriptor = self._descriptor, None
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._give_name()
        except OSError as error:
            raise self._failed(error) from None
        finally:
            self._temporary.unlink(missing_ok=True)

    def _give_name(self) -> None:
        if self._force:
            self._temporary.replace(self._target)
            return
        try:
            os.link(self._temporary, self._target)  # unlike a rename, it fails when the name was taken meanwhile
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS or os.path.lexists(self._target):
                raise
            self._temporary.replace(self._target)

    def _failed(self, error: OSError) -> StartError:
        return StartError(f"cannot write {self._name}: {error.strerror}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            with contextlib.suppress(OSError):
                self._temporary.unlink()


def check_different(**paths: str | None) -> None:
    """Raise a usage error when two outputs (by option name) would be the same file."""
    seen: dict[Path, str] = {}
    for option, path in paths.items():
        if path is None or path == STANDARD:
            continue
        name = "--" + option.replace("_", "-")
        other = seen.setdefault(Path(path).resolve(), name)
        if other != name:
            raise click.UsageError(f"{other} and {name} name the same file")


def report(text: str) -> None:
    """Tell the person what was done; on standard error, since standard output may be the product."""
    click.echo(text, err=True)
