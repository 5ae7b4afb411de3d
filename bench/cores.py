"""How the ACME load grows with the cores: N workers beside Pebble on N cores, in turn.

`python -m bench.cores [--seconds S] [--rounds R] N…` prints a line for each N, of the best of R rounds on either side.
The load generator wants cores too: with more workers than half the cores, it is what is measured.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import pebble
from bench.measure import Result
from bench.plan import Amount, Bench


def rounds(workers: int, seconds: float, count: int) -> tuple[Result, Result]:
    """Of as many rounds, each on a new CA, the best result of Pebble, and ours."""
    found = []
    for _ in range(count):
        with tempfile.TemporaryDirectory(prefix="opencertd-bench-") as directory:
            bench = Bench(Path(directory), Amount(seconds=seconds), print, workers=workers)
            found.append(bench.beside_pebble())
    peers, own = zip(*found, strict=True)
    return max(peers, key=_rate), max(own, key=_rate)


def _rate(result: Result) -> float:
    return result.rate


def _words(result: Result) -> str:
    return (
        f"{result.rate:.0f} flows/s at {result.server_cpu_us:,.0f} µs CPU, finalize {result.finalize_p95_ms:.0f} ms at "
        f"its 95th percentile, {result.errors} errors"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.cores", description="Measure ACME with several workers.")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("workers", type=int, nargs="+")
    options = parser.parse_args()
    for workers in options.workers:
        peer, own = rounds(workers, options.seconds, options.rounds)
        print(f"{workers} cores, {pebble.CLIENTS} clients: Pebble {_words(peer)}", flush=True)
        times = own.rate / peer.rate
        print(f"{workers} workers, {pebble.CLIENTS} clients: {_words(own)}: {times:.2f} times Pebble", flush=True)


if __name__ == "__main__":
    main()
