"""The README against the code: its configurations load, and its tables name what there is."""

import re
from pathlib import Path

import pytest

from gateway.call.explain.explain import explain, somebody
from gateway.call.explain.text import worded
from gateway.call.runtime import runtime
from gateway.config.load import loads
from gateway.contract.losses import loss
from gateway.contract.registry import discover
from tests.tools import features

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
REGISTRY = discover()

CONFIGURATIONS = re.findall(r"^```jsonc\n(\{.*?^\})\n```$", README, re.MULTILINE | re.DOTALL)


def section(title):
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text):
    """The cells of a section's tables, without their heads and rules."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines]


def flags_table():
    """Flag to the cell that says what clients call."""
    return {row[0].strip("`"): row[2] for row in rows(section("Compatibility flags")) if len(row) == 3}


def test_the_readme_shows_configurations():
    assert len(CONFIGURATIONS) >= 2


@pytest.mark.parametrize("text", CONFIGURATIONS, ids=range(1, len(CONFIGURATIONS) + 1))
def test_a_configuration_of_the_readme_loads_and_only_what_is_left_out_is_warned_of(text, tmp_path):
    (tmp_path / "bedrock.key").write_text("a key")
    loaded = loads(text, known_flags=REGISTRY.flags, environ={}, folder=tmp_path)
    expected = [] if '"providers"' in text else ["no providers defined"]
    found = [finding.message for finding in loaded.warnings]
    assert len(found) == len(expected), found
    assert all(message.startswith(start) for message, start in zip(found, expected, strict=True)), found


def test_what_explain_is_shown_to_print_is_what_it_prints(tmp_path):
    (tmp_path / "bedrock.key").write_text("a key")
    loaded = loads(CONFIGURATIONS[0], known_flags=REGISTRY.flags, folder=tmp_path)
    command, *printed = re.findall(r"^\$ (irisgate explain .*)\n((?:.+\n)+?)```", README, re.MULTILINE)[0]
    words = command.split()
    who, model = words[words.index("--as") + 1], words[words.index("--model") + 1]
    assert worded(explain(runtime(loaded.config), somebody(who), model)).splitlines() == printed[0].splitlines()


def test_the_flags_table_names_every_flag_and_no_other():
    table = flags_table()
    assert {name for name in table if re.fullmatch(r"\w+_\w+", name)} == set(REGISTRY.flags)


@pytest.mark.parametrize("name", sorted(REGISTRY.flags))
def test_the_flags_table_names_the_routes_of_a_flag(name):
    cell = flags_table()[name]
    told = set()
    before = ""
    for span in re.findall(r"`([^`]+)`", cell):
        if span == "/bedrock":  # "also without"
            continue
        # "…/invoke" stands for what comes before the last part of the span in front of it
        path = before + span.removeprefix("…") if span.startswith("…") else span
        before = path.rpartition("/")[0]
        told.add(path)
    if "also without `/bedrock`" in cell:
        told |= {path.removeprefix("/bedrock") for path in told}
    routes = {re.sub(r"\{(\w+):[^}]*\}", "{id}", route.path) for route in REGISTRY.flags[name].routes}
    assert told == routes


def test_the_table_of_conversions_has_every_flag_as_a_provider():
    heads = [row for row in rows(section("Compatibility flags")) if row[0].startswith("client, down")]
    assert {cell.strip("`") for cell in heads[0][1:]} == set(REGISTRY.flags)


@pytest.mark.parametrize("kind", ["native", "re-enveloped", "translated"])
def test_the_table_of_conversions_knows_the_ways_of_a_reply(kind):
    assert kind in section("Compatibility flags")
    assert f"*{kind}*" in section("Architecture")


FEATURES = re.compile(r"(?<=<!-- features -->\n).*?(?=<!-- /features -->)", re.DOTALL)


def test_the_table_of_features_is_what_the_conversions_do(rewriting):
    table = features.table() + "\n"
    if rewriting:
        # read again: the file may have changed since this module was loaded
        path = ROOT / "README.md"
        path.write_text(FEATURES.sub(lambda _: table, path.read_text()))
    assert FEATURES.findall((ROOT / "README.md").read_text()) == [table]


def test_every_flag_with_a_conversion_has_a_name_in_the_table_of_features():
    assert set(features.LABELS) == set(REGISTRY.flags)


def test_by_the_data_envelopes_lose_least_and_the_last_conversions_most():
    """`gateway/contract/conversions.json` against what becomes of the table's features; conversions between the two ends are near each other."""
    losses = features.losses()
    first, last = loss("envelope", "", "").order, max(order for order, _ in losses.values())
    for name, (order, lost) in losses.items():
        others = [len(found) for other, (_, found) in losses.items() if other.split("__")[0] == name.split("__")[0]]
        if order == first:
            assert len(lost) == min(others), name
        if order == last:
            assert len(lost) == max(others), name


def test_the_architecture_names_files_that_exist():
    spans = [span for row in rows(section("Architecture")) for span in re.findall(r"`([^`]+)`", row[0])]
    assert len(spans) > 20
    for span in spans:
        places = [ROOT / span, ROOT / "gateway" / span, ROOT / "plugins" / "gateway_plugins" / span]
        assert any(place.exists() for place in places), span


def test_the_files_that_the_readme_links_to_exist():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_metrics_that_the_readme_names_are_exposed():
    source = (ROOT / "gateway" / "metrics.py").read_text()
    for name in re.findall(r"`irisgate_(\w+?)(?:_total)?`", section("Watching it")):
        assert f'"{name}"' in source or f'"irisgate_{name}"' in source, name


def test_the_changelog_has_what_is_unreleased():
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text()
