"""Reads Python modules as authors of plugins see them: the public names with their signatures and docstrings.

The files are parsed and not imported, because the docstrings of fields and constants are in the source alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
WIDTH: Final = 100
"""Maximum number of characters of a signature that is written on one line."""
_PROPERTIES: Final = frozenset({"property", "cached_property"})


@dataclass(frozen=True, slots=True)
class Name:
    """A public name of a module, or of a class."""

    kind: str
    """The kind of the name: `class`, `function`, `property`, `field`, `constant` or `alias` (of a type)."""
    name: str
    signature: str
    """The signature of a function or of a class; for any other name, its type."""
    doc: str
    value: str = ""
    """The value of a constant, or the default of a field."""
    owner: str = ""
    """The name of the class if this is a member of a class, else ""."""
    bases: tuple[str, ...] = ()
    members: tuple[Name, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.owner}.{self.name}" if self.owner else self.name

    @property
    def has_entry(self) -> bool:
        """Whether the name is a class, a function or a type, which the reference explains under a heading."""
        return self.kind in {"class", "function", "alias"}


def tree_of(module: str) -> ast.Module:
    """Return the parsed source of a module, such as `gateway.contract.flag`."""
    path = ROOT.joinpath(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


def docstring(module: str) -> str:
    """Return the docstring of a module."""
    return ast.get_docstring(tree_of(module)) or ""


def public_names(module: str) -> tuple[Name, ...]:
    """Return the public names that a module defines, in the order of the source.

    A class includes the members that it inherits from classes of other modules.
    """
    tree = tree_of(module)
    homes = {
        imported.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gateway.contract.")
        for imported in node.names
    }
    return tuple(_with_inherited(name, homes) for name in _names(tree.body))


def _with_inherited(name: Name, homes: Mapping[str, str | None]) -> Name:
    """Return a class with the members that it inherits from imported classes.

    `homes` maps each imported name to its module.
    """
    inherited = [
        replace(member, owner=name.name)
        for base in name.bases
        if (home := homes.get(base)) is not None
        for extended in public_names(home)
        if extended.name == base
        for member in extended.members
    ]
    return replace(name, members=(*inherited, *name.members))


def _names(body: Sequence[ast.stmt], owner: str = "") -> Iterator[Name]:
    for node, below in zip_longest(body, body[1:]):
        name = _name(node, below, owner)
        if name is not None and not name.name.startswith("_"):
            yield name


def _name(node: ast.stmt, below: ast.stmt | None, owner: str) -> Name | None:
    match node:
        case ast.ClassDef():
            return _class(node)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return _function(node, owner)
        case ast.AnnAssign(target=ast.Name(id=name), value=value):
            kind = "field" if owner else "constant"
            return Name(kind, name, _text(node.annotation), _doc_below(below), _default(value), owner)
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if not owner and "TypeVar(" not in _text(value):
            return Name("alias", name, f"{name} = {_text(value)}", _doc_below(below))
    return None


def _class(node: ast.ClassDef) -> Name:
    bases = tuple(_text(base) for base in (*node.bases, *node.keywords))
    members = tuple(_names(node.body, node.name))
    made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    fields = [] if "Protocol" in bases else [each for each in members if each.kind == "field"]
    if made:
        signature = call(node.name, _arguments(made[0])[1:])
    elif fields:
        by_name = ["*"] if "kw_only=True" in bases else []
        signature = call(node.name, by_name + [_field(each) for each in fields])
    else:
        signature = f"class {node.name}({', '.join(bases)})" if bases else f"class {node.name}"
        called = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__call__"]
        signature += "".join(
            f"\n    def {call(each.name, _arguments(each))} -> {_text(each.returns)}" for each in called
        )
    return Name("class", node.name, signature, ast.get_docstring(node) or "", bases=bases, members=members)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, owner: str) -> Name | None:
    decorators = {ast.unparse(each) for each in node.decorator_list}
    doc, returned = ast.get_docstring(node) or "", _text(node.returns) or "Any"
    if decorators & _PROPERTIES:
        return Name("property", node.name, returned, doc, owner=owner)
    if "overload" in decorators:
        return None
    waits = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    signature = f"{waits}def {call(node.name, _arguments(node)[bool(owner) :])} -> {returned}"
    return Name("function", node.name, signature, doc, owner=owner)


def call(name: str, arguments: Sequence[str]) -> str:
    """Return the text of a call. If it is longer than `WIDTH`, each argument is on a line of its own."""
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) <= WIDTH else "\n".join([f"{name}(", *(f"    {each}," for each in arguments), ")"])


def _field(name: Name) -> str:
    return f"{name.name}: {name.signature}" + (f" = {name.value}" if name.value else "")


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    every = node.args
    plain = [_text(argument) for argument in every.args]
    for number, default in enumerate(reversed(every.defaults), 1):
        plain[-number] += f" = {_text(default)}"
    by_name = [
        _text(argument) + (f" = {_text(default)}" if default else "")
        for argument, default in zip(every.kwonlyargs, every.kw_defaults, strict=True)
    ]
    star = [f"*{_text(every.vararg)}"] if every.vararg else ["*"] if by_name else []
    return [*plain, *star, *by_name, *([f"**{_text(every.kwarg)}"] if every.kwarg else [])]


def _text(node: ast.AST | None) -> str:
    """Return the source of an expression, with double quotes where that changes nothing."""
    text = "" if node is None else ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def _default(value: ast.expr | None) -> str:
    """Return the source of a field's default, or "" if the field has none.

    `value` is what is assigned to the field: the default, or a call of `dataclasses.field` with the default or a
    default factory.
    """
    match value:
        case ast.Call(func=ast.Name(id="field"), keywords=keywords):
            given = {keyword.arg: _text(keyword.value) for keyword in keywords}
            return given.get("default") or (f"{given['default_factory']}()" if "default_factory" in given else "")
    return _text(value)


def _doc_below(node: ast.stmt | None) -> str:
    match node:
        case ast.Expr(ast.Constant(str(text))):
            return "\n".join(line.strip() for line in text.strip().splitlines())
    return ""
