"""The table a person reads and the JSON that numbers are compared by."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import ssl
import subprocess
import timeit
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench import key_types
from bench.issuance import Found
from bench.markdown import markdown
from bench.measure import Memory, Result
from tests.interop.daemon import ROOT

PACKAGES = ("twisted", "klein", "cryptography", "pyOpenSSL", "SQLAlchemy")


@dataclass(frozen=True)
class Report:
    """Everything one run found. Starts in seconds, from the command to the first answer of `/directory`."""

    core: Found
    first_start: float
    later_starts: Sequence[float]
    memory_idle: Memory
    memory_after: Memory
    results: Sequence[Result]
    key_types: Sequence[key_types.Cost]
    quick: bool


@cache
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
        "p256_verify_us": round(verification_us(), 1),
    }


def verification_us() -> float:
    """Microseconds this machine takes to verify a P-256 signature now: the measure to compare machines by."""
    key = ec.generate_private_key(ec.SECP256R1())
    signature = key.sign(b"", ec.ECDSA(hashes.SHA256()))
    public, algorithm = key.public_key(), ec.ECDSA(hashes.SHA256())
    return min(timeit.repeat(lambda: public.verify(signature, b"", algorithm), number=50, repeat=10)) / 50 * 1e6


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
    ("on one worker", "name", "<48"),
    ("clients", "clients", ">7"),
    ("per second", "rate", ">10,.0f"),
    ("CPU µs each", "server_cpu_us", ">11,.0f"),
    ("server cores", "server_load", ">12.2f"),
    ("client cores", "client_load", ">12.2f"),
    ("p50 ms", "p50_ms", ">8.1f"),
    ("p99 ms", "p99_ms", ">8.1f"),
    ("errors", "errors", ">6"),
)


def table(report: Report) -> str:
    """Markdown tables that read well on a terminal too, and what else there is to say."""
    lines = [markdown(COLUMNS, report.results)]
    lines += [f"{result.name}: {result.note}" for result in report.results if result.note]
    starts = ", ".join(f"{seconds:.2f}" for seconds in report.later_starts)
    idle, after = report.memory_idle, report.memory_after
    this = machine()
    lines += ["", markdown(key_types.COLUMNS, report.key_types)]
    lines += [
        "",
        str(report.core),
        f"first start (keys are made): {report.first_start:.2f} s; later starts: {starts} s to the first answer",
        f"memory: {idle.rss} MB when idle, {after.rss} MB after the load ({after.processes} processes)",
        f"{this['cores']} cores of {this['cpu']}, {this['memory_gb']} GB, which verify a P-256 signature in "
        f"{this['p256_verify_us']:.0f} µs; {datetime.now(UTC):%Y-%m-%d}",
    ]
    return "\n".join(lines)
