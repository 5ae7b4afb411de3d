"""The DNS server of a test and the records in its file."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from tests.interop.daemon import ROOT, environment


class DnsServer:
    """`tests/dns_server.py` on a loopback port. Names under `.test` lead to 127.0.0.1; `records` holds the rest."""

    def __init__(self, port: int, records: Path) -> None:
        self.port = port
        self.records = records
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DnsServer:
        self.records.touch()
        script = ROOT / "tests" / "dns_server.py"
        command = [sys.executable, str(script), "--port", str(self.port), "--records", str(self.records)]
        self._process = subprocess.Popen(command, env=environment())
        deadline = time.monotonic() + 15
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.__exit__()
                raise RuntimeError("the DNS server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        question = dns.message.make_query("ready.test", "A")
        try:
            dns.query.udp(question, "127.0.0.1", port=self.port, timeout=0.2)
        except (dns.exception.DNSException, OSError):
            return False
        return True


def hook_script(records: Path) -> str:
    """A dehydrated hook that adds and removes TXT records in the file."""
    return f"""#!/bin/sh
# deploy_challenge|clean_challenge NAME TOKEN VALUE
record="_acme-challenge.$2 TXT $4"
case "$1" in
    deploy_challenge) echo "$record" >> "{records}" ;;
    clean_challenge) grep -vxF "$record" "{records}" > "{records}.new"; mv "{records}.new" "{records}" ;;
esac
exit 0
"""
