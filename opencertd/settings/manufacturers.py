"""`[est.manufacturers.NAME]`: whose devices may enrol with the certificate that they were made with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cryptography import x509
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from opencertd.asn1.pem import parse_certificates
from opencertd.errors import StartError
from opencertd.issuance.existing import check_ca
from opencertd.issuance.identity_names import parse_name_rule


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _rule(text: str) -> str:
    parse_name_rule(text)
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", text):
        raise ValueError("a manufacturer's name here has letters, digits, - and _ only")
    return text


Files = Annotated[tuple[Path, ...], BeforeValidator(_listed)]


class ManufacturerTable(BaseModel):
    """`roots`, `crl`: files. `names`: rules, see `identity_names`. `profiles`: what its devices may enrol for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roots: Annotated[Files, Field(min_length=1)]
    crl: Files = ()
    names: Annotated[tuple[Annotated[str, AfterValidator(_rule)], ...], BeforeValidator(_listed), Field(min_length=1)]
    profiles: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


Manufacturer = Annotated[str, AfterValidator(_name)]
Tables = Mapping[str, ManufacturerTable]


def read_roots(tables: Tables) -> dict[str, tuple[x509.Certificate, ...]]:
    """The roots by manufacturer. Raises StartError that names the setting, and the file at fault."""
    found = {
        name: tuple(root for path in table.roots for root in _read(f"est.manufacturers.{name}.roots", path))
        for name, table in tables.items()
    }
    owners: dict[x509.Certificate, str] = {}
    for name, roots in found.items():
        for root in roots:
            if owners.setdefault(root, name) != name:
                raise StartError(
                    f"est.manufacturers.{name}.roots: {owners[root]!r} has the same root: nobody "
                    "could tell whose a device is"
                )
    return found


def _read(key: str, path: Path) -> tuple[x509.Certificate, ...]:
    try:
        roots = tuple(x509.load_der_x509_certificate(der) for der in parse_certificates(path.read_bytes()))
    except OSError as error:
        raise StartError(f"{key}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise StartError(f"{key}: cannot read the certificates in {path}: {error}") from None
    if not roots:
        raise StartError(f"{key}: there is no PEM certificate in {path}")
    for root in roots:
        check_ca(root, f"{path} ({key})")
    return roots
