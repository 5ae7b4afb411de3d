"""Imports point down: this test is the picture of the house, held against the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "opencertd"

LEVELS = {
    **dict.fromkeys(
        (
            "service",
            "wiring",
            "worker",
            "processes",
            "config",
            "state",
            "token_access",
            "first_start",
            "desk",
            "own_certificates",
            "reload",
            "clean_up",
            "hooks",
            "stores",
            "hierarchy_follower",
            "audit_checkpoints",
            "edges",
            "audit_settings",
            "fault_mode",
            "settings",
            "transparency_logs",
            "cli",
        ),
        7,
    ),
    "store": 6,
    **dict.fromkeys(("acme", "est", "ocsp", "crl", "ca_api"), 5),
    **dict.fromkeys(("client", "web"), 4),
    "issuance": 3,
    **dict.fromkeys(("validation", "jobs", "keys"), 2),
    "asn1": 1,
    **dict.fromkeys(("model", "errors", "clock", "tasks"), 0),
}
"""Rooms by level; a room imports rooms below it and itself. Level 7 is one room with many doors."""

NO_TWISTED_ROOMS = {"model", "asn1"}
NO_TWISTED_FILES = {"messages.py", "states.py"}
NO_TWISTED_CORE = {"profiles.py", "policy.py", "key_checks.py", "lint.py", "specimen.py", "own_names.py"} | {
    "blueprint.py",
    "rules.py",
    "subjects.py",
    "shipped.py",
    "coherence.py",
    "profile_tables.py",
    "profile_file.py",
    "weak_keys.py",
    "key_lists.py",
    "pkilint_child.py",
    "transparency_table.py",
    "path_length.py",
    "name_constraints.py",
    "standing.py",
    "windows.py",
    "identity_names.py",
}
PYASN1_ROOM = "asn1"


def sources() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: write the import absolutely, so that it can be read alone"
            found.append((node.lineno, node.module))
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in LEVELS, f"the room {room!r} has no level yet: give it one in {__file__}, and say why in its __init__"
    level = LEVELS[room]
    for line, module in imported(path):
        parts = module.split(".")
        if parts[0] != "opencertd" or len(parts) < 2 or parts[1] == room or parts[1] not in LEVELS:
            continue
        below = LEVELS[parts[1]]
        assert below < level or level == below == 7 or level == below == 0, (
            f"{path}:{line}: {room} (level {level}) imports {parts[1]} (level {below}). Imports point down only: move "
            f"what both need to a lower room, or let {room} own a Protocol that the upper room implements."
        )
        assert not (level == 5 and parts[1] == "store"), f"{path}:{line}: an edge asks through its own store.py"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_files_know_no_twisted(path: Path) -> None:
    room = room_of(path)
    pure = (
        room in NO_TWISTED_ROOMS
        or path.name in NO_TWISTED_FILES
        or (room == "issuance" and path.name in NO_TWISTED_CORE)
    )
    if not pure:
        return
    for line, module in imported(path):
        assert module.split(".")[0] not in {"twisted", "klein", "treq"}, (
            f"{path}:{line}: this file is pure: values in, values out. Put what waits or talks into server.py, what "
            "knows HTTP into resource.py."
        )


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pyasn1_stays_in_asn1(path: Path) -> None:
    if room_of(path) == PYASN1_ROOM:
        return
    for line, module in imported(path):
        assert not module.startswith("pyasn1"), f"{path}:{line}: ASN.1 is read and written in opencertd/asn1 only"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_fit_a_screen_or_two(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= 400, f"{path} has more than 400 lines: is it still one idea?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 60, f"{path}:{node.lineno}: {node.name} has {lines} lines; a reader should see it at once"


def test_every_room_says_what_it_is_for() -> None:
    for init in sorted(PACKAGE.rglob("__init__.py")):
        doc = ast.get_docstring(ast.parse(init.read_text("utf-8")))
        assert doc, f"{init}: say what the room is for, what it may import, what it serves and what it leaves out"
