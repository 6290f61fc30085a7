"""Tests of plugins in a folder: they are modules of their own package, may share helpers, and may be packages
themselves.
"""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from gateway.contract.plugin_files import sources_in_use, use_sources
from gateway.contract.registry import discover
from tests.helpers.own_plugins import discover_own

OBSERVER = """
from __future__ import annotations

from dataclasses import dataclass

from ._shared import label

api = 1


@dataclass
class Line:
    text: str = label()


def seen(record) -> None:
    pass
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "_shared.py").write_text("def label():\n    return 'shared'\n")
    (tmp_path / "lines.py").write_text(OBSERVER)
    package = tmp_path / "packed"
    package.mkdir()
    (package / "__init__.py").write_text("from .._shared import label\nfrom .inner import seen\n\napi = 1\n")
    (package / "inner.py").write_text("def seen(record):\n    pass\n")
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_files_and_packages_are_plugins_and_helpers_are_not(folder):
    assert set(discover_own(folder).observers) == {"lines", "packed"}


def test_a_dataclass_of_a_plugin_is_pickled_into_a_worker_process(folder):
    function = discover(folder).observers["lines"]["seen"].function
    line = function.__globals__["Line"]()
    assert pickle.loads(pickle.dumps(line)) == line
    arguments = {"mp_context": get_context("spawn"), "initializer": use_sources, "initargs": (sources_in_use(),)}
    with ProcessPoolExecutor(1, **arguments) as workers:
        assert workers.submit(repr, line).result(timeout=60) == "Line(text='shared')"


def test_a_second_discovery_reads_new_code_of_helpers_too(folder):
    discover(folder)
    (folder / "_shared.py").write_text("def label():\n    return 'another text'\n")
    function = discover(folder).observers["lines"]["seen"].function
    assert function.__globals__["Line"]().text == "another text"
