"""Somebody else's word on certificates: `openssl verify` for a purpose, and pkilint's linters."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from opencertd.issuance.issuers import Issuers
from tests.ca import NOW


def keep(path: Path, *certificates: x509.Certificate) -> Path:
    path.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
    return path


def accepted(certificate: x509.Certificate, issuers: Issuers, purpose: str, directory: Path) -> bool:
    """Whether OpenSSL builds a chain for the certificate and finds it fit for the purpose."""
    roots = [i.certificate for i in issuers.all() if i.certificate.issuer == i.certificate.subject]
    others = [i.certificate for i in issuers.all() if i.certificate not in roots]
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", str(int(NOW.timestamp()))]
    command += ["-CAfile", str(keep(directory / "roots.pem", *roots))]
    command += ["-untrusted", str(keep(directory / "others.pem", *others))]
    command.append(str(keep(directory / "leaf.pem", certificate)))
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


def findings(linter: str, certificate: x509.Certificate, directory: Path, *options: str) -> set[str]:
    """The codes that the linter reports at WARNING and above."""
    program = Path(sys.executable).with_name(linter)
    file = keep(directory / "lint.pem", certificate)
    command = [str(program), "lint", *options, "-s", "WARNING", str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    codes = set(re.findall(r"^\s+([a-z0-9_.]+) \((?:WARNING|ERROR|FATAL)\)", done.stdout, re.MULTILINE))
    assert bool(codes) is bool(done.returncode), done.stdout + done.stderr
    return codes
