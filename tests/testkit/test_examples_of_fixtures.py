"""Tests of the examples in the docstrings of the pytest plugin and of the simulated providers. Each must print the
documented output.
"""

from functools import partial

import pytest

from gateway.pytest_plugin import (  # noqa: F401 (fixtures of this module)
    irisgate_check,
    irisgate_chunkings,
    irisgate_gateway,
    irisgate_upstream,
)
from gateway.pytest_plugin.golden import compare
from tests.contract.test_examples import names_of_a_session
from tests.helpers.docstring_examples import differences
from tests.helpers.source_tree import ROOT
from tests.tools.reference_chapters import CHAPTERS
from tests.tools.reference_page import module_of, names_of

(TOOLS,) = [chapter for chapter in CHAPTERS if chapter.title == "Test tools"]
NAMES = {
    f"{module_of(part)}.{each.full_name}": each
    for part in TOOLS.parts
    for name in names_of(part)
    for each in (name, *name.members)
}


@pytest.fixture
def irisgate_golden():
    """Replace the fixture `irisgate_golden`, which would need a command-line option of the pytest plugin."""
    return partial(compare, rewrite=False)


@pytest.fixture
def session(request, tmp_path):
    """Return the namespace in which the examples run: fixtures, predefined values, and the folder of example plugins."""
    fixtures = {name: request.getfixturevalue(name) for name in TOOLS.parts[0].only}
    return {**names_of_a_session(), **fixtures, "tmp_path": tmp_path, "EXAMPLES": ROOT / "plugins" / "examples"}


def test_every_fixture_and_class_for_tests_has_an_example():
    called = [name for name, each in NAMES.items() if each.has_entry and not each.owner]
    assert len(called) > 20
    assert [name for name in called if ">>>" not in NAMES[name].doc] == []


@pytest.mark.parametrize("name", [name for name, each in NAMES.items() if ">>>" in each.doc])
async def test_an_example_gives_what_it_shows(name, session):
    assert await differences(NAMES[name].doc, session) == []
