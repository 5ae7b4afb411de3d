"""`python -m bench [--quick] [--results DIR]`: start a daemon on loopback, measure, print a table, write JSON."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.plan import QUICK, Amount, Bench
from bench.report import table, write


def say(text: str) -> None:
    """Progress, kept apart from the table."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the daemon on one worker.")
    parser.add_argument("--quick", action="store_true", help="a short run: shows that it works, measures nothing")
    default = Path(__file__).with_name("results")
    parser.add_argument("--results", type=Path, default=default, help=f"where the JSON goes (default {default})")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="opencertd-bench-") as directory:
        amount = QUICK if options.quick else Amount()
        report = Bench(Path(directory), amount, say).run(options.quick)
    print(table(report))
    say(f"written to {write(report, options.results)}")


if __name__ == "__main__":
    main()
