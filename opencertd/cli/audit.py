"""`opencert audit …`: read the audit chain where it lies, and tell whether anybody has changed it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from opencertd.cli.files import report
from opencertd.errors import StartError

if TYPE_CHECKING:
    from opencertd.issuance.checkpoints import Checkpoint
    from opencertd.model.audit import AuditEntry
    from opencertd.store.database import Database

Command = TypeVar("Command", bound=Callable[..., Any])

_PAGE = 1000
_EVER = datetime(1970, 1, 2, tzinfo=UTC)
_CLOCKS_APART = timedelta(minutes=2)
"""By how much the clocks of nodes may differ, of which one stores a certificate and another signs a checkpoint."""

_COLUMNS = ("sequence", "at", "deed", "proof", "who", "label", "result", "tbs_sha256", "what", "previous", "hash")


def _where_options(command: Command) -> Command:
    for option in (
        click.option("--database", metavar="URL", help="The database, where the daemon was given one."),
        click.option(
            "--state-dir", metavar="DIR", help="The daemon's state directory. [default: as for twistd opencert]"
        ),
    ):
        command = option(command)
    return command


@click.group()
def audit() -> None:
    """The audit log: what this CA did, for whom, and that nobody has changed it since."""


@audit.command(
    "verify",
    epilog="""\b
Examples:
  opencert audit verify --state-dir /var/lib/opencertd
  opencert audit verify --database postgresql://opencertd@db.example.com/opencertd \\
      --checkpoints node1.jsonl --checkpoints node2.jsonl

\b
The daemon may run meanwhile. Exit code 1 when anything is wrong; each finding names its entries.""",
)
@_where_options
@click.option(
    "--checkpoints",
    "files",
    multiple=True,
    metavar="FILE",
    help="Checkpoints; can be repeated. [default: audit-checkpoints.jsonl in the state directory]",
)
def verify(*, state_dir: str | None, database: str | None, files: tuple[str, ...]) -> None:
    """Check every entry, every link and the end of the audit log; name what was changed, removed or cut off."""
    from opencertd.issuance.audit_verdict import Examination
    from opencertd.store.audit_witnesses import marks_of

    found = 0
    with _opened(state_dir, database) as opened:
        checkpoints, faults = _checkpoints(opened, files, state_dir)
        examination = Examination(checkpoints)
        for words in faults:
            click.echo(words)
        since = max((checkpoint.at for checkpoint in checkpoints), default=_EVER)
        told: set[str | None] = set()
        for entry in _entries(opened):
            if entry.at >= since - _CLOCKS_APART:
                told.update(marks_of(entry))
            for finding in examination.examine(entry):
                found += 1
                click.echo(str(finding))
        for finding in examination.finish():
            found += 1
            click.echo(str(finding))
        for words in _unaccounted(opened, since, told):
            found += 1
            click.echo(words)
    if found or faults:
        raise StartError(f"the audit log is not as it was written: {found} findings, {len(faults)} bad checkpoints")
    report(
        f"{examination.end} entries, all as they were written; "
        f"{len(checkpoints)} checkpoints vouch for those up to {examination.confirmed}"
    )
    if examination.confirmed < examination.end:
        report(
            "what was signed and revoked since the last checkpoint has its entries; whether refusals had is not known"
        )


@audit.command(
    "export",
    epilog="""\b
Examples:
  opencert audit export --state-dir /var/lib/opencertd --since 2026-06-01 > june.jsonl
  opencert audit export --database postgresql://opencertd@db.example.com/opencertd --format csv""",
)
@_where_options
@click.option("--since", metavar="TIME", help="From this time on: 2026-06-01 or 2026-06-01T12:00:00, UTC.")
@click.option("--until", metavar="TIME", help="Up to but not including this time.")
@click.option(
    "--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", help="Form of the output. [jsonl]"
)
def export(*, state_dir: str | None, database: str | None, since: str | None, until: str | None, form: str) -> None:
    """Write the entries of the audit log to standard output, one a line."""
    first, last = _time("--since", since), _time("--until", until)
    show = _as_csv if form == "csv" else _as_json
    with _opened(state_dir, database) as opened:
        if form == "csv":
            click.echo(",".join(_COLUMNS))
        for entry in _entries(opened):
            if (first is None or entry.at >= first) and (last is None or entry.at < last):
                click.echo(show(entry))


def _as_json(entry: AuditEntry) -> str:
    shown = _shown(entry)
    shown["what"] = json.loads(entry.what)
    return json.dumps(shown, separators=(",", ":"))


def _as_csv(entry: AuditEntry) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(_shown(entry).values())
    return line.getvalue()


def _shown(entry: AuditEntry) -> dict[str, Any]:
    shown = {name: getattr(entry, name) for name in _COLUMNS}
    shown["at"] = entry.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**shown, "previous": entry.previous.hex(), "hash": entry.hash.hex()}


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{option}: {text!r} is not a time: write 2026-06-01 or 2026-06-01T12:00:00") from None
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


@contextmanager
def _opened(state_dir: str | None, database: str | None) -> Iterator[Database]:
    """The database, with no reactor; one that is not there is not made."""
    from opencertd.first_start import run_now
    from opencertd.store.database import Database

    url = database
    if url is None:
        path = _state_dir(state_dir).resolve() / "opencertd.sqlite3"
        if not path.is_file():
            raise StartError(f"there is no database {path}: name the daemon's --state-dir or --database")
        url = f"sqlite:///{path}"
    elif url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        raise StartError(f"there is no database {url}")
    opened = Database.open_inline(url)
    try:
        yield opened
    finally:
        run_now(opened.close())


def _state_dir(given: str | None) -> Path:
    from opencertd.config import default_state_dir

    return Path(given) if given else default_state_dir()


def _entries(database: Database) -> Iterator[AuditEntry]:
    from opencertd.clock import SystemClock
    from opencertd.first_start import run_now
    from opencertd.store.audit import SqlAuditStore

    store = SqlAuditStore(database, SystemClock())

    async def page(after: int | None) -> tuple[AuditEntry, ...]:
        return await store.page(after, _PAGE)

    after = None
    while entries := run_now(page(after)):
        yield from entries
        after = entries[-1].sequence


def _unaccounted(database: Database, since: datetime, told: set[str | None]) -> Iterator[str]:
    """In words, what was signed or revoked since then and has no entry: it was cut off, checkpoint or not."""
    from opencertd.first_start import run_now
    from opencertd.store.audit_witnesses import SqlAuditWitnesses, Witness

    async def witnesses() -> tuple[Witness, ...]:
        return await SqlAuditWitnesses(database).unaccounted(since, told)

    for witness in run_now(witnesses()):
        yield f"the entry of {witness.words}, of {witness.at:%Y-%m-%d %H:%M:%S} UTC, is missing: cut off"


def _checkpoints(
    database: Database, files: tuple[str, ...], state_dir: str | None
) -> tuple[tuple[Checkpoint, ...], list[str]]:
    """The good checkpoints of the files, and in words what is wrong with the others."""
    from cryptography import x509

    from opencertd.audit_checkpoints import FILE_NAME
    from opencertd.clock import SystemClock
    from opencertd.first_start import run_now
    from opencertd.issuance.checkpoints import fault_of, parse_line
    from opencertd.store.certificates import SqlCertificateStore

    async def issuers() -> list[x509.Certificate]:
        records = await SqlCertificateStore(database, SystemClock()).issuers()
        return [x509.load_der_x509_certificate(record.certificate_der) for record in records]

    known = run_now(issuers())
    good, faults = [], []
    for file in files or _default_file(_state_dir(state_dir) / FILE_NAME):
        for number, line in enumerate(_lines(file), 1):
            try:
                signed = parse_line(line)
            except ValueError as error:
                faults.append(f"{file}:{number}: {error}")
                continue
            fault = fault_of(signed, known)
            if fault:
                faults.append(f"{file}:{number}: the checkpoint of entry {signed.checkpoint.sequence}: {fault}")
            else:
                good.append(signed.checkpoint)
    return tuple(good), faults


def _default_file(path: Path) -> tuple[str, ...]:
    if path.is_file():
        return (str(path),)
    report(f"there is no {path}: what was cut off at the end cannot be known without checkpoints")
    return ()


def _lines(file: str) -> Iterator[bytes]:
    try:
        with Path(file).open("rb") as opened:
            yield from (line for line in opened if line.strip())
    except OSError as error:
        raise StartError(f"cannot read {file}: {error.strerror}") from None
