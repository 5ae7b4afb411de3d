"""Where easy-rsa (its `pki/` of version 3, its `keys/` of version 2) and `openssl ca` keep what, found by looking."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509

from opencertd.errors import StartError
from opencertd.issuance.brought import read_bytes

_CERTIFICATES = ("ca.crt", "cacert.pem", "ca.pem", "certs/ca.cert.pem", "certs/cacert.pem")
_KEYS = ("private/ca.key", "private/cakey.pem", "private/ca.key.pem", "ca.key", "cakey.pem")
_CRLS = ("crl.pem", "crl/crl.pem", "crl/ca.crl.pem")
_BY_SERIAL = ("newcerts", "certs_by_serial", "revoked/certs_by_serial", "renewed/certs_by_serial", "certs", ".")
_BY_NAME = ("issued", "revoked", "renewed/issued", "expired", "certs")
_SUFFIXES = (".pem", ".crt")
_LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True)
class CaDirectory:
    """A CA's directory. `key` is None when it is not there: many keep it elsewhere."""

    path: Path
    certificate: Path
    key: Path | None
    index: Path
    crl: Path | None

    def crl_number(self) -> int:
        """The highest number that `crlnumber`, which holds the next one in hex, says was used; 0 without that file.

        Raises StartError.
        """
        file = self.path / "crlnumber"
        if not file.is_file():
            return 0
        text = read_bytes(file).decode("ascii", "replace").strip()
        if not re.fullmatch(r"[0-9A-Fa-f]{1,40}", text):
            raise StartError(f"{file} should hold the next CRL number in hex, not {text[:40]!r}")
        if int(text, 16) > _LARGEST_NUMBER:
            raise StartError(f"the number in {file} is higher than a CRL's here can be (2^63 - 1)")
        return max(int(text, 16) - 1, 0)

    def has_unique_subjects(self) -> bool:
        """Whether `openssl ca` was told to have one valid certificate for each subject only."""
        file = self.path / f"{self.index.name}.attr"
        return file.is_file() and re.search(rb"(?m)^\s*unique_subject\s*=\s*yes", read_bytes(file)) is not None

    def certificate_of(self, serial: int) -> tuple[Path, x509.Certificate] | None:
        """The certificate of that serial where there is a file of it. Raises StartError for one that cannot be read."""
        digits = f"{serial:X}"
        name = digits.zfill(len(digits) + len(digits) % 2)
        for directory, files in self._by_serial:
            for suffix in _SUFFIXES:
                if name + suffix in files:
                    return directory / (name + suffix), read_certificate(directory / (name + suffix))
        named = self._by_name.get(serial)
        return None if named is None else (named, read_certificate(named))

    @cached_property
    def _by_serial(self) -> tuple[tuple[Path, frozenset[str]], ...]:
        """Directories of files named for serials, each listed once: asking for 100,000 files takes long."""
        directories = [self.path / name for name in _BY_SERIAL if (self.path / name).is_dir()]
        return tuple((directory, frozenset(file.name for file in directory.iterdir())) for directory in directories)

    @cached_property
    def _by_name(self) -> dict[int, Path]:
        """Files named for their subjects, by serial; what is no certificate is passed over."""
        found: dict[int, Path] = {}
        for file in _files(self.path / name for name in _BY_NAME):
            try:
                found.setdefault(read_certificate(file).serial_number, file)
            except StartError:
                continue
        return found


def _files(directories: Iterator[Path]) -> Iterator[Path]:
    for directory in directories:
        if directory.is_dir():
            yield from (f for f in sorted(directory.iterdir()) if f.suffix in _SUFFIXES and f.is_file())


def find_ca_directory(path: Path) -> CaDirectory:
    """The parts of the CA in `path`, or in the `pki`, `keys` or `demoCA` below it. Raises StartError in words."""
    try:
        next(path.iterdir(), None)
    except OSError as error:
        raise StartError(f"cannot read the directory {path}: {error.strerror}") from None
    for place in (path, *(path / name for name in ("pki", "keys", "demoCA"))):
        certificate, index = _first(place, _CERTIFICATES), _first(place, ("index.txt",))
        if certificate is not None and index is not None:
            return CaDirectory(place, certificate, _first(place, _KEYS), index, _first(place, _CRLS))
    if _first(path, _CERTIFICATES) is None:
        raise StartError(
            f"{path} is no CA directory of easy-rsa or openssl: it has none of {', '.join(_CERTIFICATES)}, "
            "or none that can be read"
        )
    raise StartError(
        f"{path} has no index.txt, which says what was issued and revoked. To take the CA in without its past, give "
        "its certificate and key as files."
    )


def _first(place: Path, names: tuple[str, ...]) -> Path | None:
    return next((place / name for name in names if (place / name).is_file()), None)


def read_certificate(file: Path) -> x509.Certificate:
    """The first certificate in a PEM file, around which there may be text, or the one in a DER file."""
    data = read_bytes(file)
    begin = data.find(b"-----BEGIN CERTIFICATE-----")
    try:
        if begin < 0:
            return x509.load_der_x509_certificate(data)
        return x509.load_pem_x509_certificate(data[begin:])
    except ValueError:
        raise StartError(f"there is no certificate that can be read in {file}") from None
