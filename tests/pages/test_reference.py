"""Tests of the reference page for authors of plugins: the page is up to date, and has every public name."""

import builtins
import re
from collections import Counter

from gateway.contract.flag import Flag
from gateway.contract.plugin_functions import members_of
from tests.contract.test_public_surface import EXTENDED, PUBLIC
from tests.tools.contract_source import public_names
from tests.tools.markdown import anchor
from tests.tools.reference_chapters import STEPS
from tests.tools.reference_page import PAGE as FILE
from tests.tools.reference_page import module_of, names_of, page, parts

PAGE = FILE.read_text()
OF_OTHERS = {"EXAMPLES", "Event.raw", "Mapping", "Model", "SecretStr", "ThrottlingException"}
"""Capitalised names in the page's texts that are not names of the contract."""
HEADINGS = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)


def test_the_page_is_what_its_command_writes():
    assert page() == PAGE, "write it again with python -m tests.tools.reference_page"


def test_every_public_name_is_on_the_page():
    shown = {(module_of(part), name.full_name) for part in parts() for name in names_of(part)}
    public = {
        (module, name.full_name)
        for module in (f"gateway.contract.{path.replace('/', '.')}" for path in PUBLIC if path not in EXTENDED)
        for name in public_names(module)
    }
    assert public <= shown


def test_an_anchor_that_a_link_names_is_that_of_one_heading():
    anchors = Counter(anchor(heading) for heading in HEADINGS)
    linked = set(re.findall(r"\]\(#([^)]*)\)", PAGE))
    assert len(linked) > 100
    assert [name for name in sorted(linked) if anchors[name] != 1] == []


def test_every_member_of_a_flag_has_an_entry():
    assert {f"Flag.{name}" for name in members_of(Flag)} <= set(HEADINGS)


def test_every_step_of_a_call_is_a_hook_on_the_page():
    assert {step.hook for steps in STEPS.values() for step in steps} <= set(HEADINGS)


def test_the_names_in_the_texts_exist():
    """Check that every code span that looks like a class or constant is a name on the page or of another library."""
    named = [(name, module_of(part).rpartition(".")[2]) for part in parts() for name in names_of(part)]
    known = {text for name, module in named for text in (name.name, f"{module}.{name.name}")}
    known |= {text for name, _ in named for member in name.members for text in (member.name, member.full_name)}
    texts = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    spans = set(re.findall(r"`([A-Z]\w+(?:\.\w+)?)`", texts))
    assert len(spans) > 50
    assert {span for span in spans - known if not hasattr(builtins, span)} == OF_OTHERS
