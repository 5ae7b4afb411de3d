"""How requirements are named, how a check says which one it shows, and that none is without a check or a reason.

A table is a package: `requirements*.py` list what is asked, `test_rfc*.py` show it, `not_done.py` has what is left out.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest_twisted

DOCUMENTS = Path(__file__).parents[1] / "docs"


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
"""Which check shows a requirement, by its id: those of all tables that are loaded."""


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


@dataclass(frozen=True)
class Table:
    """What is asked, the package whose checks show it, and what is left out and why."""

    package: ModuleType
    asked: tuple[Requirement, ...]
    not_done: Mapping[str, str]
    document: str

    def shown(self) -> set[str]:
        """What the package's checks show."""
        for found in pkgutil.iter_modules(self.package.__path__):
            if found.name.startswith("test_rfc"):
                importlib.import_module(f"{self.package.__name__}.{found.name}")
        (folder,) = self.package.__path__
        return {requirement for requirement, where in CASES.items() if Path(where).parent == Path(folder)}

    def check_complete(self) -> None:
        """Every requirement has its check, or a reason why not, and none has both."""
        shown, asked = self.shown(), ids(self.asked)
        assert len(asked) == len(set(asked))
        assert [each for each in asked if each not in {*shown, *self.not_done}] == []
        assert [each for each in {*shown, *self.not_done} if each not in asked] == []
        assert not shown & set(self.not_done)

    def check_document(self) -> None:
        """The document tells users what is left out, and why."""
        told = re.sub(r"\s+", " ", (DOCUMENTS / self.document).read_text("utf-8"))
        for requirement in self.asked:
            if requirement.id in self.not_done:
                assert f"RFC {requirement.id.partition('/')[0]}" in told, requirement.id
                assert requirement.text.replace("`", "") in told, requirement.id
                assert self.not_done[requirement.id] in told, requirement.id
