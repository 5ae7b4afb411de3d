"""Nothing that the RFCs ask of a server is without a check, but what is left out on purpose and said so."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import tests.acme.conformance as table
from tests.acme.conformance.not_done import NOT_DONE
from tests.acme.conformance.requirements_8555 import RFC_8555
from tests.acme.conformance.requirements_others import RFC_8737, RFC_8738, RFC_8739, RFC_9444, RFC_9773
from tests.acme.conformance.table import CASES, Requirement, ids

ALL: tuple[Requirement, ...] = (*RFC_8555, *RFC_8737, *RFC_8738, *RFC_9773, *RFC_9444, *RFC_8739)
DOCUMENT = Path(__file__).parents[3] / "docs" / "acme-conformance.md"


def load_checks() -> None:
    for found in pkgutil.iter_modules(table.__path__):
        if found.name.startswith("test_rfc"):
            importlib.import_module(f"{table.__name__}.{found.name}")


def test_every_requirement_has_its_check_or_a_reason_why_not() -> None:
    load_checks()
    asked = ids(ALL)
    assert len(asked) == len(set(asked))
    assert [each for each in asked if each not in {*CASES, *NOT_DONE}] == []
    assert [each for each in {*CASES, *NOT_DONE} if each not in asked] == []


def test_what_is_checked_is_not_called_undone() -> None:
    load_checks()
    assert not set(CASES) & set(NOT_DONE)


def test_the_document_says_what_is_not_done_and_why() -> None:
    told = re.sub(r"\s+", " ", DOCUMENT.read_text("utf-8"))
    for requirement in ALL:
        if requirement.id in NOT_DONE:
            section = requirement.id.partition("/")[0]
            assert f"RFC {section}" in told, requirement.id
            assert requirement.text.replace("`", "") in told, requirement.id
            assert NOT_DONE[requirement.id] in told, requirement.id
