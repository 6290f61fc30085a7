"""Tests that the lock files have the exact versions of all packages in the development environments, and name no
registry.
"""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "tests/locks").glob("*.txt"))
EXACT = re.compile(r"[a-z0-9-]+==[a-z0-9.+]+(?: ; .*)?")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_holds_exact_versions_and_no_place_where_they_come_from(lock):
    head, *lines = lock.read_text().splitlines()
    assert head == "# Written by tests/lock."
    assert len(lines) > 2
    assert [line for line in lines if not EXACT.fullmatch(line) or "://" in line] == []


def test_every_requirement_is_locked_to_a_version_that_it_allows():
    lines = (ROOT / "tests/locks/development.txt").read_text().splitlines()[1:]
    locked = {each.name: each.specifier for each in map(Requirement, lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(text for extra in extras.values() for text in extra)]:
        needed = Requirement(text)
        if needed.name != project["name"]:
            (exact,) = locked[canonicalize_name(needed.name)]
            assert needed.specifier.contains(exact.version), text


def test_the_lock_of_npm_names_no_registry():
    """Check that no package in npm's lock file has an address. npm would use the address instead of the configured
    registry.
    """
    lock = (ROOT / "tests/clients/node/package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert lock.count('"integrity": "sha512-') > 10
