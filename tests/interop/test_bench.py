"""The benchmark runs through, and its table and JSON say what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.interop.daemon import ROOT, environment


def test_quick_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--results", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    (path,) = tmp_path.glob("*.json")
    report = json.loads(path.read_text())
    assert {"date", "machine", "versions", "first_start", "later_starts", "memory_idle"} <= set(report)
    for result in report["results"]:
        assert result["operations"] > 0
        assert result["errors"] == 0, result
        assert result["name"] in done.stdout
    assert len(report["results"]) == 1 + 2 + 3 + 3
    peer, *own = [result for result in report["results"] if result["finalize_p95_ms"]]
    assert "Pebble" in peer["name"] and len(own) == 2
    costs = {cost["name"]: cost for cost in report["key_types"]}
    assert costs["ml-dsa-87"]["certificate"] > costs["ml-dsa-44"]["certificate"] > costs["rsa-4096"]["certificate"]
    assert all(name in done.stdout for name in costs)
    assert report["core"]["rate"] > 0
    assert "bare P-256 signatures" in done.stdout


def test_quick_run_of_status_beside_its_peers() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.status", "--certificates", "300", "--seconds", "1"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    table = [line.split("|") for line in done.stdout.splitlines()[2:]]
    assert len(table) == 12
    assert all(float(cells[2].replace(",", "")) > 0 and float(cells[6].replace(",", "")) > 0 for cells in table)


def test_quick_run_of_enrolment_beside_bare_tls() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.enrolment", "--seconds", "1", "--workers", "2", "--keys", "RSA-2048"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    table = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()[2:]]
    assert len(table) == 5
    assert all(float(cells[4].replace(",", "")) > 0 for cells in table)
    (ours,) = [cells for cells in table if cells[3] == "simplereenroll, a full mTLS handshake each"]
    assert all(float(share) > 0 for share in ours[7:11])
