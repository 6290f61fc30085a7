"""Tests of the conversions between the API formats of clients and providers, and of the choice of the conversion for a
call.

The gateway chooses the conversion that loses the fewest features. `irisgate plugins list` shows all conversions.
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import gateway.contract.losses
from gateway.call.conversion_choice import Asked, Conversions
from gateway.config.model import Provider
from gateway.contract.capabilities import capabilities
from gateway.contract.conversions import conversions, missing
from gateway.contract.losses import is_known, loss
from gateway.contract.registry import discover
from gateway.process.plugins_list import plugins_list
from gateway.upstream.catalog import Offer
from gateway.upstream.http1.targets import base
from tests.helpers.authors_mistakes import FLAG, TRANSLATOR
from tests.helpers.gateway import HAIKU, NOVA
from tests.helpers.own_plugins import discover_own
from tests.helpers.processes import irisgate

REGISTRY = discover_own()
DATA = json.loads(Path(gateway.contract.losses.__file__).with_name("conversions.json").read_bytes())


def chosen(flag, dialect, operation, model, *flags):
    """Return the conversion that is used with a provider that has the flags `flags`, as a pair of the provider's
    compatibility flag and the kind of conversion.
    """
    provider = Provider("p", "https://x", flags=flags)
    offer = Offer(provider, model, capabilities(model), model)
    conversion = Conversions(REGISTRY).best(Asked(flag, dialect, operation), offer)
    return conversion.flag.name, conversion.way


ALL = ("openai_chat", "bedrock_converse", "bedrock_model_invoke", "anthropic_messages")


@pytest.mark.parametrize(
    ("client", "model", "flags", "expected"),
    [
        ("anthropic_messages", HAIKU, ALL, ("anthropic_messages", "native")),
        ("anthropic_messages", HAIKU, ALL[:3], ("bedrock_model_invoke", "envelope")),
        ("anthropic_messages", HAIKU, ALL[:2], ("bedrock_converse", "translated")),
        ("anthropic_messages", HAIKU, ALL[:1], ("openai_chat", "translated")),
        ("openai_chat", HAIKU, ALL[1:3], ("bedrock_model_invoke", "translated")),
        ("openai_chat", NOVA, ALL[1:3], ("bedrock_converse", "translated")),
        ("bedrock_converse", HAIKU, ALL, ("bedrock_converse", "native")),
        ("bedrock_converse", HAIKU, ("openai_chat", "bedrock_model_invoke"), ("bedrock_model_invoke", "translated")),
    ],
)
def test_the_least_lossy_conversion_wins_in_any_flag_order(client, model, flags, expected):
    """Check that the conversion with the least loss is used, in any order of the compatibility flags in the
    configuration.
    """
    for order in (flags, flags[::-1]):
        assert chosen(client, client, "generate", model, *order) == expected


@pytest.mark.parametrize(
    ("dialect", "flags", "expected"),
    [
        ("anthropic_messages", ("bedrock_converse", "bedrock_model_invoke"), ("bedrock_model_invoke", "envelope")),
        ("anthropic_messages", ("bedrock_converse",), ("bedrock_converse", "translated")),
        ("anthropic_messages", ("openai_chat",), ("openai_chat", "estimate")),
    ],
)
def test_tokens_are_counted_by_the_nearest_that_counts_and_else_estimated(dialect, flags, expected):
    assert chosen("anthropic_messages", dialect, "count_tokens", HAIKU, *flags) == expected


@pytest.mark.parametrize("dialect", ["bedrock_converse", "anthropic_messages", "opaque"])
def test_count_tokens_is_native_to_bedrock_and_reaches_others(dialect):
    """Check how a CountTokens request is answered, by kind of provider.

    Bedrock gets the body unchanged. Another provider gets a translated request if its API can count tokens. If its API
    cannot, the gateway makes an estimate.
    """
    client = ("bedrock_model_invoke", dialect, "count_tokens", HAIKU)
    assert chosen(*client, "bedrock_model_invoke")[1] == "native"
    assert chosen(*client, "bedrock_converse")[1] == "native"
    ways = {"bedrock_converse": "translated", "anthropic_messages": "envelope", "opaque": "estimate"}
    assert chosen(*client, "anthropic_messages")[1] == ways[dialect]
    assert chosen(*client, "openai_chat")[1] == "estimate"


def test_every_built_in_translator_stands_in_the_data_and_every_row_is_one():
    assert {f"{client}__{upstream}" for client, upstream in REGISTRY.translators} == set(DATA["conversions"])
    for row in (*DATA["same"].values(), *DATA["conversions"].values()):
        assert row["loses"]


def test_nothing_loses_less_than_the_native_way_nor_more_than_an_estimate():
    orders = [row["order"] for row in DATA["conversions"].values()]
    native, envelope, estimate = (loss(way, "", "").order for way in ("native", "envelope", "estimate"))
    assert native < envelope < min(orders) <= max(orders) < estimate


def test_the_listed_translators_make_the_missing_conversions(tmp_path):
    (tmp_path / "acme.py").write_text(FLAG)
    lacking = list(missing(discover_own(tmp_path)))
    assert ("openai_chat", "acme", ("openai_chat__acme_text",)) in lacking
    assert ("acme", "bedrock_converse", ("acme_text__bedrock_converse",)) in lacking
    made = {(conversion.client, conversion.provider) for conversion in conversions(REGISTRY)}
    assert not made & {(client, provider) for client, provider, _ in lacking}
    for _, _, names in lacking:
        (tmp_path / f"{names[0]}.py").write_text(TRANSLATOR)
    complete = discover_own(tmp_path)
    assert list(missing(complete)) == []
    made = {(conversion.client, conversion.provider) for conversion in conversions(complete)}
    assert {(client, provider) for client, provider, _ in lacking} <= made


def test_a_translator_that_the_data_do_not_name_says_its_own_number():
    assert not is_known("a__b")
    assert loss("translated", "a", "b", SimpleNamespace(loses=7)).order == 7


def test_the_listing_has_all_flags_routes_and_conversions():
    """Check that the list has every compatibility flag, route and conversion, and each client's least lossy conversion
    first.
    """
    text = plugins_list(REGISTRY)
    assert re.search(r"^bedrock_converse +openai_responses +bedrock_converse__openai_responses$", text, re.MULTILINE)
    for flag in REGISTRY.flags.values():
        for route in flag.routes:
            assert f"{route.method} {route.path}" in text
    expected = list(conversions(REGISTRY))
    assert [conversion.loss.order for conversion in expected if conversion.client == "openai_chat"] == sorted(
        conversion.loss.order for conversion in expected if conversion.client == "openai_chat"
    )
    assert {
        (conversion.dialect, conversion.upstream) for conversion in expected if conversion.way == "translated"
    } == set(REGISTRY.translators)
    assert all(conversion.loss.loses in text for conversion in expected)


async def test_the_command_prints_the_listing(tmp_path):
    status, out, err = await irisgate(tmp_path, "plugins", "list")
    assert (status, out.strip(), err) == (0, plugins_list(discover()), "")


async def test_the_command_lists_plugins_of_a_folder_too(tmp_path):
    (tmp_path / "watcher.py").write_text("api = 1\ndef seen(record): ...\n")
    status, out, _ = await irisgate(tmp_path, "plugins", "list", "--plugins", ".")
    (observers,) = re.findall("^Observers: (.*)$", out, re.MULTILINE)
    assert (status, observers.split(", ")[-1]) == (0, "watcher")


@pytest.mark.parametrize(
    ("baseurl", "path", "joined"),
    [
        ("https://api.anthropic.com", "/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/", "/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("https://b.example/anthropic", "/v1/messages", "https://b.example/anthropic/v1/messages"),
        ("https://b.example/anthropic/v1", "/v1/messages", "https://b.example/anthropic/v1/messages"),
        ("https://b.example/openai/v1", "/v1/chat/completions", "https://b.example/openai/v1/chat/completions"),
        ("https://z.example/paas/v4", "/v1/chat/completions", "https://z.example/paas/v4/chat/completions"),
        ("https://b.example", "/model/a%3A0/invoke", "https://b.example/model/a%3A0/invoke"),
        ("https://b.example/v1", "/v1beta/models/x", "https://b.example/v1/models/x"),
    ],
)
def test_a_path_is_joined_to_a_base_url_without_a_second_version(baseurl, path, joined):
    where = base(baseurl)
    assert f"{where.origin.scheme}://{where.authority}{where.target(path, '')}" == joined
