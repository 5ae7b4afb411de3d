"""Markdown tables that read well on a terminal too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def markdown(columns: Sequence[tuple[str, str, str]], things: Iterable[object]) -> str:
    """A table of the things' attributes; a column is its title, the attribute's name and the format of its cells."""
    widths = [re.sub(r"[,.].*", "", form) for _, _, form in columns]
    lines = [row(format(title, width) for (title, _, _), width in zip(columns, widths, strict=True))]
    lines.append(row(("-" * (int(width[1:]) - 1)) + (":" if width[0] == ">" else "-") for width in widths))
    lines += [row(format(getattr(thing, name), form) for _, name, form in columns) for thing in things]
    return "\n".join(lines)


def row(cells: Iterable[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
