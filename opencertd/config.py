"""Settings: TOML file, environment and command line become one frozen, checked object.

The command line wins over `OPENCERT_…` variables, which win over the file. Unknown keys and bad values are refused by
name. Every key is explained in `etc/opencertd.toml`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from opencertd.acme.faults import Faults
from opencertd.errors import StartError
from opencertd.issuance.key_types import KeyType, parse_key_types
from opencertd.issuance.profile_tables import PolicyTable, ProfileTable
from opencertd.issuance.transparency_table import TransparencyTable
from opencertd.model.crl_parts import PLACE
from opencertd.model.names import parse_dns_name
from opencertd.settings.acme import AcmeSettings
from opencertd.settings.approval import ApprovalSettings
from opencertd.settings.crls import CrlSettings
from opencertd.settings.est import EstSettings
from opencertd.settings.limits import LimitSettings, RetentionSettings
from opencertd.settings.proxy import ProxySettings, check_sockets
from opencertd.settings.sections import AccessSettings, AuditSettings, KeySettings, LintSettings, Pkcs11Settings
from opencertd.settings.status import StatusSettings
from opencertd.settings.tokens import TokenSettings
from opencertd.settings.urls import http_url
from opencertd.settings.validation import DnsServerText, DomainText, NetworkText, ValidationSettings
from opencertd.validation.verdict import DNS_PERSIST_01

ENVIRONMENT_PREFIX = "OPENCERT_"
_EXISTING = "existing"
_DATABASE = "opencertd.sqlite3"
NO_CA = (
    "no CA to run: give --dn 'CN=My Internal CA' to have one made, or --rsa/--ec with an existing one, or the "
    "--state-dir of a CA that is there"
)


def default_state_dir() -> Path:
    """`/var/lib/opencertd` for root, else the user's own state directory (XDG Base Directory Specification)."""
    if os.geteuid() == 0:
        return Path("/var/lib/opencertd")
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "opencertd"


def _https_base(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an https:// URL without query or fragment")
    return value.rstrip("/")


def _tls_name(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        pass
    try:
        return parse_dns_name(value).value
    except Exception as error:
        raise ValueError(str(error)) from None


HttpUrl = Annotated[str, AfterValidator(http_url)]
Port = Annotated[int, Field(ge=1, le=65535)]


class RuleSettings(BaseModel):
    """What may change while the daemon runs: `[profiles.NAME]` and `[policy]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: dict[str, ProfileTable] = {}
    policy: PolicyTable = PolicyTable()


class Settings(RuleSettings):
    """Everything the daemon can be told. Names are the TOML keys; `-` on the command line is `_` here."""

    _file: Path | None = PrivateAttr(default=None)

    dn: str | None = None
    key_type: tuple[str, ...] = ()
    rsa: Path | None = None
    rsa_key: Path | None = None
    ec: Path | None = None
    ec_key: Path | None = None
    key_passphrase_file: Path | None = None
    key_store: Literal["file", "pkcs11"] = "file"
    port: Port = 5001
    listen: tuple[str, ...] = ()
    http_port: Port | None = None
    ocsp: tuple[HttpUrl, ...] = ()
    ca_issuer: tuple[HttpUrl, ...] = ()
    crl: tuple[HttpUrl, ...] = ()
    external_url: Annotated[str, AfterValidator(_https_base)] | None = None
    hostname: tuple[Annotated[str, AfterValidator(_tls_name)], ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    state_dir: Path = Field(default_factory=default_state_dir)
    database: str | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    test_faults: bool = False
    authority: Annotated[str, AfterValidator(_https_base)] | None = None
    audience: str | None = None
    est_users: Path | None = None
    dns_server: DnsServerText | None = None
    http01_port: Port = 80
    tlsalpn01_port: Port = 443
    validation_allow: tuple[NetworkText, ...] = ()
    caa_identity: Annotated[tuple[DomainText, ...], Field(max_length=10)] = ()
    validation: ValidationSettings = ValidationSettings()
    acme: AcmeSettings = AcmeSettings()
    est: EstSettings = EstSettings()
    access: AccessSettings = AccessSettings()
    approval: ApprovalSettings = ApprovalSettings()
    proxy: ProxySettings = ProxySettings()
    keys: KeySettings = KeySettings()
    lint: LintSettings = LintSettings()
    pkcs11: Pkcs11Settings = Pkcs11Settings()
    audit: AuditSettings = AuditSettings()
    limits: LimitSettings = LimitSettings()
    retention: RetentionSettings = RetentionSettings()
    crls: CrlSettings = CrlSettings()
    status: StatusSettings = StatusSettings()
    tokens: TokenSettings = TokenSettings()
    ct: TransparencyTable = TransparencyTable()

    @model_validator(mode="after")
    def _together(self, info: ValidationInfo) -> Settings:
        if not (self.names_a_ca() or info.context == _EXISTING or self._may_hold_a_ca()):
            raise ValueError(NO_CA)
        if self.dn and (self.rsa or self.rsa_key or self.ec or self.ec_key):
            raise ValueError("--dn makes a new CA and --rsa/--ec bring an existing one: give one or the other")
        if self.key_type and not self.dn:
            raise ValueError("--key-type is for a CA made by --dn: an existing one has its keys")
        if self.key_store == "pkcs11":
            if not self.pkcs11.module:
                raise ValueError(
                    "--key-store pkcs11 needs module, token and pin_file under [pkcs11] in the settings file"
                )
            if not self.dn and info.context != _EXISTING:
                raise ValueError(
                    "--key-store pkcs11 is for CAs made by --dn: start an existing one with its key in a file, and "
                    "move that by `opencert ca move-key`"
                )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("--tls-cert and --tls-key go together: give both or neither")
        if bool(self.authority) != bool(self.audience):
            raise ValueError(
                "--authority and --audience go together: a token is only good for the audience it was made for"
            )
        return self

    @model_validator(mode="after")
    def _proxied(self) -> Settings:
        check_sockets(self.proxy, self.listen)
        return self

    @model_validator(mode="after")
    def _persistent(self) -> Settings:
        if DNS_PERSIST_01 in self.validation.challenges and not self.caa_identity:
            raise ValueError("the challenge dns-persist-01 needs --caa-identity: records name this CA by it")
        return self

    @model_validator(mode="after")
    def _spread(self) -> Settings:
        placed = [url for url in self.crl if "{part}" in url]
        spread = self.crls.shards or self.crls.apart
        if any(PLACE not in url or "{issuer}" not in url for url in placed):
            raise ValueError(
                "a URL of crl with {part} needs a slash before it, and {issuer} too: see etc/opencertd.toml"
            )
        if placed and len(placed) < len(self.crl):
            raise ValueError("either all URLs of crl have {part} or none: those of a certificate lead to one CRL")
        if spread and not placed:
            raise ValueError("crls.shards and crls.apart need a URL of crl with /{part}: certificates name their CRL")
        if placed and not spread:
            raise ValueError("a URL of crl has {part}, but neither crls.shards nor crls.apart makes parts")
        for name, table in self.profiles.items():
            if any("{part}" in url for url in table.crl or ()):
                raise ValueError(f"profiles.{name}.crl: only the URLs of crl at the top may have {{part}}")
        return self

    @field_validator("key_type")
    @classmethod
    def _key_types(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_key_types(value)
        return value

    @field_validator("database")
    @classmethod
    def _database(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"(sqlite:///|postgresql://)", value):
            raise ValueError("must begin with sqlite:/// or postgresql://")
        return value

    def rules(self) -> RuleSettings:
        """The part that may change while the daemon runs."""
        return RuleSettings(profiles=self.profiles, policy=self.policy)

    def names_a_ca(self) -> bool:
        """Whether these settings say what CA to make or take in; without, there must be one already."""
        return bool(self.dn or self.rsa or self.rsa_key or self.ec or self.ec_key)

    def _may_hold_a_ca(self) -> bool:
        return self.database is not None or (self.state_dir / _DATABASE).exists()

    def with_rules(self, rules: RuleSettings) -> Settings:
        """These settings with other profiles and policies."""
        return self.model_copy(update={"profiles": rules.profiles, "policy": rules.policy})

    @property
    def file(self) -> Path | None:
        """The settings file, if one was read."""
        return self._file

    def faults(self) -> Faults | None:
        """The mistakes that are made on purpose, if any are."""
        return Faults(self.acme.test_faults.terms(), secrets.token_bytes) if self.test_faults else None

    def key_types(self) -> tuple[KeyType, ...]:
        """What a CA is made with."""
        return parse_key_types(self.key_type)

    def database_url(self) -> str:
        """The database to use: as given, or SQLite inside the state directory."""
        return self.database or f"sqlite:///{self.state_dir.resolve() / _DATABASE}"

    def tls_names(self) -> tuple[str, ...]:
        """Names for the daemon's own certificate."""
        return self.hostname or tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", *_this_host())))

    def base_url(self) -> str:
        """What clients see, without a slash at the end."""
        if self.external_url:
            return self.external_url
        name = self.hostname[0] if self.hostname else next(filter(_resolves, _this_host()), "localhost")
        host = f"[{name}]" if ":" in name else name
        return f"https://{host}" if self.port == 443 else f"https://{host}:{self.port}"


def _this_host() -> tuple[str, ...]:
    """This host's name, where it is one that a certificate can bear."""
    try:
        return (parse_dns_name(socket.gethostname()).value,)
    except Exception:
        return ()


def _resolves(name: str) -> bool:
    """Whether this host can find itself by that name; where it cannot, nobody else is told to use it."""
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False


def read_settings(
    command_line: Mapping[str, Any], environment: Mapping[str, str], file: Path | None, *, existing: bool = False
) -> Settings:
    """Settings from the three sources; only what was given stands in each. Raises StartError that names the key.

    `existing`: for work on the CA that is in the state directory already, so none need be named.
    """
    from_file = _read_file(file) if file else {}
    from_environment = _read_environment(environment)
    sources = (
        *((key, f"in {file}") for key in from_file),
        *((key, f"in the environment ({ENVIRONMENT_PREFIX}{key.upper()})") for key in from_environment),
        *((key, f"on the command line (--{key.replace('_', '-')})") for key in command_line),
    )
    try:
        given = {**from_file, **from_environment, **command_line}
        settings = Settings.model_validate(given, context=_EXISTING if existing else None)
    except ValidationError as error:
        raise StartError(_explain(error, dict(sources))) from None
    settings._file = file.absolute() if file else None
    return settings


def read_rules(file: Path) -> RuleSettings:
    """Profiles and policies as the file has them now; nothing else of it is looked at. Raises StartError."""
    found = _read_file(file)
    given = {key: found[key] for key in RuleSettings.model_fields if key in found}
    try:
        return RuleSettings.model_validate(given)
    except ValidationError as error:
        raise StartError(_explain(error, dict.fromkeys(given, f"in {file}"))) from None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise StartError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartError(f"the settings file {path} is not valid TOML: {error}") from None


def is_list(key: str) -> bool:
    """Whether a setting takes several values."""
    field = Settings.model_fields.get(key)
    return field is not None and str(field.annotation).startswith("tuple")


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Variables for top-level keys; lists are separated by white space or commas."""
    found: dict[str, Any] = {}
    for variable, value in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == f"{ENVIRONMENT_PREFIX}CONFIG":
            continue
        key = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        found[key] = [part for part in re.split(r"[\s,]+", value) if part] if is_list(key) else value
    return found


def _explain(error: ValidationError, sources: Mapping[str, str]) -> str:
    """The first fault in one line: which key, where it was given, what is wrong with it."""
    fault = error.errors()[0]
    path = [str(part) for part in fault["loc"]]
    message = str(fault["msg"]).removeprefix("Value error, ")
    if not path:
        return message
    where = sources.get(path[0], "in the settings")
    key = ".".join(path)
    if fault["type"] == "extra_forbidden":
        return f"unknown setting {key!r} {where}: see etc/opencertd.toml for those there are"
    shown = "" if isinstance(fault["input"], dict) else f" (got {str(fault['input'])[:80]!r})"
    return f"bad setting {key!r} {where}: {message}{shown}"
