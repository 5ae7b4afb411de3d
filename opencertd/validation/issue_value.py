"""The issue-value of CAA records and of dns-persist-01: a domain of a CA and parameters (RFC 8659 §4.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABEL = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_PARAMETER = re.compile(rf"({_LABEL})[ \t]*=[ \t]*([\x21-\x3a\x3c-\x7e]*)\Z")
_SPACE = " \t"


@dataclass(frozen=True)
class IssueValue:
    """`domain` in lower case, empty where nobody is named; `parameters` as (tag in lower case, value), as they came."""

    domain: str
    parameters: tuple[tuple[str, str], ...] = ()

    def values(self, tag: str) -> tuple[str, ...]:
        """The values of each parameter with this tag (lower case)."""
        return tuple(value for name, value in self.parameters if name == tag)


def parse_issue_value(data: bytes) -> IssueValue | None:
    """`data` as an issue-value; None when it is none."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return None
    domain, *rest = (part.strip(_SPACE) for part in text.split(";"))
    if domain and not _DOMAIN.match(domain):
        return None
    if rest and not rest[-1]:
        rest.pop()  # a semicolon may end the value, or stand for itself
    parameters = []
    for part in rest:
        match = _PARAMETER.match(part)
        if match is None:
            return None
        parameters.append((match[1].lower(), match[2]))
    return IssueValue(domain.lower(), tuple(parameters))
