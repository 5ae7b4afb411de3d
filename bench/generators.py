"""A load in several processes: each prepares itself, all start together, and the server's CPU is read around it."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from typing import Any, Protocol

from bench.measure import Result, Tally, cpu_seconds, summarize

Load = Callable[[Any, Barrier], Tally]
"""Runs in a process of its own: prepares, waits at the barrier, works, tallies."""


class Server(Protocol):
    """What is loaded: the ids of its processes."""

    def pids(self) -> list[int]: ...


PREPARATION = 60.0  # seconds until every process must stand at the barrier
MOST_PROCESSES = 6


def spare_processes(clients: int) -> int:
    """How many generators: the cores but one for the server and one for what answers validations, at least one."""
    return max(1, min(clients, (os.cpu_count() or 1) - 2, MOST_PROCESSES))


def shares(clients: int) -> list[int]:
    """`clients` spread over the processes."""
    processes = spare_processes(clients)
    return [clients // processes + (number < clients % processes) for number in range(processes)]


def _enter(load: Load, task: Any, barrier: Barrier, results: Any) -> None:
    try:
        results.put(load(task, barrier))
    except Exception as error:
        barrier.abort()
        results.put(error)
        raise


def generate(
    name: str, ca: Server, load: Load, tasks: Sequence[Any], *, clients: int, limit: float, note: str = ""
) -> Result:
    """Run `load` for each of `tasks` at once. Raises RuntimeError when it has not ended after `limit` seconds."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(tasks) + 1, timeout=PREPARATION)
    results = context.Queue()
    processes = [context.Process(target=_enter, args=(load, task, barrier, results)) for task in tasks]
    for process in processes:
        process.start()
    try:
        barrier.wait()
        pids = ca.pids()
        before = cpu_seconds(pids)
        tallies = [results.get(timeout=limit) for _ in processes]
        spent = cpu_seconds(pids) - before
    except queue.Empty:
        raise RuntimeError(f"{name}: not done after {limit} seconds") from None
    except threading.BrokenBarrierError:
        raise RuntimeError(f"{name}: a load generator failed: {results.get(timeout=5)!r}") from None
    finally:
        for process in processes:
            process.terminate()
            process.join()
    failures = [tally for tally in tallies if isinstance(tally, BaseException)]
    if failures:
        raise RuntimeError(f"{name}: a load generator failed") from failures[0]
    return summarize(name, clients, tallies, spent, note)
