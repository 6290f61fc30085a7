"""Independence of the dialect rooms: a dialect is read and written without knowledge of another one."""

import ast
from pathlib import Path

import pytest

DIALECTS = Path(__file__).resolve().parents[3] / "plugins" / "gateway_plugins" / "dialects"
ALLOWED = {
    "anthropic_messages": set(),
    "bedrock": {"anthropic_messages"},
    "bedrock_converse": set(),
    "openai": set(),
    "openai_chat": {"openai"},
    "openai_responses": {"openai", "openai_chat"},
}
"""Rooms whose modules a room may import."""


def imported(path):
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_room_has_a_rule():
    assert {path.parent.name for path in DIALECTS.glob("*/__init__.py")} == ALLOWED.keys()


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_shared_modules_and_the_rooms_that_it_may(room):
    allowed = [f"gateway_plugins.dialects.{name}." for name in (room, *ALLOWED[room])]
    names = {name for path in (DIALECTS / room).glob("*.py") for name in imported(path)}
    plugins = {f"{name}." for name in names if name.startswith("gateway_plugins.")}
    assert [name for name in plugins if not name.startswith(("gateway_plugins.shared.", *allowed))] == []
