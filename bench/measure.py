"""What a daemon spent: CPU time and memory of its processes, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of the processes, and of children they have waited for (proc(5), fields 14 to 17)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / _TICK


@dataclass(frozen=True)
class Memory:
    """Megabytes: resident in all processes together, and their proportional share (shared pages counted once)."""

    rss: float
    pss: float
    processes: int


def memory(pids: list[int]) -> Memory:
    """Memory of the processes now."""
    rss = pss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Rss":
                rss += int(value.split()[0])
            elif name == "Pss":
                pss += int(value.split()[0])
    return Memory(round(rss / 1024, 1), round(pss / 1024, 1), len(pids))


@dataclass(frozen=True)
class Tally:
    """What one load generator did between the start and its end.

    `seconds` of wall time, `cpu` seconds of its own, `latencies` in seconds of a sample of the operations;
    `finalize`: those of the one step of ACME in which a certificate is made.
    """

    operations: int
    errors: int
    seconds: float
    cpu: float
    latencies: tuple[float, ...]
    first_error: str = ""
    finalize: tuple[float, ...] = ()


@dataclass(frozen=True)
class Result:
    """One line of the table. CPU in microseconds an operation; `client_load` in cores the generators kept busy."""

    name: str
    clients: int
    operations: int
    errors: int
    seconds: float
    rate: float
    server_cpu_us: float
    server_load: float
    client_load: float
    p50_ms: float
    p99_ms: float
    note: str = ""
    finalize_p95_ms: float = 0.0


def summarize(name: str, clients: int, tallies: list[Tally], server_cpu: float, note: str = "") -> Result:
    """The tallies of one load as one result. Raises RuntimeError when nothing at all succeeded."""
    operations = sum(tally.operations for tally in tallies)
    errors = sum(tally.errors for tally in tallies)
    first_error = next((tally.first_error for tally in tallies if tally.first_error), "")
    if not operations:
        raise RuntimeError(f"{name}: nothing succeeded; {first_error}")
    seconds = max(tally.seconds for tally in tallies)
    latencies = sorted(latency for tally in tallies for latency in tally.latencies)
    finalize = sorted(latency for tally in tallies for latency in tally.finalize)
    if finalize:
        note = (
            f"{note} {clients} clients: finalize takes {quantile(finalize, 0.95):.0f} ms at its 95th percentile".strip()
        )
    return Result(
        name=name,
        clients=clients,
        operations=operations,
        errors=errors,
        seconds=round(seconds, 3),
        rate=round(operations / seconds, 1),
        server_cpu_us=round(server_cpu / operations * 1e6, 1),
        server_load=round(server_cpu / seconds, 2),
        client_load=round(sum(tally.cpu for tally in tallies) / seconds, 2),
        p50_ms=quantile(latencies, 0.5),
        p99_ms=quantile(latencies, 0.99),
        note=note if not errors else f"{note} first error: {first_error}".strip(),
        finalize_p95_ms=quantile(finalize, 0.95),
    )


def quantile(ordered: list[float], share: float) -> float:
    """Milliseconds below which `share` of the latencies lie; 0 when there are none."""
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 2) if ordered else 0.0
