"""Tests of the public surface of the plugin contract: its names, fields, signatures and version, as text in a golden
file.

`pytest --rewrite-golden` writes the file again. Plugins of other authors may use everything in the file, so its diff
shows what a new version of the contract adds or breaks. `API_VERSION` in `flag.py` says when the version must change.
"""

import ast
from pathlib import Path

from gateway.contract.flag import API, API_VERSION
from tests.helpers.source_tree import ROOT, text

CONTRACT = ROOT / "gateway" / "contract"
GOLDEN = Path(__file__).parent / "public_surface.txt"
PUBLIC = [
    "array_api", "aws_domains", "billing", "capabilities", "client_api", "codecs", "errors", "facts", "filter", "filter_values", "flag",
    "flag_facts",
    "framing/eventstream", "framing/json_array", "framing/sse", "globs", "json_api", "lenient_json", "members",
    "messages", "model_lists", "observer", "openings", "places", "provider_errors", "samples", "session_ids", "settings",
    "sse_api", "translator",
]  # fmt: skip
EXTENDED = {"flag_facts"}
"""Public modules that have only base classes of other public classes.

The golden file does not list these modules. It lists the inherited members with each derived class.
"""
INTERNAL = [
    "__init__", "conversions", "defaults", "definitions", "dropped_fields", "escaped_names", "framing/__init__", "hook_results", "hooks",
    "filter_checks", "http_headers", "lazy_body", "long_strings", "losses", "plugin_candidates", "plugin_checks", "plugin_conflicts", "plugin_files", "plugin_functions",
    "plugin_hooks", "plugin_imports", "plugin_packages", "plugin_source", "record", "registry", "result_values", "route_paths",
    "settings_fields", "small_cache",
]  # fmt: skip
"""Modules that are not for plugins. They may change in any release."""


def is_public(name):
    return not name.startswith("_")


def entries(body, indent=""):
    """Yield a line for each public class, function, field and constant of a module or class, in the file's order."""
    for node in body:
        match node:
            case ast.ClassDef(name=name) if is_public(name):
                bases = ", ".join(ast.unparse(each) for each in (*node.bases, *node.keywords))
                yield f"{indent}class {name}({bases})"
                yield from entries(node.body, indent + "    ")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if is_public(name) or name == "__init__":
                yield f"{indent}{function_line(node)}"
            case ast.AnnAssign(target=ast.Name(id=name)) if is_public(name):
                yield f"{indent}{assignment_line(node, in_class=bool(indent))}"
            case ast.Assign(targets=[ast.Name(id=name)]) if is_public(name):
                yield f"{indent}{name}"


def function_line(node):
    if any(ast.unparse(each) in {"property", "cached_property"} for each in node.decorator_list):
        return f"{node.name}: {ast.unparse(node.returns)}"
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({ast.unparse(node.args)}){returned}"


def assignment_line(node, *, in_class):
    """Return the golden file's line for an annotated assignment. A class's field is listed with its default value, and
    a constant without its value.
    """
    default = f" = {ast.unparse(node.value)}" if in_class and node.value else ""
    return f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}{default}"


def exported(tree):
    """Yield `exports NAME` for each name in the module's `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            yield from (f"exports {name}" for name in sorted(ast.literal_eval(node.value)))


def public_surface():
    parts = [f"version {API_VERSION}\n"]
    for module in PUBLIC:
        tree = ast.parse(text(CONTRACT / f"{module}.py"))
        lines = [*exported(tree), *entries(tree.body)]
        parts.append(
            "\n".join([f"gateway.contract.{module.replace('/', '.')}", *(f"    {line}" for line in lines), ""])
        )
    return "\n".join(parts)


def test_the_public_surface_changes_only_with_its_golden_file(rewriting):
    surface = public_surface()
    if rewriting:
        GOLDEN.write_text(surface)
    assert surface == GOLDEN.read_text(), (
        "the contract has changed: pytest --rewrite-golden, and read API_VERSION's rule"
    )


def test_every_module_is_public_or_internal():
    modules = {path.relative_to(CONTRACT).with_suffix("").as_posix() for path in CONTRACT.rglob("*.py")}
    assert modules == {*PUBLIC, *INTERNAL}
    assert not {*PUBLIC} & {*INTERNAL}


def test_the_version_begins_with_the_number_that_plugins_declare():
    assert API_VERSION.partition(".")[0] == str(API)


def test_a_change_of_a_signature_or_a_field_is_seen():
    source = "class A:\n    x: int = 1\n    def f(self, a): ...\nB: Final = 1\ndef _hidden(): ...\n"
    lines = list(entries(ast.parse(source).body))
    assert lines == ["class A()", "    x: int = 1", "    def f(self, a)", "B: Final"]
    for old, new in (("x: int", "x: str"), ("= 1\n    d", "= 2\n    d"), ("(self, a)", "(self, a, b)"), ("B:", "C:")):
        assert list(entries(ast.parse(source.replace(old, new)).body)) != lines
