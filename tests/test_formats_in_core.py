"""Tests that modules outside of the plugins do not name API formats or their makers. The exceptions are listed here."""

import ast
import re
from functools import cache

import pytest

from gateway.contract.flag import OPAQUE
from tests.helpers.own_plugins import discover_own
from tests.helpers.source_tree import SOURCES, name, trees

WORDS = re.compile("anthropic|bedrock|converse|openai|gemini", re.IGNORECASE)


def words_of(tree):
    """Yield the identifiers and strings of a module. Docstrings and the descriptions of settings are left out."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in {"description", "examples"}:
            texts |= {id(each) for each in ast.walk(node.value)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text) | bytes(text)) if id(node) not in texts:
                yield text.decode("latin-1") if isinstance(text, bytes) else text
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.arg(arg=text) | ast.keyword(arg=str(text)):
                yield text
            case ast.FunctionDef(name=text) | ast.AsyncFunctionDef(name=text) | ast.ClassDef(name=text):
                yield text
            case ast.ImportFrom(module=str(text)):
                yield text
                yield from (each.name for each in node.names)


REASONS = {
    "gateway/call/direct/headers.py": "headers by which a client chooses another account than the gateway's",
    "gateway/config/advice.py": "price lists, by the names that the configuration has for them",
    "gateway/config/advice_bedrock.py": "hosts, regions and ARNs of AWS, whatever format is spoken there",
    "gateway/config/credentials.py": "the name of the service for which AWS's requests are signed",
    "gateway/config/document/secret_patterns.py": "the beginning of one maker's keys, which are redacted",
    "gateway/config/document/secrets.py": "an example in a message",
    "gateway/config/example.py": "the configuration that a new installation gets",
    "gateway/config/fields.py": "examples in messages",
    "gateway/config/sections/aws.py": "names of AWS's services",
    "gateway/config/sections/capabilities.py": "a capability by the name of the member that it is about",
    "gateway/config/sections/key_helpers.py": "an example in a message",
    "gateway/config/sections/price_rows.py": "price lists by name",
    "gateway/config/sections/prices.py": "a price list whose prices have a region",
    "gateway/config/sections/providers.py": "the flags of the hosted product's documents, and its default",
    "gateway/contract/capabilities.py": "a capability by the name of the member that it is about, and AWS's form of an ARN",
    "gateway/contract/plugin_checks.py": "examples in messages",
    "gateway/money/prices/rows.py": "price lists by name",
    "gateway/money/prices/table.py": "price lists by name",
    "gateway/money/quotas/estimate.py": "headers by which a tier is chosen; another format's only make a reservation higher",
    "gateway/process/command_line.py": "the help of the demo",
    "gateway/process/commands/demonstrating.py": "the help of the demo",
    "gateway/process/demo.py": "the simulated provider of the demo, and its clients",
    "gateway/process/explain_command.py": "an example in the help",
    "gateway/process/prices_command.py": "a price list whose prices have a region",
    "gateway/process/sample_month.py": "the invented calls of the demo's month",
    "gateway/upstream/credentials/keys.py": "members of a body by which LiteLLM's clients choose an address, which are refused",
    "gateway/upstream/credentials/sigv4.py": "names of AWS's services, and its form of a short-term key",
    "gateway/upstream/reply_headers.py": "headers of providers that reach every client",
    "gateway/upstream/request_metadata.py": "AWS's header for metadata about the caller",
    "gateway/web/dashboard/connect.py": "the settings of each client, as its maker names them",
}
"""The files of the core that may name an API format or its maker, each with the reason."""
TEST_KIT = ("gateway/testkit/", "gateway/pytest_plugin/")
"""Folders that may name all API formats, because they have the simulated providers and the fixtures of all formats."""


@cache
def core():
    """Return the words of each file of the core, which is the gateway without its plugins.

    The files are not read at import, because every test process imports this module, but only one process runs its
    tests.
    """
    return {
        name(path): frozenset(words_of(tree))
        for path, tree in trees(SOURCES).items()
        if name(path).startswith("gateway/") and not name(path).startswith(TEST_KIT)
    }


def test_a_format_is_named_only_where_there_is_a_reason():
    naming = {path for path, words in core().items() if any(map(WORDS.search, words))}
    assert naming == set(REASONS)


def test_no_code_compares_with_the_name_of_a_flag():
    """Check that the names of compatibility flags and dialects occur only in plugins, and in four other files.

    These files have examples, the demo, and a warning about a setting without effect.
    """
    registry = discover_own()
    names = {*registry.flags, *(dialect for flag in registry.flags.values() for dialect in flag.dialects)} - {OPAQUE}
    naming = {path for path, words in core().items() if names & words}
    allowed = {
        "config/advice_bedrock.py", "config/sections/providers.py", "process/demo.py", "process/sample_month.py",
    }  # fmt: skip
    assert naming == {f"gateway/{file}" for file in allowed}


@pytest.mark.parametrize(
    ("code", "is_named"),
    [
        ('if flag.startswith("bedrock_"): pass', True),
        ("caps.anthropic_versions", True),
        ("def read_gemini(): pass", True),
        ("from gateway_plugins.dialects.openai import errors", True),
        ("call(converse=1)", True),
        ('"""A docstring about Bedrock."""', False),
        ('Field(description="such as bedrock")', False),
        ("chat = 1", False),
    ],
)
def test_a_name_in_code_is_found(code, is_named):
    assert any(WORDS.search(word) for word in words_of(ast.parse(code))) == is_named
