"""The walk-throughs of a Markdown page: fenced blocks right after `<!-- test: name -->`, to be run as printed.

Several blocks may bear one name; they are one walk-through, in the order of the page. Lines that begin with `$ ` are
commands in a block that has any; without such lines, every line is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MARK = re.compile(
    r"^(?P<indent> *)<!-- test: (?P<name>[a-z0-9][a-z0-9 -]*?) -->\n"
    r"(?:\s*\n)*"
    r"(?P=indent)(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
_LOOSE = re.compile(r"<!-- *test:.*?-->")


@dataclass(frozen=True)
class Walkthrough:
    """A named piece of a page: the language of its first block, and all its text."""

    name: str
    language: str
    text: str

    @property
    def script(self) -> str:
        """What a shell runs."""
        lines = self.text.splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line[2:] for line in lines if line.startswith(("$ ", "> "))]
        return "\n".join(lines) + "\n"

    def replaced(self, words: Mapping[str, str]) -> Walkthrough:
        """The same with other words (ports, directories). ValueError when one of them does not occur."""
        text = self.text
        for old, new in words.items():
            if old not in text:
                raise ValueError(f"{old!r} does not occur in the walk-through {self.name!r}")
            text = text.replace(old, new)
        return Walkthrough(self.name, self.language, text)


def walkthroughs(page: str) -> dict[str, Walkthrough]:
    """The walk-throughs of a page by name. ValueError for a mark that no fenced block follows."""
    found: dict[str, Walkthrough] = {}
    marks = list(_MARK.finditer(page))
    if len(marks) != len(_LOOSE.findall(page)):
        raise ValueError("a mark <!-- test: name --> is not followed by a fenced block")
    for mark in marks:
        name, indent = mark["name"], mark["indent"]
        text = "".join(line.removeprefix(indent) for line in mark["text"].splitlines(keepends=True))
        before = found.get(name)
        language = before.language if before else mark["language"].strip()
        found[name] = Walkthrough(name, language, (before.text if before else "") + text)
    return found
