"""Reads the source of a plugin's module, for the checks in `plugin_checks.py`.

- The checks need the line in which a name is defined, for messages.
- The checks also need the names that the plugin's code uses: a function that looks like a misspelt hook may be a helper
  of the plugin.
- A source is parsed only when a check needs it.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any


def place_of(module: Any, member: str) -> str:
    """Return the file and line of a name's definition in a module, or "" if the module has no file.

    The line is 1 if the module does not define the name.
    """
    file = getattr(module, "__file__", None)
    if file is None:
        return ""
    lines = [node.lineno for node in _tree(module).body if member in _names(node)]
    return f"{file}:{lines[-1] if lines else 1}"


def is_used(module: types.ModuleType, name: str) -> bool:
    """Return whether a name is used by a module, or by another loaded module with the same top-level package."""
    package = module.__name__.partition(".")[0]
    near = [other for key, other in list(sys.modules.items()) if key.partition(".")[0] == package]
    return any(name in _uses(other) for other in {id(each): each for each in (module, *near)}.values())


def is_slip(name: str, hook: str) -> bool:
    """Return whether a name is a misspelt hook: one typing error, or different capitals or underscores."""
    if name == hook:
        return False
    if name.replace("_", "").lower() == hook.replace("_", "").lower():
        return True
    first = next((at for at, pair in enumerate(zip(name, hook, strict=False)) if pair[0] != pair[1]), None)
    if first is None:
        return abs(len(name) - len(hook)) == 1
    mine, other = name[first:], hook[first:]
    return (
        mine[1:] == other[1:]
        or mine[1:] == other
        or mine == other[1:]
        or (mine[1::-1] == other[:2] and mine[2:] == other[2:])
    )


def _tree(module: Any) -> ast.Module:
    """Return the syntax tree of a module, or an empty tree if there is no source."""
    try:
        return ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        return ast.Module([], [])


def _names(statement: ast.stmt) -> set[str]:
    """Return the names that a statement at the top level of a module defines."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name for alias in statement.names}
        case _:
            stored = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
            return {node.id for node in stored if isinstance(node.ctx, ast.Store)}


def _uses(module: Any) -> set[str]:
    """Return the names that a module's code uses: variables, attributes and imported names."""
    return set(_read_names(_tree(module)))


def _read_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name):
                yield name
            case ast.ImportFrom():
                yield from (alias.name for alias in node.names)
