"""The table a person reads and the JSON that numbers are compared by."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.backends.openssl import backend

from bench.measure import Memory, Result
from tests.interop.daemon import ROOT

PACKAGES = ("twisted", "klein", "cryptography", "pyOpenSSL", "SQLAlchemy")


@dataclass(frozen=True)
class Report:
    """Everything one run found. Starts in seconds, from the command to the first answer of `/directory`."""

    first_start: float
    later_starts: Sequence[float]
    memory_idle: Memory
    memory_after: Memory
    results: Sequence[Result]
    quick: bool


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    total = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(total / 1024**2, 1),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """What was measured, and on top of what."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    found["python"] = platform.python_version()
    found["openssl (cryptography)"] = backend.openssl_version_text()
    found["openssl (load generator)"] = ssl.OPENSSL_VERSION
    found["revision"] = revision()
    return found


def revision() -> str:
    """The commit of the working tree, `+` when it has changes; empty outside a repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def document(report: Report) -> dict[str, Any]:
    """The report as JSON shows it."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        **asdict(report),
    }


def write(report: Report, directory: Path) -> Path:
    """Write the JSON; its file is named by the time."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.json"
    path.write_text(json.dumps(document(report), indent=2) + "\n")
    return path


COLUMNS = (
    ("what, on one worker", "name", "<46"),
    ("clients", "clients", ">7"),
    ("per second", "rate", ">10.0f"),
    ("server CPU µs each", "server_cpu_us", ">18.0f"),
    ("server cores", "server_load", ">12.2f"),
    ("client cores", "client_load", ">12.2f"),
    ("p50 ms", "p50_ms", ">8.2f"),
    ("p99 ms", "p99_ms", ">8.2f"),
    ("errors", "errors", ">6"),
)


def table(report: Report) -> str:
    """Lines for a terminal."""
    head = "  ".join(format(title, form.split(".")[0]) for title, _, form in COLUMNS)
    lines = [head, "-" * len(head)]
    for result in report.results:
        lines.append("  ".join(format(getattr(result, name), form) for _, name, form in COLUMNS))
        if result.note:
            lines.append(f"    {result.note}")
    starts = ", ".join(f"{seconds:.2f}" for seconds in report.later_starts)
    idle, after = report.memory_idle, report.memory_after
    this = machine()
    lines += [
        "",
        f"first start (keys are made): {report.first_start:.2f} s; later starts: {starts} s to the first answer",
        f"memory: {idle.rss} MB when idle, {after.rss} MB after the load ({after.processes} processes)",
        f"{this['cores']} cores of {this['cpu']}, {this['memory_gb']} GB; {datetime.now(UTC):%Y-%m-%d}",
    ]
    return "\n".join(lines)
