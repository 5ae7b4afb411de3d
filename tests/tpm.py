"""A TPM 2.0 in software (swtpm), whose keys certify other keys of it with data of the caller's choice."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

BOUND = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
_PARENT = 0x81000000
_PASSWORD = struct.pack(">IHBH", 0x40000009, 0, 0, 0)  # TPM_RS_PW with an empty password


@dataclass(frozen=True)
class TpmKey:
    """A key in the TPM: its handle, TPMT_PUBLIC, and the public key in PEM as tpm2-tools tell it."""

    handle: int
    public: bytes
    pem: bytes


class Tpm:
    """One TPM, its state in `directory`."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        tcti = f"swtpm:host=127.0.0.1,port={port}"
        self._environment = {**os.environ, "TPM2TOOLS_TCTI": tcti, "TPM2OPENSSL_TCTI": tcti}
        self._made = 0

    def run(self, *command: str, data: bytes | None = None) -> bytes:
        """A tpm2-tools command in the directory; its output."""
        made = subprocess.run(
            command,
            cwd=self._directory,
            env=self._environment,
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert made.returncode == 0, (command, made.stderr.decode())
        return made.stdout

    def key(self, kind: str, attributes: str = BOUND) -> TpmKey:
        """A new key of its own: `ecc:ecdsa-sha256:null`, `rsa2048:rsassa-sha256:null`, `ecc` …

        Its handle is one of six that are used in turn: a TPM has room for few.
        """
        number, self._made = self._made % 6 + 1, self._made + 1
        handle, name = hex(_PARENT + number), str(number)
        if self._made == 1:
            self.run("tpm2_createprimary", "-Q", "-C", "o", "-c", "parent.ctx")
            self.run("tpm2_evictcontrol", "-Q", "-C", "o", "-c", "parent.ctx", hex(_PARENT))
        if self._made > 6:
            self.run("tpm2_evictcontrol", "-Q", "-C", "o", "-c", handle)
        self.run("tpm2_flushcontext", "-t")
        files = ("-u", f"{name}.tpm", "-r", f"{name}.private", "-c", f"{name}.ctx")
        self.run("tpm2_create", "-Q", "-C", hex(_PARENT), "-G", kind, "-a", attributes, *files)
        self.run("tpm2_flushcontext", "-t")
        self.run("tpm2_evictcontrol", "-Q", "-C", "o", "-c", f"{name}.ctx", handle)
        self.run("tpm2_flushcontext", "-t")
        self.run("tpm2_readpublic", "-Q", "-c", handle, "-o", f"{name}.pub")
        self.run("tpm2_readpublic", "-Q", "-c", handle, "-f", "pem", "-o", f"{name}.pem")
        public, pem = ((self._directory / f"{name}.{end}").read_bytes() for end in ("pub", "pem"))
        return TpmKey(_PARENT + number, public[2:], pem)

    def request(self, key: TpmKey) -> bytes:
        """A certificate request in DER, signed by the key in the TPM; its subject is empty."""
        providers = ("-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2")
        form = ("-subj", "/", "-sha256", "-outform", "DER")
        made = ("openssl", "req", "-new", *providers, "-key", f"handle:{key.handle:#x}", *form)
        return self.run(*made)

    def certify(self, key: TpmKey, by: TpmKey, data: bytes) -> tuple[bytes, bytes]:
        """TPM2_Certify: TPMS_ATTEST and TPMT_SIGNATURE."""
        sessions = _PASSWORD * 2
        body = struct.pack(">III", key.handle, by.handle, len(sessions)) + sessions
        body += struct.pack(">H", len(data)) + data + b"\x00\x10"  # the key's own scheme
        command = struct.pack(">HII", 0x8002, 10 + len(body), 0x148) + body
        answer = self.run("tpm2_send", data=command)
        (code,) = struct.unpack(">I", answer[6:10])
        assert code == 0, hex(code)
        (size,) = struct.unpack(">I", answer[10:14])
        parameters = answer[14 : 14 + size]
        (length,) = struct.unpack(">H", parameters[:2])
        return parameters[2 : 2 + length], parameters[2 + length :]


@pytest.fixture(scope="session")
def software_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    """A TPM of the session's own."""
    directory = tmp_path_factory.mktemp("tpm")
    port = _two_free_ports()
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory}", "--flags", "not-need-init,startup-clear"]
    command += ["--server", f"type=tcp,port={port}", "--ctrl", f"type=tcp,port={port + 1}"]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port + 1), 1):
                break
            assert process.poll() is None and time.monotonic() < deadline, "swtpm did not start"
            time.sleep(0.05)
        yield Tpm(directory, port)
    finally:
        process.kill()
        process.wait()


def _two_free_ports() -> int:
    """A port that is free together with the next one, as tpm2-tools want it."""
    for _ in range(50):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                two.bind(("127.0.0.1", port + 1))
                return port
    raise RuntimeError("no two neighbouring ports are free")
