"""Loads by wrk (Debian's package), which asks faster than any Python: what to ask is told in a line or two of Lua."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.measure import cpu_seconds

THREADS = 2
CONNECTIONS = 24

_RATE = re.compile(r"Requests/sec:\s*([0-9.]+)")
_DONE = re.compile(r"(\d+) requests in")
_TAIL = re.compile(r"99%\s*([0-9.]+)(us|ms|s)")
_FAULT = re.compile(r"(Non-2xx.*|Socket errors:.*)")
_TO_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Asked:
    """What to ask: a URL, and how. `script`: Lua that makes `request` or sets `wrk.…`; `close`: a connection each."""

    url: str
    script: str = ""
    close: bool = False


@dataclass(frozen=True)
class Rate:
    """What one server did. `cpu_us`: of its processors for each answer; `p99_ms`: of its slowest hundredth."""

    per_second: float
    cpu_us: float
    p99_ms: float


def run(asked: Asked, pids: list[int], seconds: float, scratch: Path) -> Rate:
    """Ask for so long. Raises RuntimeError when wrk fails or anything but good answers came back."""
    command = ["wrk", f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--latency"]
    if asked.script:
        path = scratch / "wrk.lua"
        path.write_text(asked.script)
        command += ["-s", str(path)]
    if asked.close:
        command += ["-H", "Connection: close"]
    before = cpu_seconds(pids)
    done = subprocess.run([*command, asked.url], capture_output=True, text=True, timeout=seconds + 60, check=False)
    spent = cpu_seconds(pids) - before
    rate, count, tail = (pattern.search(done.stdout) for pattern in (_RATE, _DONE, _TAIL))
    fault = _FAULT.search(done.stdout)
    if done.returncode or rate is None or count is None or tail is None or (fault is not None and not asked.close):
        raise RuntimeError(f"wrk {asked.url}: {done.stdout}{done.stderr}")
    p99_ms = float(tail[1]) * _TO_MS[tail[2]]
    return Rate(float(rate[1]), round(spent / max(1, int(count[1])) * 1e6, 1), round(p99_ms, 2))


def lua(data: bytes) -> str:
    """The octets as a Lua string."""
    return '"' + "".join(f"\\{octet:03d}" for octet in data) + '"'
