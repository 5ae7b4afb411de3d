"""The EST edge as `[est]` has it."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from opencertd.errors import StartError
from opencertd.est.binding import BindingRule, BindingRules
from opencertd.est.messages import BodyForm
from opencertd.est.resource import EstResource, edge
from opencertd.est.server import EstServer
from opencertd.issuance.authority import CertificateAuthority
from opencertd.keys.kinds import PrivateKey
from opencertd.keys.signer import Elsewhere
from opencertd.settings.est import EstSettings
from opencertd.tasks import Tasks
from opencertd.web.authentication import Authenticator
from opencertd.web.site import Edge


def build_est_edge(
    settings: EstSettings,
    authority: CertificateAuthority,
    *,
    tasks: Tasks,
    authenticator: Authenticator,
    elsewhere: Elsewhere[PrivateKey],
) -> Edge:
    """EST for `authority`, wired; whoever asks is known by `authenticator`. Raises StartError."""
    any_name = settings.client_certificate_may_enrol_any_name
    server = EstServer(
        authority=authority,
        tasks=tasks,
        client_certificate_may_enrol_any_name=any_name,
        elsewhere=elsewhere,
        decrypt_keys={} if settings.decrypt_keys is None else read_decrypt_keys(settings.decrypt_keys),
        bindings=binding_rules(settings, authority.profiles),
        renewal_by_token=frozenset(name for name, table in settings.profiles.items() if table.renewal_by_token),
    )
    resource = EstResource(
        server=server,
        authenticator=authenticator,
        body_form=BodyForm(settings.body),
        open_csrattrs=settings.csrattrs == "anonymous",
        serverkeygen=settings.serverkeygen,
    )
    return edge(resource)


def binding_rules(settings: EstSettings, profiles: Container[str]) -> BindingRules:
    """What is made of channel bindings. Raises StartError for a table of a profile that is none of `profiles`."""
    unknown = sorted(name for name in settings.profiles if name not in profiles)
    if unknown:
        raise StartError(f"est.profiles.{unknown[0]}: there is no profile {unknown[0]!r}")
    own = {name: table.channel_binding for name, table in settings.profiles.items() if table.channel_binding}
    return BindingRules(
        BindingRule(settings.channel_binding), {name: BindingRule(value) for name, value in own.items()}
    )


def read_decrypt_keys(path: Path) -> dict[str, dict[bytes, bytes]]:
    """Secrets by requester and identifier, from lines of `REQUESTER IDENTIFIER KEY`, in hex. Raises StartError."""
    try:
        mode, text = path.stat().st_mode, path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise StartError(f"est.decrypt_keys: {path} cannot be read: {error}") from None
    if mode & 0o077:
        raise StartError(f"est.decrypt_keys: {path} holds secrets and may be read by others: chmod 600 {path}")
    found: dict[str, dict[bytes, bytes]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            requester, identifier, secret = _decrypt_key(words, f"est.decrypt_keys: {path}, line {number}")
            found.setdefault(requester, {})[identifier] = secret
    return found


def _decrypt_key(words: list[str], where: str) -> tuple[str, bytes, bytes]:
    try:
        requester, identifier, secret = words[0], bytes.fromhex(words[1]), bytes.fromhex(words[2])
    except (IndexError, ValueError):
        raise StartError(f"{where}: expected REQUESTER IDENTIFIER KEY, the last two in hex") from None
    if len(words) != 3 or ":" not in requester:
        raise StartError(f"{where}: expected REQUESTER IDENTIFIER KEY, REQUESTER being like password:alice")
    if len(secret) not in {16, 24, 32}:
        raise StartError(f"{where}: the key must have 16, 24 or 32 octets")
    return requester, identifier, secret
