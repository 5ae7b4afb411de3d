"""Running `opencert` and `openssl` from tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.internet.utils import getProcessOutputAndValue

from opencertd.cli import main

ROOT = Path(__file__).parents[2]


def opencert(*words: str | Path, stdin: bytes | None = None) -> Result:
    """The command in this process; nothing but one line on standard error, and no traceback, when it fails."""
    result = CliRunner().invoke(main, [str(word) for word in words], input=stdin)
    if result.exit_code == 1:
        check_one_line(result.stderr)
        assert result.stdout == ""
    assert result.exit_code in {0, 1, 2}
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def check_one_line(stderr: str) -> None:
    assert stderr.startswith("Error: "), stderr
    assert stderr.count("\n") == 1, stderr


def openssl(*words: str | Path, stdin: bytes = b"") -> str:
    """What openssl says, on both outputs; fails the test when it refuses."""
    done = subprocess.run(["openssl", *map(str, words)], input=stdin, capture_output=True, check=False, timeout=60)
    said = done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")
    assert done.returncode == 0, said
    return said


async def opencert_process(*words: str | Path) -> tuple[int, str, str]:
    """The command as a process of its own, while this one serves: exit code, standard output, standard error."""
    code = "from opencertd.cli import main; main(prog_name='opencert')"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    out, err, status = await getProcessOutputAndValue(
        sys.executable, ["-c", code, *map(str, words)], env=environment, path=str(ROOT)
    )
    assert "Traceback" not in err.decode()
    if status == 1:
        check_one_line(err.decode())
    return status, out.decode(), err.decode()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
