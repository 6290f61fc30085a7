"""Limits on the files of this repository: their size and structure, and what they may not contain."""

import ast
import re

import pytest

from tests.conftest import LONG
from tests.helpers.source_tree import ROOT, SOURCES, TESTS, name, text, trees

_SCRIPTS = "deploy/run deploy/systemd/backup-daily deploy/try-tailnet deploy/venv tests/run tests/newest tests/lock tests/bench/install .ci/run"
SCRIPTS = [ROOT / name for name in _SCRIPTS.split()]

MAX_LINES = 600
MAX_PLUGIN_LINES = 400
MAX_FUNCTION = 60
MAX_COMPLEXITY = 10
MAX_TEST_NAME = 70
_BRANCHES = ast.If | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler
_SERVER_SIDE = {
    "access/identity/localapi.py", "call/call_routes.py", "call/context.py", "call/early_stream.py", "call/guard.py", "call/request_body.py",
    "call/request_parsing.py", "call/server.py", "call/stream_writer.py",
    "process/app.py", "process/call_path.py", "process/http.py", "process/serve.py", "process/sites.py", "process/workers/accepting.py",
    "process/workers/app.py", "process/workers/pages.py", "process/workers/sites.py", "process/workers/worker.py", "upstream/fetch/client.py", "upstream/fetch/filter_client.py",
    "web/connections.py", "web/http_server.py", "web/discovery.py", "web/model_lists.py", "web/providers_list.py", "web/readiness.py", "web/wrong_paths.py",
}  # fmt: skip


@pytest.fixture(scope="module")
def sources():
    return trees(SOURCES)


def test_a_file_can_be_read_in_one_go():
    assert [name(path) for path in (*SOURCES, *TESTS) if len(text(path).splitlines()) > MAX_LINES] == []


def test_a_function_fits_on_a_screen_and_has_few_ways(sources):
    wrong = []
    for path, tree in sources.items():
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        for node in functions:
            lines = node.end_lineno - node.lineno
            ways = 1 + sum(isinstance(part, _BRANCHES) for part in ast.walk(node))
            if lines >= MAX_FUNCTION or ways > MAX_COMPLEXITY + 2:
                wrong.append(f"{name(path)}:{node.lineno}: {node.name} has {lines} lines and {ways} ways")
    assert wrong == []


def test_a_tests_name_is_short():
    names = [name for path in TESTS for name in re.findall(r"^ *(?:async )?def (test_\w+)", text(path), re.MULTILINE)]
    assert len(names) > 2_000
    assert [long for long in names if len(long) > MAX_TEST_NAME] == []


def test_a_file_opens_with_what_it_is(sources):
    """Check that each file begins with a docstring."""
    assert [name(path) for path, tree in sources.items() if text(path) and not ast.get_docstring(tree)] == []


def test_a_plugin_does_no_io_and_compares_with_no_models_name():
    doing_io = re.compile(r"^\s*(import|from) (aiohttp|asyncio|socket|requests|os|pathlib)\b", re.MULTILINE)
    naming_models = re.compile(
        r"""(==|!=|\bin\b|startswith\()\s*\(?["'](claude|anthropic\.|amazon\.|nova|gpt|llama|mistral)"""
    )
    plugins = [path for path in SOURCES if path.is_relative_to(ROOT / "plugins")]
    assert [name(path) for path in plugins if doing_io.search(text(path)) or naming_models.search(text(path))] == []
    assert [name(path) for path in plugins if len(text(path).splitlines()) > MAX_PLUGIN_LINES] == []


def test_nothing_is_left_for_later_or_tells_of_a_machine():
    words = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "/wo" + "rk/", "/ro" + "ot/", "pypi" + ".org", "npmjs" + ".org"]
    paths = [*SOURCES, *TESTS, *SCRIPTS]
    assert [(name(path), word) for path in paths for word in words if word in text(path)] == []


def test_files_that_run_first_are_there():
    assert [file for file in sorted(LONG) if not (ROOT / "tests" / file).is_file()] == []


def test_only_the_files_that_do_io_import_aiohttp():
    importing = {
        str(path.relative_to(ROOT / "gateway"))
        for path in (ROOT / "gateway").rglob("*.py")
        if re.search(r"^(import|from) aiohttp\b", text(path), re.MULTILINE)
    }
    allowed = ("web/admin/", "web/dashboard/", "testkit/", "pytest_plugin/")
    assert {path for path in importing if not path.startswith(allowed)} == _SERVER_SIDE


def test_a_broad_except_stands_only_where_a_call_or_a_task_ends(sources):
    broad = [
        f"{name(path)}:{node.lineno}"
        for path, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}))
    ]
    allowed = (
        "gateway/call/awaiting.py",
        "gateway/call/plugin_threads.py",
        "gateway/call/finish.py",
        "gateway/call/bank_rounds.py",
        "gateway/call/provider_stream.py",
        "gateway/call/server.py",
        "gateway/contract/hooks.py",
        "gateway/contract/plugin_imports.py",
        "gateway/contract/registry.py",
        "gateway/store/",
        "gateway/config/document/watch.py",
        "gateway/telemetry/",
        "gateway/process/model_refresh.py",
        "gateway/process/exports/task.py",
        "gateway/process/reload.py",
        "gateway/process/workers/worker.py",
        "gateway/process/shared_config.py",
        "gateway/web/connections.py",
    )
    assert [place for place in broad if not place.startswith(allowed)] == []


def test_the_package_has_no_loose_modules():
    """Check that every module of the gateway is in a subpackage. lint-imports checks only imports between subpackages."""
    assert {path.name for path in (ROOT / "gateway").iterdir() if path.is_file()} == {
        "__init__.py", "__main__.py", "py.typed",
    }  # fmt: skip
