"""Tests of the rules in capabilities.json, which say what a model can do. The rules agree with their sources for every
form of a model's id.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

import gateway.contract.capabilities
from gateway.contract.capabilities import Caps, base_id, capabilities, geo

RULES = json.loads(Path(gateway.contract.capabilities.__file__).with_name("capabilities.json").read_text("utf-8"))[
    "rules"
]

# the models in the recorded cassettes of pydantic-ai, commit 4fda38988f29
RECORDED = [
    ("anthropic.claude-sonnet-4-20250514-v1:0", "claude"),
    ("anthropic.claude-v2", "claude"),
    ("moonshot.kimi-k2-thinking", "kimi"),
    ("openai.gpt-oss-120b-1:0", "openai"),
    ("qwen.qwen3-32b-v1:0", "qwen"),
    ("us.amazon.nova-2-lite-v1:0", "nova"),
    ("us.amazon.nova-lite-v1:0", "nova"),
    ("us.amazon.nova-micro-v1:0", "nova"),
    ("us.amazon.nova-pro-v1:0", "nova"),
    ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "claude"),
    ("us.anthropic.claude-sonnet-4-20250514-v1:0", "claude"),
    ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude"),
    ("us.anthropic.claude-sonnet-4-6", "claude"),
    ("us.deepseek.r1-v1:0", "deepseek"),
    ("us.meta.llama4-maverick-17b-instruct-v1:0", "llama"),
    ("us.mistral.pixtral-large-2502-v1:0", "mistral"),
    ("us.writer.palmyra-x4-v1:0", "writer"),
    ("zai.glm-4.7-flash", "glm"),
]
OTHERS = [
    ("amazon.titan-text-express-v1", "titan"),
    ("cohere.command-r-plus-v1:0", "cohere"),
    ("ai21.jamba-1-5-large-v1:0", "ai21"),
    ("minimax.minimax-m2.5", "minimax"),
    ("nvidia.nemotron-nano-9b-v2", "nemotron"),
    ("google.gemma-3-27b-it", "gemma"),
    ("us.xai.grok-4.6", "grok"),
    ("gpt-5.4", "openai"),
    ("o3", "openai"),
    ("gemini-2.5-pro", "gemini"),
]
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.mark.parametrize(("model", "family"), RECORDED + OTHERS)
def test_a_known_model_has_a_family(model: str, family: str) -> None:
    assert capabilities(model).family == family


@pytest.mark.parametrize(
    "model", ["us.does-not-exist-model-v1:0", "arn:aws:bedrock:us-east-1:1:application-inference-profile/mi1dadi0g15f"]
)
def test_an_unknown_model_gets_defaults_that_permit(model: str) -> None:
    assert capabilities(model) == Caps()


@pytest.mark.parametrize("model", ["amazon.nova-lite-v1:0", "anthropic.claude-opus-5", "meta.llama4-scout-17b"])
def test_a_new_prefix_of_aws_changes_no_capability(model: str) -> None:
    assert capabilities(f"amer.{model}") == capabilities(model) != Caps()


@pytest.mark.parametrize(
    ("model", "base", "region"),
    [
        (CLAUDE, "anthropic.claude-sonnet-4-5-20250929-v1:0", "us"),
        ("us-gov.anthropic.claude-opus-5", "anthropic.claude-opus-5", "us-gov"),
        ("global.anthropic.claude-opus-4-6-v1[1m]", "anthropic.claude-opus-4-6-v1", "global"),
        ("ca.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0", "ca"),
        ("in.moonshotai.kimi-k3", "moonshotai.kimi-k3", "in"),
        ("amer.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-sonnet-4-5-20250929-v1:0", "amer"),
        ("moonshotai.kimi-k2.5", "moonshotai.kimi-k2.5", ""),
        ("openai.gpt-5.4", "openai.gpt-5.4", ""),
        ("anthropic.claude-3-haiku-20240307-v1:0:48k", "anthropic.claude-3-haiku-20240307-v1:0", ""),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0",
            "amazon.nova-pro-v1:0",
            "eu",
        ),
        ("arn:aws:bedrock:us-east-1::foundation-model/meta.llama4-scout-17b", "meta.llama4-scout-17b", ""),
        ("arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0", ""),
        ("arn:aws:bedrock:us-east-1:1:imported-model/abc", "arn:aws:bedrock:us-east-1:1:imported-model/abc", ""),
        ("gpt-4.1-mini", "gpt-4.1-mini", ""),
        ("claude-sonnet-4-5", "claude-sonnet-4-5", ""),
    ],
)
def test_an_id_is_taken_apart(model: str, base: str, region: str) -> None:
    assert (base_id(model), geo(model)) == (base, region)


@pytest.mark.parametrize(
    ("own", "bedrock"),
    [
        ("claude-3-5-haiku-20241022", "anthropic.claude-3-5-haiku-20241022-v1:0"),
        ("claude-sonnet-4-5", CLAUDE),
        ("claude-sonnet-4-5@20250929", CLAUDE),
        ("claude-opus-4-8", "eu.anthropic.claude-opus-4-8"),
        ("claude-fable-5-1", "anthropic.claude-fable-5-1"),
    ],
)
def test_anthropics_own_ids_have_the_capabilities_of_bedrocks(own: str, bedrock: str) -> None:
    # but for what is the endpoint's own: Bedrock reads no URL
    assert capabilities(own) == replace(capabilities(bedrock), remote_media=True)


@pytest.mark.parametrize("model", [model for model, _ in RECORDED if "claude" in model])
def test_claude_up_to_4_6_takes_the_old_version_only(model: str) -> None:
    assert capabilities(model).anthropic_versions == ("bedrock-2023-05-31",)


def test_newer_claude_takes_both_versions_the_old_one_first() -> None:
    assert capabilities("anthropic.claude-opus-4-7").anthropic_versions == ("bedrock-2023-05-31", "2026-10-21")


# litellm 1.109.1: supports_sampling_params; litellm and pydantic-ai 2.68.0: not both from 4.1 to 4.6
@pytest.mark.parametrize(
    ("model", "sampling"),
    [
        ("claude-3-5-sonnet-20241022", "both"),
        ("claude-sonnet-4-20250514", "both"),
        ("claude-opus-4-1", "one"),
        ("claude-opus-4-6", "one"),
        ("claude-opus-4-7", "none"),
        ("claude-sonnet-5", "none"),
        ("claude-haiku-5-5", "none"),
        ("openai.gpt-5.6-sol", "none"),
        ("openai.gpt-oss-20b-1:0", "both"),
        ("global.xai.grok-4.7", "none"),
    ],
)
def test_sampling_goes_by_generation(model: str, sampling: str) -> None:
    assert capabilities(model).sampling == sampling


# bedrock traffic recorded by pydantic-ai, and its profiles (2.68.0)
@pytest.mark.parametrize(
    ("model", "reasoning"),
    [
        ("claude-3-5-sonnet-20241022", "none"),
        ("claude-3-7-sonnet-20250219", "budget"),
        (CLAUDE, "budget"),
        ("us.anthropic.claude-sonnet-4-6", "adaptive"),
        ("claude-mythos-5-1", "adaptive"),
        ("us.amazon.nova-pro-v1:0", "none"),
        ("us.amazon.nova-2-lite-v1:0", "nova"),
        ("us.deepseek.r1-v1:0", "always"),
        ("deepseek.v3-v1:0", "reasoning_effort"),
        ("qwen.qwen3-32b-v1:0", "reasoning_config"),
        ("qwen.qwen3-coder-next", "none"),
        ("openai.gpt-oss-120b-1:0", "reasoning_effort"),
        ("us.openai.gpt-6-sol", "reasoning.effort"),
        ("gpt-6-sol", "reasoning_effort"),
        ("zai.glm-4.7-flash", "reasoning_effort"),
        ("us.xai.grok-4.6", "reasoning.effort"),
    ],
)
def test_each_model_is_asked_to_think_in_its_own_way(model: str, reasoning: str) -> None:
    assert capabilities(model).reasoning == reasoning


# litellm 1.109.1: supports_forced_tool_use
@pytest.mark.parametrize("model", ["claude-fable-5-1", "claude-opus-5-5", "us.anthropic.claude-sonnet-5-5"])
def test_some_new_claudes_refuse_a_forced_tool(model: str) -> None:
    assert not capabilities(model).forced_tool_choice


def test_prefill_ends_with_claude_4_6() -> None:
    assert capabilities("claude-opus-4-5").prefill
    assert not capabilities("claude-opus-4-6").prefill
    assert not capabilities("claude-opus-5").prefill


# pydantic-ai 2.68.0, providers/bedrock.py: bedrock_tool_result_colocatable_content
@pytest.mark.parametrize(
    "model",
    ["us.meta.llama4-maverick-17b-instruct-v1:0", "us.mistral.pixtral-large-2502-v1:0", "us.writer.palmyra-x4-v1:0"],
)
def test_llama_mistral_and_writer_want_tool_results_alone(model: str) -> None:
    assert capabilities(model).tool_result_alone


def test_a_claude_to_come_is_taken_for_one_of_the_newest() -> None:
    assert capabilities("anthropic.claude-opus-9") == capabilities("anthropic.claude-newname-6")
    assert capabilities("anthropic.claude-opus-9").reasoning == "adaptive"


def test_an_override_replaces_one_field() -> None:
    assert capabilities(CLAUDE, {"efforts": ["low"]}).efforts == ("low",)
    assert capabilities(CLAUDE, {"efforts": ["low"]}).family == "claude"
    assert capabilities(CLAUDE).efforts != ("low",)


def test_an_override_of_an_unknown_field_lists_the_fields() -> None:
    """Check that overriding an unknown capability is an error that lists the known ones."""
    with pytest.raises(ValueError, match="'famly' is no capability; there are family, "):
        capabilities(CLAUDE, {"famly": "claude"})


def test_an_override_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected `bool`"):
        capabilities(CLAUDE, {"tools": "yes"})


def test_every_rule_sets_known_fields_and_names_its_source() -> None:
    known = {field.name for field in fields(Caps)}
    for rule in RULES:
        assert set(rule) == {"match", "set", "source"}
        assert isinstance(rule["match"], list)
        assert set(rule["set"]) <= known
        assert rule["source"]


# the values that the field's docstring lists
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("sampling", {"both", "one", "none"}),
        ("top_k", {"", "field", "inference_config"}),
        (
            "reasoning",
            {
                "none",
                "always",
                "budget",
                "adaptive",
                "reasoning_effort",
                "reasoning.effort",
                "reasoning_config",
                "nova",
                "thinking.type",
            },
        ),
    ],
)
def test_a_rule_uses_values_of_the_contract(field: str, values: set[str]) -> None:
    assert {rule["set"][field] for rule in RULES if field in rule["set"]} <= values


def test_efforts_stand_weakest_first() -> None:
    ladder = ["none", "minimal", "low", "medium", "high", "xhigh", "max"]
    for rule in RULES:
        efforts = rule["set"].get("efforts", [])
        assert efforts == sorted(efforts, key=ladder.index)
