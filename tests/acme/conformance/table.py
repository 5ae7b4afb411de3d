"""How requirements are named, and how a check says which one it shows."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest_twisted


class Word(enum.Enum):
    """RFC 2119; REQUIRED and SHALL are filed as MUST, RECOMMENDED as SHOULD. SAYS: what is said without such a word."""

    MUST = "MUST"
    MUST_NOT = "MUST NOT"
    SHOULD = "SHOULD"
    SHOULD_NOT = "SHOULD NOT"
    SAYS = "says"


@dataclass(frozen=True)
class Requirement:
    """`id`: RFC, section and number within it, as `8555 §6.2/3`."""

    id: str
    word: Word
    text: str


def read_requirements(rfc: str, listing: str) -> tuple[Requirement, ...]:
    """Lines of `section/number WORD text`; an indented line goes on with the text before it."""
    found: list[Requirement] = []
    for line in listing.strip("\n").splitlines():
        if line.startswith(" "):
            last = found.pop()
            found.append(Requirement(last.id, last.word, f"{last.text} {line.strip()}"))
            continue
        place, word, text = line.split(" ", 2)
        found.append(Requirement(f"{rfc} §{place}", Word[word], text))
    return tuple(found)


CASES: dict[str, str] = {}
"""Which check shows a requirement, by its id."""


def shows(requirement: str) -> Callable[[Any], Any]:
    """Marks the one check that shows the requirement; a coroutine is made a test that awaits it."""

    def register(check: Any) -> Any:
        where = f"{inspect.getsourcefile(check)}:{check.__name__}"
        if CASES.setdefault(requirement, where) != where:
            raise ValueError(f"{requirement} is shown by {CASES[requirement]} and by {where}")
        return pytest_twisted.ensureDeferred(check) if inspect.iscoroutinefunction(check) else check

    return register


def ids(requirements: Iterable[Requirement]) -> list[str]:
    """The ids, as listed."""
    return [requirement.id for requirement in requirements]
