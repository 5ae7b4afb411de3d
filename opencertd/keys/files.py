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


_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
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
    """Write the key so that a crash leaves the old file or the new one, readable by its owner only.

    Raises StartError when the encrypted keys beside it have another passphrase: the daemon is given one for all.
    """
    _check_passphrase(path, passphrase)
    write_secret(path, encode_private_key(key, passphrase))


def _check_passphrase(path: Path, passphrase: bytes | None) -> None:
    others = (other for other in sorted(path.parent.glob("*.pem")) if other != path)
    encrypted = [other for other in others if _ENCRYPTED in other.read_bytes()]
    if encrypted and passphrase is None:
        raise StartError(
            f"the keys in {path.parent} are encrypted, and no passphrase was given for a new one: give the daemon's "
            "settings by --config, or the file by OPENCERT_KEY_PASSPHRASE_FILE"
        )
    if encrypted and not any(_opens(other, passphrase) for other in encrypted):
        raise StartError(
            f"the passphrase is not that of the keys in {path.parent}: a new key under another one would keep the "
            "daemon from starting. Look at key_passphrase_file in the settings, or OPENCERT_KEY_PASSPHRASE_FILE."
        )


def _opens(path: Path, passphrase: bytes | None) -> bool:
    try:
        read_private_key(path, passphrase)
    except StartError:
        return False
    return True


def write_secret(path: Path, content: bytes, mode: int = 0o600, *, shared: bool = True) -> None:
    """Replace `path` by `content` durably: a new file of that mode, flushed, then renamed over the old one.

    `shared`: with the owner of the directory (`give_to_owner`).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if shared:
                give_to_owner(file.fileno(), path.parent)
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


def give_to_owner(descriptor: int, directory: Path) -> None:
    """What root makes in a directory of somebody else's belongs to them.

    Commands are given by root where the daemon runs as a user of its own, which has to read what they leave. The
    descriptor is of a file that was just made: by its name, that user could have had root give away another one.
    """
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def open_shared(path: Path) -> int:
    """A descriptor of the file for reading and writing, which is made (0600) where there is none. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    give_to_owner(descriptor, path.parent)
    return descriptor


def make_private_directory(path: Path) -> None:
    """The directory is there, for its owner only (0700). Raises OSError."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        give_to_owner(descriptor, path.parent)
    finally:
        os.close(descriptor)
