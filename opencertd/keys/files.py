"""Private keys in files: PKCS#8 PEM, mode 0600 from the first byte, whole or not there at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from opencertd.asn1.pem import parse_pem
from opencertd.errors import StartError
from opencertd.keys.kinds import PrivateKey
from opencertd.keys.seeds import seed_only


def read_passphrase(path: Path | None) -> bytes | None:
    """The first line of a passphrase file; None without a file. Raises StartError."""
    if path is None:
        return None
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise StartError(f"cannot read the passphrase file {path}: {error.strerror}") from None
    if not lines or not lines[0]:
        raise StartError(f"the passphrase file {path} is empty: put the passphrase on its first line")
    return lines[0]


def read_private_key(path: Path, passphrase: bytes | None) -> PrivateKey:
    """The private key in a PEM or DER file, which may hold certificates too. Raises StartError in words."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartError(f"cannot read the key file {path}: {error.strerror}") from None
    return load_private_key(data, passphrase, str(path))


def load_private_key(data: bytes, passphrase: bytes | None, where: str) -> PrivateKey:
    """The private key in PEM or DER bytes; `where` names them in errors. A passphrase no key needs is passed over."""
    try:
        try:
            key = _load(_only_key(data), passphrase)
        except TypeError:
            if passphrase is None:
                raise StartError(f"the key in {where} is encrypted: give its passphrase file") from None
            key = _load(_only_key(data), None)
    except ValueError:
        if passphrase is not None:
            raise StartError(f"cannot read the key in {where}: wrong passphrase, or not a private key") from None
        raise StartError(f"no private key can be read from {where}") from None
    except UnsupportedAlgorithm:
        raise StartError(f"the key in {where} is of a kind that is not supported: {_USE}") from None
    if not isinstance(key, PrivateKey):
        raise StartError(f"the key in {where} is of a kind that cannot sign: {_USE}")
    return key


_USE = "use RSA, EC, Ed25519, Ed448 or ML-DSA"


def _load(data: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    """Raises what `cryptography` raises: TypeError for a passphrase too many or too few, ValueError for other bytes."""
    is_pem = b"-----BEGIN" in data
    try:
        return load_pem_private_key(data, passphrase) if is_pem else load_der_private_key(data, passphrase)
    except ValueError:
        blocks = parse_pem(data) if is_pem else (("", data),)
        if not blocks:
            raise
        return load_der_private_key(seed_only(blocks[0][1]), None)


def _only_key(data: bytes) -> bytes:
    """From the first private-key block on: in one file certificates and EC parameters may stand before the key."""
    start = data.find(b"PRIVATE KEY-----")
    if start < 0:
        return data
    begin = data.rfind(b"-----BEGIN", 0, start)
    end = data.find(b"PRIVATE KEY-----", start + 16)
    return data[begin : end + 16] + b"\n" if end > 0 else data[begin:]


def encode_private_key(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """PKCS#8 PEM, encrypted when there is a passphrase."""
    protection: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def write_private_key(path: Path, key: PrivateKey, passphrase: bytes | None) -> None:
    """Write the key so that a crash leaves the old file or the new one, readable by its owner only."""
    write_secret(path, encode_private_key(key, passphrase))


def write_secret(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `content` durably: a new file of that mode, flushed, then renamed over the old one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
