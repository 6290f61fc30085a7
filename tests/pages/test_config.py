"""Tests of `deploy/config.md`: it is what its generator writes, and it has every key of the configuration's schema."""

import re

import pytest

from gateway.config.export import json_schema
from tests.helpers.own_plugins import discover_own
from tests.tools import config_page
from tests.tools.markdown import WIDTH


def keys(shape):
    """Return every key of a JSON Schema, at any depth, in no particular order."""
    if isinstance(shape, list):
        return {key for part in shape for key in keys(part)}
    if not isinstance(shape, dict):
        return set()
    own = shape.get("properties", {})
    return set(own) | {key for part in shape.values() for key in keys(part)}


def test_the_page_is_what_its_generator_writes(rewriting):
    if rewriting:
        config_page.PAGE.write_text(config_page.page())
    assert config_page.PAGE.read_text() == config_page.page()


def test_every_key_of_the_schema_has_an_entry():
    written = set(re.findall(r"^- \*\*`(.+?)`\*\* \(", config_page.page(), re.MULTILINE))
    # the capabilities' own names and the flags are values of a key, and stand in its entry
    missing = keys(json_schema()) - written - {"tailscale.com/cap/aperture", "irisgate.dev/cap/irisgate"}
    assert missing == set()
    assert all(f"`{flag}`" in config_page.page() for flag in discover_own().flags)


def test_an_entry_says_what_the_key_means_its_type_and_its_default():
    flat = config_page.page().replace("\n  ", " ")
    entries = re.findall(
        r"^- \*\*`([^`]+)`\*\* \((.*?), (?:required|default (?:not set|`.*?`))\): .+\.$", flat, re.MULTILINE
    )
    assert len(entries) == len(re.findall(r"^- \*\*`", flat, re.MULTILINE)) > 150


@pytest.mark.parametrize(
    ("description", "parts"),
    [
        ('The model: "m".', ("The model.", '"m"')),
        ("Seconds to wait, such as 10.", ("Seconds to wait.", "10")),
        ("Whether it is so: true or false.", ("Whether it is so.", "")),
        ('One of two: "a" or "b".', ('One of two: "a" or "b".', "")),
    ],
)
def test_an_example_stands_apart_from_the_meaning(description, parts):
    assert config_page._parted(description) == parts


def test_a_code_span_stays_on_one_line_and_lines_are_of_one_length():
    entries = config_page.page().removeprefix(config_page.HEAD).splitlines()
    assert [line for line in entries if line.count("`") % 2] == []
    assert [line for line in config_page.page().splitlines() if len(line) > WIDTH] == []
