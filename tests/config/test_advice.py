"""Tests of warnings about configurations that are valid but will not do what their authors expect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.config.load import loads
from gateway.contract.registry import KnownPlugins
from gateway.money.prices.table import BASES
from tests.config.examples import (
    EVERYTHING_HOSTED,
    KNOWN,
    PRODUCT_PAGE,
    SMALLEST,
    TWO_REGIONS,
    config,
    provider,
    warnings,
)
from tests.helpers.own_plugins import discover_own

BUILT_IN = discover_own().known

NOBODY_MANAGES = ": no grant in grants or temp_grants assigns role:admin; nobody will be able to manage this instance"
ADMIN = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"role": "admin"}]}}]


@pytest.mark.parametrize("text", [PRODUCT_PAGE, TWO_REGIONS])
def test_providers_without_grants_warn_that_everyone_is_denied(text: str) -> None:
    messages = [warning for warning in warnings(text) if ".apikey: is a placeholder; " not in warning]
    assert messages == [': providers are configured but no "grants"; everyone will be denied']


def test_the_smallest_documented_configuration_warns_once() -> None:
    """Check that the smallest complete configuration in the documentation has one warning: nobody may manage the
    gateway.
    """
    assert warnings(SMALLEST) == [NOBODY_MANAGES]


def test_keys_that_are_not_built_yet_warn_each_once() -> None:
    messages = [warning for warning in warnings(EVERYTHING_HOSTED) if ": not supported yet" in warning]
    names = [warning.split(":")[0].rpartition(".")[2] for warning in messages]
    assert {"hooks", "keep_encrypted_blobs", "mcp", "connectors"} <= set(names)
    assert {"flags", "chat_models", "upstream", "hook", "send_hooks"} <= set(names)
    assert len(messages) == 21


def test_a_configuration_that_has_everything_warns_of_nothing_else() -> None:
    others = [warning for warning in warnings(EVERYTHING_HOSTED) if "not supported yet" not in warning]
    assert others == ['temp_grants: deprecated; write it as "grants"']


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", ": no providers defined"),
        (config({"baseURL": "x"}), 'providers.p.baseURL: unknown key; it has no effect; did you mean "baseurl"?'),
        (config(grant=[]), 'grant: unknown key; it has no effect; did you mean "grants"?'),
        (config(server={"host": []}), 'server.host: unknown key; it has no effect; did you mean "hosts"?'),
        (config(server={"limits": {"x": 1}}), "server.limits.x: unknown key"),
        (config({"upstream": {}}), "providers.p.upstream: not supported yet"),
        (config(resilience={"retries": 3}), "resilience.retries: unknown key"),
        (config(grants=[{"src": ["*"], "app": {}, "dst": ["tag:x"]}]), "grants[0].dst: unknown key"),
        (config(grants=[{"src": ["autogroup:member"], "app": {}}]), 'grants[0].src[0]: "autogroup:member" exists'),
        (config({"baseurl": ""}), "providers.p: no baseurl configured"),
        (config({"models": []}), 'providers.p: no "models" configured'),
        (config({"compatibility": {"openai_chat": False}}), "providers.p.compatibility: no known flag is enabled"),
        (config({"compatibility": {"openai_chatt": True, "openai_chat": True}}), "compatibility.openai_chatt: unknown"),
    ],
)
def test_what_will_not_do_what_is_expected_warns(text: str, expected: str) -> None:
    assert [warning for warning in warnings(text, plugins=KnownPlugins(KNOWN)) if expected in warning]


@pytest.mark.parametrize("flag", BUILT_IN.flags)
def test_a_bedrock_provider_without_a_price_list_warns_and_no_other(flag: str) -> None:
    def warnings_of(cost_basis: str | None) -> list[str]:
        return warnings(config({"compatibility": {flag: True}, "cost_basis": cost_basis}), plugins=BUILT_IN)

    sign = "providers.p: no cost_basis configured, so costs are unknown; there are prices for "
    assert [warning.startswith(sign) for warning in warnings_of(None)] == [True] * flag.startswith("bedrock_")
    assert not warnings_of("bedrock-us")


@pytest.mark.parametrize("cost_basis", ["bedrock-uss", "x"])
def test_a_price_list_without_prices_here_warns_and_the_others_are_named(cost_basis: str) -> None:
    (warning,) = warnings(config({"cost_basis": cost_basis}))
    assert warning.startswith("providers.p.cost_basis: no prices are known for this price list")
    assert ", ".join(BASES) in warning
    assert warning.endswith('did you mean "bedrock-us"?') is (cost_basis == "bedrock-uss")


@pytest.mark.parametrize("cost_basis", BASES)
def test_a_price_list_with_prices_does_not_warn(cost_basis: str) -> None:
    assert not warnings(config({"cost_basis": cost_basis}))


def test_an_unknown_flag_warns_and_names_the_known_ones() -> None:
    text = config({"compatibility": {"bedrock_invoke_model": True, "openai_chat": True}})
    (warning,) = warnings(text, plugins=KnownPlugins(KNOWN))
    assert warning == (
        "providers.p.compatibility.bedrock_invoke_model: unknown flag; it has no effect; there are "
        'anthropic_messages, bedrock_converse, bedrock_model_invoke, openai_chat; did you mean "bedrock_model_invoke"?'
    )
    assert loads(text, plugins=KnownPlugins(KNOWN)).config.providers["p"].flags == ("openai_chat",)


def test_a_provider_that_cannot_be_called_is_left_out_of_routing() -> None:
    assert provider(baseurl="").disabled


def test_a_provider_without_a_key_warns_unless_it_says_so() -> None:
    whole = {"baseurl": "http://127.0.0.1:11434", "models": ["m"], "cost_basis": ""}
    assert "no apikey configured" in warnings(json.dumps({"providers": {"p": whole}, "grants": ADMIN}))[0]
    assert not warnings(json.dumps({"providers": {"p": {**whole, "apikey": ""}}, "grants": ADMIN}))


def test_a_model_at_two_equal_providers_warns_which_one_serves() -> None:
    """Check that there is a warning if two providers with equal preference have the same model. The warning says which
    provider gets the calls.
    """
    whole = {"baseurl": "https://x", "apikey": "k", "models": ["a", "m"], "cost_basis": ""}

    def warnings_of(**changes: Any) -> list[str]:
        other = {**whole, "models": ["m"], **changes}
        return warnings(json.dumps({"providers": {"one": whole, "two": other}, "grants": ADMIN}))

    (warning,) = warnings_of()
    assert warning.startswith('providers.two.models[0]: provider "one" has this model too')
    assert not warnings_of(preference=1)
    assert not warnings_of(disabled=True)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("p/**", None),
        ("**", None),
        ("*/m", None),
        ("q/*", 'models pattern "q/*" references provider "q" which does not match any declared provider'),
        ("m", 'models pattern "m" can match nothing; write it as "provider/model"'),
    ],
)
def test_a_pattern_that_no_provider_answers_to_warns(pattern: str, expected: str | None) -> None:
    grants = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"models": pattern}]}}, *ADMIN]
    messages = warnings(config(grants=grants))
    assert messages == ([f'grants[0].app."tailscale.com/cap/aperture"[0].models: {expected}'] if expected else [])


GRANTED = 'grants[0].app."tailscale.com/cap/aperture"[0].models: '


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("p/fast", True), ("fast", True), ("x/fast", True), ("p/several", True),
        ("p/m", False), ("p/*", False), ("**", False), ("p/fas*", False), ("p/slow", False), ("p/both", False),
    ],
)  # fmt: skip
def test_a_grant_that_names_a_model_alias_is_told_what_to_write(pattern: str, told: bool) -> None:
    aliases = {"fast": {"dst": ["p/m"]}, "several": {"dst": ["p/m", "p/both"]}, "both": {"dst": ["p/m"]}}
    grants = [{"src": ["*"], "app": {"tailscale.com/cap/aperture": [{"models": pattern}]}}, *ADMIN]
    text = config({"models": ["m", "both"]}, grants=grants, model_aliases={"models": aliases})
    named = [line for line in warnings(text) if "names a model alias" in line]
    assert len(named) == told
    assert all(line.startswith(GRANTED) and 'write "p/m"' in line for line in named)


def test_a_flag_of_the_hosted_product_warns_only_where_it_is_on() -> None:
    flags = {"openai_chat": True, "google_raw_predict": True, "gemini_generate_content": False}
    (warning,) = warnings(config({"compatibility": flags}), plugins=KnownPlugins(KNOWN))
    assert warning.startswith("providers.p.compatibility.google_raw_predict: not supported yet; it has no effect")


@pytest.mark.parametrize(
    ("flag", "kept"), [("openai_chat", False), ("bedrock_converse", True), ("anthropic_messages", True)]
)
def test_marks_for_a_provider_without_any_have_no_effect(flag: str, kept: bool) -> None:
    text = config({"compatibility": {flag: True}, "auto_cache": True})
    expected = (
        "auto_cache: has no effect: cache marks are for anthropic_messages, bedrock_converse, bedrock_model_invoke"
    )
    assert [line for line in warnings(text, plugins=BUILT_IN) if "auto_cache" in line] == (
        [] if kept else [f"providers.p.{expected}"]
    )
    assert loads(text, plugins=BUILT_IN).config.providers["p"].auto_cache is kept
