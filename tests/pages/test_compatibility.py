"""Compares `deploy/compatibility.md` with the code: compatibility flags, routes, and the results of each conversion."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from gateway.contract.conversions import conversions
from gateway.contract.losses import loss
from tests.helpers.own_plugins import discover_own
from tests.tools import features

PAGE = Path(__file__).resolve().parents[2] / "deploy" / "compatibility.md"
REGISTRY = discover_own()
FEATURES = re.compile(r"(?<=<!-- features -->\n).*?(?=<!-- /features -->)", re.DOTALL)
CLIENTS = {
    "Chat Completions": "openai_chat",
    "Responses": "openai_responses",
    "Anthropic Messages": "anthropic_messages",
    "InvokeModel": "bedrock_model_invoke",
    "Converse": "bedrock_converse",
    "Gemini": "gemini_generate_content",
}


def section(title):
    _, heading, rest = PAGE.read_text().partition(f"\n## {title}\n")
    assert heading, title
    return rest.partition("\n## ")[0]


def rows(text):
    """Return the rows of a section's tables, as lists of cells. Separator lines are left out."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if set(line[0]) != {"-"}]


def flags_table():
    """Return a dict from each compatibility flag to the text of the column "clients call" in the page's table."""
    return {row[0].strip("`"): row[2] for row in rows(section("Flags"))[1:]}


def test_the_flags_table_names_every_flag_and_no_other():
    assert set(flags_table()) == set(REGISTRY.flags)


@pytest.mark.parametrize("name", sorted(REGISTRY.flags))
def test_the_flags_table_names_the_routes_of_a_flag(name):
    cell = flags_table()[name]
    rows = set()
    before = ""
    for span in re.findall(r"`([^`]+)`", cell):
        if span == "/bedrock":  # "also without"
            continue
        # "…/invoke" stands for what comes before the last part of the span in front of it
        path = before + span.removeprefix("…") if span.startswith("…") else span
        before = path.rpartition("/")[0]
        rows.add(path)
    if "also without `/bedrock`" in cell:
        rows |= {path.removeprefix("/bedrock") for path in rows}
    routes = {re.sub(r"\{(\w+):[^}]*\}", "{id}", route.path) for route in REGISTRY.flags[name].routes}
    assert rows == routes


def test_the_table_of_clients_and_providers_is_what_the_registry_finds():
    head, *body = rows(section("Client and provider"))
    providers = [cell.strip("`") for cell in head[1:]]
    assert set(providers) == set(REGISTRY.flags)
    written = {
        (CLIENTS[row[0]], provider): re.sub(r" \(.*\)", "", cell)
        for row in body
        for provider, cell in zip(providers, row[1:], strict=True)
    }
    ways = defaultdict(set)
    for conversion in conversions(REGISTRY):
        ways[conversion.client, conversion.provider].add(conversion.way)
    assert {pair for pair, way in written.items() if way != "–"} == set(ways)
    for pair, of in ways.items():
        assert written[pair] in of, pair


def test_the_table_of_features_is_what_the_conversions_do(rewriting):
    table = features.table() + "\n"
    if rewriting:
        PAGE.write_text(FEATURES.sub(lambda _: table, PAGE.read_text()))
    assert FEATURES.findall(PAGE.read_text()) == [table]


def test_every_flag_with_a_conversion_has_a_name_in_the_table_of_features():
    assert set(features.LABELS) == set(REGISTRY.flags)


def test_by_the_data_envelopes_lose_least_and_the_last_conversions_most():
    """Check that conversions that lose few features are preferred.

    Of all conversions from one client's dialect, those with the highest preference must lose the fewest features, and
    those with the lowest preference must lose the most.
    """
    losses = features.losses()
    first, last = loss("envelope", "", "").order, max(order for order, _ in losses.values())
    for name, (order, lost) in losses.items():
        others = [len(fields) for other, (_, fields) in losses.items() if other.split("__")[0] == name.split("__")[0]]
        if order == first:
            assert len(lost) == min(others), name
        if order == last:
            assert len(lost) == max(others), name
