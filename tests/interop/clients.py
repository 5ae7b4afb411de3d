"""The programs people use, run with a time limit; a missing one fails with the Debian package that has it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.interop.daemon import environment, opencert_command

PACKAGES = {
    "ab": "apache2-utils",
    "acme-tiny": "acme-tiny",
    "apache2": "apache2",
    "caddy": "caddy",
    "certbot": "certbot",
    "certutil": "libnss3-tools",
    "curl": "curl",
    "dehydrated": "dehydrated",
    "easyrsa": "easy-rsa",
    "lego": "lego",
    "nginx": "nginx",
    "node": "nodejs",
    "ocsptool": "gnutls-bin",
    "openssl": "openssl",
    "pki": "strongswan-pki",
    "uacme": "uacme",
    "ualpn": "uacme",
    "unshare": "util-linux",
    "vfychain": "libnss3-tools",
    "wrk": "wrk",
}
BESIDE_PYTHON = {
    "lint_pkix_cert": ("lint_pkix_cert", "pkilint"),
    "lint_crl": ("lint_crl", "pkilint"),
    "lint_ocsp_response": ("lint_ocsp_response", "pkilint"),
    "certbot 5": ("certbot", "certbot"),
}
"""Programs by the files that they are, and the Python packages that have them."""


def program(name: str) -> list[str]:
    """The words that start a program; fails the test when it is not installed."""
    if name == "opencert":
        return opencert_command()
    if name in BESIDE_PYTHON:
        file, package = BESIDE_PYTHON[name]
        path = Path(sys.executable).with_name(file)
        if not path.exists():
            pytest.fail(f"{name} is missing: pip install {package}")
        return [str(path)]
    found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/share/easy-rsa")
    if found is None:
        pytest.fail(f"{name} is missing: apt-get install {PACKAGES[name]}")
    return [found]


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: Path | None = None,
    timeout: float = 90,
    ok: bool = True,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program; with `ok`, anything but exit status 0 fails the test and shows what the program said."""
    arguments = [*program(str(command[0])), *map(str, command[1:])]
    done = subprocess.run(
        arguments,
        input=stdin,
        capture_output=True,
        env=environment(**(env or {})),
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
    if ok and done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")
        pytest.fail(f"{' '.join(arguments)}\nexit status {done.returncode}\n{said[-6000:]}")
    return done


def openssl(*arguments: str | Path, stdin: bytes = b"", ok: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run `openssl`."""
    return run("openssl", *arguments, stdin=stdin, ok=ok)


def new_key(path: Path, kind: str = "ec") -> Path:
    """A private key file made by openssl: `ec` (P-256) or `rsa` (2048)."""
    options: Sequence[str] = (
        ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        if kind == "ec"
        else ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    )
    openssl("genpkey", *options, "-out", path)
    return path


def new_csr(key: Path, name: str, *names: str, form: str = "PEM") -> Path:
    """A PKCS#10 request file made by openssl, with `CN=name` and the DNS names `names`."""
    path = key.with_suffix(".csr")
    extensions = ("-addext", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names)) if names else ()
    openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", *extensions, "-outform", form, "-out", path)
    return path
