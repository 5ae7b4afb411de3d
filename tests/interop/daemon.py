"""The daemon as a user starts it: `twistd -n opencert`, a state directory of its own, its log kept, no process left.

Used by the tests here and by the benchmark. Everything listens on loopback ports that were free a moment before.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DN = "CN=Interop CA,O=Example"
START_SECONDS = 60.0
STOP_SECONDS = 20.0


_random = random.SystemRandom()  # test tools seed the other one, and would draw the same port twice
_given: set[int] = set()


def free_port() -> int:
    """A TCP and UDP port nobody listens on, below the range that outgoing connections take theirs from."""
    for _ in range(200):
        port = _random.randint(15000, 32000)
        if port in _given:
            continue
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free port")


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without settings of the daemon, with the repository importable, and `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENCERT_")}
    path = os.pathsep.join(p for p in (str(ROOT), kept.get("PYTHONPATH")) if p)
    return {**kept, "PYTHONPATH": path, **extra}


def opencert_command() -> list[str]:
    """The words that start the `opencert` command: the script beside this Python, or the package where it lies."""
    script = Path(sys.executable).with_name("opencert")
    return [str(script)] if script.exists() else [sys.executable, "-c", "from opencertd.cli import main; main()"]


@dataclass
class Daemon:
    """One CA on this machine. `host` is its name in URLs; `extra` are options beyond those every test needs.

    `dn`: the CA to make; empty for one that is in the state directory already. `front_port`, `front_http_port`: where
    clients see it behind a reverse proxy.
    """

    state: Path
    workers: int = 1
    dn: str = DN
    host: str = "localhost"
    extra: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    http01_port: int = field(default_factory=free_port)
    tlsalpn01_port: int = field(default_factory=free_port)
    dns_port: int = field(default_factory=free_port)
    front_port: int = 0
    front_http_port: int = 0
    crl_path: str = "/ca/{issuer}/crl"
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.front_port or self.port}"

    @property
    def http_url(self) -> str:
        return f"http://{self.host}:{self.front_http_port or self.http_port}"

    @property
    def directory(self) -> str:
        return f"{self.url}/directory"

    @property
    def trust_anchors(self) -> Path:
        return self.state / "trust-anchors.pem"

    @property
    def log_file(self) -> Path:
        return self.state.with_name(self.state.name + ".log")

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def command(self) -> list[str]:
        """The command line, as a user would type it."""
        options = {
            **({"--dn": self.dn} if self.dn else {}),
            "--state-dir": self.state,
            "--port": self.port,
            "--http-port": self.http_port,
            "--external-url": self.url,
            "--ocsp": f"{self.http_url}/ca/ocsp",
            "--crl": f"{self.http_url}{self.crl_path}",
            "--ca-issuer": f"{self.http_url}/ca/{{issuer}}/certificate",
            "--workers": self.workers,
            "--dns-server": f"127.0.0.1:{self.dns_port}",
            "--http01-port": self.http01_port,
            "--tlsalpn01-port": self.tlsalpn01_port,
            "--validation-allow": "127.0.0.0/8",
        }
        twistd = Path(sys.executable).with_name("twistd")
        pairs = [str(part) for pair in options.items() for part in pair]
        return [str(twistd), "-n", "--pidfile=", "opencert", *pairs, *self.extra]

    def launch(self) -> None:
        """Start the process and return at once."""
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.state.parent,
                env=environment(),
                start_new_session=True,
            )

    def start(self) -> float:
        """Start the process and wait until it answers; the seconds that took.

        Raises RuntimeError with the end of the log when it does not.
        """
        began = time.monotonic()
        self.launch()
        while not self.answers():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > began + START_SECONDS:
                self.kill()
                raise RuntimeError(f"the daemon did not start:\n{self.log[-4000:]}")
            time.sleep(0.005)
        return time.monotonic() - began

    def answers(self) -> bool:
        """Whether the directory is there."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection("localhost", self.port, timeout=5, context=context)
        try:
            connection.request("GET", "/directory")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def pids(self) -> list[int]:
        """The daemon's first process, then all that come from it."""
        return family(self.process.pid) if self.process else []

    def stop(self) -> None:
        """Ask it to stop (SIGTERM) and wait; raises RuntimeError when it had to be killed."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise RuntimeError("the daemon did not stop when asked to") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """End every process of the daemon at once (SIGKILL)."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Daemon]:
        """Started, and stopped in the end."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def faults(self) -> list[str]:
        """Parts of the log that no input may cause: tracebacks, and what Twisted says of lost failures."""
        signs = ("Traceback", "Unhandled", "#critical")
        lines = self.log.splitlines()
        marked = [number for number, line in enumerate(lines) if any(sign in line for sign in signs)]
        shown = sorted({number + after for number in marked for after in range(25)})
        return [lines[number] for number in shown if number < len(lines)]


def listens(port: int) -> bool:
    """Whether somebody takes TCP connections on that port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def family(pid: int) -> list[int]:
    """`pid` and its living descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found.extend(int(child) for child in children.read_text().split())
    return found
