"""Whether a request was made for the TLS connection that brings it (RFC 7030 §3.5). Pure.

Whoever stands between client and CA, and ends TLS for both, has two connections with two bindings: what the client
signed into its request is not that of the connection on which it arrives here.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from opencertd.errors import Refusal, RefusalKind
from opencertd.keys.channel_binding import TLS_EXPORTER, TLS_UNIQUE, ChannelBinding

_VERSIONS = {TLS_UNIQUE: "TLS 1.2", TLS_EXPORTER: "TLS 1.3"}
_LENGTHS = (12, 32)  # octets of the two


class BindingRule(enum.Enum):
    """What a profile makes of a request's challengePassword: nothing, checked when there is one, must be right."""

    OFF = "off"
    WHEN_PRESENT = "when-present"
    REQUIRED = "required"


@dataclass(frozen=True)
class BindingRules:
    """The rule of each profile, by name; `others` is that of those not named."""

    others: BindingRule = BindingRule.WHEN_PRESENT
    by_profile: Mapping[str, BindingRule] = field(default_factory=dict)

    def of(self, profile: str) -> BindingRule:
        """The rule of that profile."""
        return self.by_profile.get(profile, self.others)


def check_binding(rule: BindingRule, challenge_password: str | None, binding: ChannelBinding | None) -> None:
    """Raises Refusal BAD_CSR, in RFC 5272's word popFailed, unless the request is as `rule` wants it.

    `binding`: the connection's; None when TLS ends at a proxy before us, so that nobody here can know.
    """
    if rule is BindingRule.OFF or (challenge_password is None and rule is BindingRule.WHEN_PRESENT):
        return
    if binding is None:
        raise _failed(
            "a challengePassword links the request to its TLS connection (RFC 7030 section 3.5), and this CA cannot "
            "see that connection, since a proxy ends TLS before it: "
            + ("leave it out" if rule is BindingRule.WHEN_PRESENT else "enrol without the proxy")
        )
    if challenge_password is None:
        raise _failed(
            "linking identity and proof of possession is required here (RFC 7030 section 3.5): put the base64 of this "
            f"TLS connection's {binding.kind} into the request's challengePassword"
        )
    given = "".join(challenge_password.split()).encode()  # libest's encoder breaks lines
    if not hmac.compare_digest(given, binding.text.encode()):
        raise _failed(_difference(given, binding, rule))


def _difference(given: bytes, binding: ChannelBinding, rule: BindingRule) -> str:
    kind = f"{binding.kind} in base64, as {_VERSIONS[binding.kind]} has it"
    if _octets(given) in _LENGTHS:
        return (
            f"the request's challengePassword is not this TLS connection's {kind}: it was made for another connection, "
            "or somebody between client and CA ends TLS"
        )
    otherwise = " or left out, since this CA takes no passwords there" if rule is BindingRule.WHEN_PRESENT else ""
    return (
        "the request's challengePassword is none that could link it to this TLS connection (RFC 7030 section 3.5): "
        f"it must be {kind}{otherwise}"
    )


def _octets(text: bytes) -> int | None:
    try:
        return len(base64.b64decode(text, validate=True))
    except binascii.Error:
        return None


def _failed(why: str) -> Refusal:
    return Refusal(RefusalKind.BAD_CSR, f"proof of possession failed (popFailed): {why}")
