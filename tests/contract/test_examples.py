"""Tests of the examples in the contract's docstrings: every public name has one, and it prints the documented output.

- A public class or function has an example of its own, and so has each method of the protocols that plugins implement.
- Any other method is used in its own example or in the example of its class. Fields and constants need no example.
"""

import re

import pytest

from gateway.contract.plugin_functions import function_fault
from tests.contract import example_values
from tests.contract.test_public_surface import EXTENDED, PUBLIC
from tests.helpers.docstring_examples import differences
from tests.tools.contract_source import public_names
from tests.tools.reference_page import KINDS

NAMES = {
    f"{module}.{each.full_name}": each
    for module in (f"gateway.contract.{path.replace('/', '.')}" for path in PUBLIC if path not in EXTENDED)
    for name in public_names(module)
    for each in (name, *name.members)
}
"""Descriptions of the contract's public names, including members of classes. The key is the full name with its module.
"""
HOOKS = {name: each for name, each in NAMES.items() if each.owner in {*KINDS, "Filter"}}
DECLARED = {each.name for each in NAMES.values() if each.owner in {"Decoder", "FrameDecoder", "Encoder", "Meter"}}


def names_of_a_session():
    """Return a new namespace for the examples of one docstring, with the names in `example_values`.

    A docstring must not see the names that the examples of another one define.
    """
    return {**vars(example_values), "dropped": (dropped := []), "drop": dropped.append}


@pytest.mark.parametrize("name", [name for name, each in NAMES.items() if ">>>" in each.doc])
async def test_an_example_gives_what_it_shows(name):
    assert await differences(NAMES[name].doc, names_of_a_session()) == []


def test_every_public_class_and_function_has_an_example():
    called = {name for name, each in NAMES.items() if each.kind in {"class", "function"} and not each.owner}
    assert len(called) > 100
    assert [name for name in sorted(called | {*HOOKS}) if ">>>" not in NAMES[name].doc] == []


def test_every_other_method_is_used_in_an_example():
    classes = {name: each for name, each in NAMES.items() if each.kind == "class"}
    methods = [
        (name, each)
        for name, each in NAMES.items()
        if each.kind in {"function", "property"} and each.owner and name not in HOOKS and each.name not in DECLARED
    ]
    assert len(methods) >= 20
    unused = []
    for name, method in methods:
        session = method.doc + classes[name.rpartition(".")[0]].doc
        if not re.search(
            rf"(\.|def ){method.name}\b", "".join(re.findall(r"^(?:>>>|\.\.\.) .*$", session, re.MULTILINE))
        ):
            unused.append(name)
    assert unused == []


@pytest.mark.parametrize(
    ("kind", "member"),
    [(kind, member) for kind in KINDS for member in {**KINDS[kind].rules, **KINDS[kind].functions}],
)
async def test_the_example_of_a_member_is_accepted_by_the_registry(kind, member):
    names = names_of_a_session()
    (doc,) = [each.doc for each in HOOKS.values() if (each.owner, each.name) == (kind, member)]
    await differences(doc, names)
    rule = KINDS[kind].rules.get(member)
    if rule is None:
        assert function_fault(member, KINDS[kind].functions[member], names[member], may_wait=False) == ""
    else:
        assert rule.is_right(names[member])


@pytest.mark.parametrize(
    ("docstring", "wrong"),
    [
        (">>> 1 + 1\n2\n", []),
        (">>> 1 + 1\n3\n", [">>> 1 + 1\n2\n"]),
        (">>> 1 + 1\n", [">>> 1 + 1\n2\n"]),
        (">>> None\n1\n", [">>> None\n"]),
        (">>> [].pop()\nTraceback (most recent call last):\n    ...\nIndexError: pop from empty list\n", []),
        (">>> 1\nTraceback (most recent call last):\n    ...\nIndexError: pop from empty list\n", [">>> 1\n1\n"]),
        (">>> [].pop()\n", [">>> [].pop()\nIndexError: pop from empty list\n"]),
        (">>> async def one(): return 1\n>>> await one()\n1\n", []),
        (">>> async def one(): return 1\n>>> await one()\n2\n", [">>> await one()\n1\n"]),
    ],
)
async def test_an_example_that_gives_anything_else_is_reported(docstring, wrong):
    assert await differences(docstring, {}) == wrong
