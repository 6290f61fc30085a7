"""Tests that a client can switch off thinking at every provider.

If a model always thinks, the thinking is reduced, and the loss is reported. One table has the ways in which clients
switch thinking off. Another table has the fields with which each model gets no thinking. Every way is tried with every
model, on every conversion.
"""

import pytest

from gateway.contract.capabilities import Caps, capabilities
from tests.helpers.conversion import CONVERSIONS

USER = {"messages": [{"role": "user", "content": "x"}]}
SAID = {"messages": [{"role": "user", "content": [{"text": "x"}]}]}
LIMIT = {"max_tokens": 5000}


def extra(**fields):
    return SAID | {"additionalModelRequestFields": fields}


OFF = {
    "anthropic_messages": {
        "disabled": USER | LIMIT | {"thinking": {"type": "disabled"}},
        "disabled beside an effort": USER
        | LIMIT
        | {"thinking": {"type": "disabled"}, "output_config": {"effort": "none"}},
        "no effort": USER | LIMIT | {"output_config": {"effort": "none"}},
    },
    "openai_chat": {
        "no effort": USER | {"reasoning_effort": "none"},
        "disabled": USER | {"thinking": {"type": "disabled"}},
        "reasoning without effort": USER | {"reasoning": {"effort": "none"}},
        "reasoning that is not enabled": USER | {"reasoning": {"enabled": False}},
        "reasoning of no tokens": USER | {"reasoning": {"max_tokens": 0}},
        "Qwen's switch": USER | {"enable_thinking": False},
        "a template's switch": USER | {"chat_template_kwargs": {"enable_thinking": False}},
        "a template's other switch": USER | {"chat_template_kwargs": {"thinking": False}},
        "a budget of nothing": USER | {"thinking_budget": 0},
        "two of them": USER | {"reasoning_effort": "none", "enable_thinking": False},
    },
    "openai_responses": {
        "no effort": {"input": "x", "reasoning": {"effort": "none"}},
        "reasoning that is not enabled": {"input": "x", "reasoning": {"enabled": False}},
        "disabled": {"input": "x", "thinking": {"type": "disabled"}},
        "Qwen's switch": {"input": "x", "enable_thinking": False},
    },
    "bedrock_converse": {
        "disabled": extra(thinking={"type": "disabled"}),
        "no effort": extra(reasoning_effort="none"),
        "reasoning without effort": extra(reasoning={"effort": "none"}),
        "reasoning that is not enabled": extra(reasoning={"enabled": False}),
        "Qwen's effort": extra(reasoning_config="none"),
        "Claude's older name": extra(reasoning_config={"type": "disabled"}),
        "Nova's object": extra(reasoningConfig={"type": "disabled"}),
        "no effort of the answer": extra(output_config={"effort": "none"}),
        "no effort on Converse": SAID | {"outputConfig": {"effort": "none"}},
        "Qwen's switch": extra(enable_thinking=False),
        "a template's switch": extra(chat_template_kwargs={"enable_thinking": False}),
    },
}
DISABLED = {"thinking": {"type": "disabled"}}
WAYS = {
    # model: (members that ask for thinking or switch it off on Claude's road, the same on Chat's, whether it is told)
    "anthropic.claude-opus-5": (DISABLED, {"reasoning_effort": "none"}, False),
    "us.anthropic.claude-sonnet-5": (DISABLED, {"reasoning_effort": "none"}, False),
    "anthropic.claude-haiku-5-5": (DISABLED, {"reasoning_effort": "none"}, False),
    "anthropic.claude-sonnet-5-5": ({"thinking": {"type": "between_tools"}}, {"reasoning_effort": "none"}, False),
    "anthropic.claude-opus-5-5": (
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        {"reasoning_effort": "low"},
        True,
    ),
    "anthropic.claude-fable-5": (
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        {"reasoning_effort": "low"},
        True,
    ),
    "us.anthropic.claude-opus-4-8": ({}, {}, False),
    "us.anthropic.claude-haiku-4-5-20251001-v1:0": ({}, {}, False),
    "anthropic.claude-3-haiku-20240307-v1:0": ({}, {}, False),
    "gpt-4o": ({}, {}, False),
    "gpt-5.4": ({}, {"reasoning_effort": "none"}, False),
    "gpt-5": ({}, {"reasoning_effort": "minimal"}, True),
    "o3": ({}, {"reasoning_effort": "low"}, True),
    "glm-4.7": ({}, DISABLED, False),
    "kimi-k2.5": ({}, DISABLED, False),
    "deepseek-v4-pro": ({}, DISABLED, False),
    "deepseek-reasoner": ({}, {}, True),
    "a-model-of-somebody": ({}, {}, True),
}
ON_CONVERSE = {
    "us.amazon.nova-2-lite-v1:0": ({}, False),
    "us.amazon.nova-pro-v1:0": ({}, False),
    "openai.gpt-oss-120b-1:0": ({"reasoning_effort": "low"}, True),
    "openai.gpt-5.6-sol": ({"reasoning": {"effort": "none"}}, False),
    "openai.gpt-6-astra": ({"reasoning": {"effort": "low"}}, True),
    "xai.grok-4.6": ({"reasoning": {"effort": "low"}}, True),
    "zai.glm-5.3": ({"reasoning_effort": "low"}, True),
    "zai.glm-4.7": ({}, False),
    "deepseek.v3-v1:0": ({}, False),
    "us.deepseek.r1-v1:0": ({}, True),
    "qwen.qwen3-32b-v1:0": ({}, False),
}
NAMES = ("thinking", "output_config", "reasoning_effort", "reasoning", "reasoning_config", "reasoningConfig")
NAMES += ("enable_thinking", "chat_template_kwargs")


def asked(conversion, body, caps, *, stream=False):
    """Return the fields about thinking that are sent, and the fields that are reported as dropped."""
    call = conversion.call(body, caps=caps, stream=stream)
    assert conversion.upstream == "openai_chat" or call.fault is None
    place = (
        call.sent.get("additionalModelRequestFields", {}) if conversion.upstream == "bedrock_converse" else call.sent
    )
    return {name: place[name] for name in NAMES if name in place}, call.dropped


def without_display(members):
    thinking = {name: value for name, value in members.get("thinking", {}).items() if name != "display"}
    return members | ({"thinking": thinking} if thinking else {})


def cases(models):
    return [
        pytest.param(conversion, way, model, id=f"{conversion.name}-{way}-{model}")
        for conversion in CONVERSIONS.values()
        for way in OFF.get(conversion.dialect, ())
        for model in models
        if conversion.upstream != "gemini_generate_content"
        and (conversion.upstream == "openai_chat" or models is ON_CONVERSE or "claude" in model)
    ]


@pytest.mark.parametrize(("conversion", "way", "model"), cases(WAYS))
def test_off_is_off_or_the_least_and_told(conversion, way, model):
    on_claude, on_chat, told = WAYS[model]
    expected = on_chat if conversion.upstream == "openai_chat" else on_claude
    for stream in (False, True):
        members, dropped = asked(conversion, OFF[conversion.dialect][way], capabilities(model), stream=stream)
        if not expected and members == DISABLED and "claude" in model:
            members = {}  # the request repeats what Claude does anyway
        assert without_display(members) == expected
        assert bool(dropped) == told, dropped


@pytest.mark.parametrize(
    ("conversion", "way", "model"),
    [case for case in cases(ON_CONVERSE) if case.values[0].upstream == "bedrock_converse"],
)
def test_off_is_off_for_other_models_on_converse(conversion, way, model):
    expected, told = ON_CONVERSE[model]
    members, dropped = asked(conversion, OFF[conversion.dialect][way], capabilities(model))
    assert members == expected
    assert bool(dropped) == told, dropped


FORMS = {
    "thinking.type": {"thinking": {"type": "disabled"}},
    "enable_thinking": {"enable_thinking": False},
    "chat_template_kwargs": {"chat_template_kwargs": {"enable_thinking": False}},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_configured_switch_of_a_server_is_used(form):
    """Check that a server's own field to switch thinking on or off is used, if the configured capabilities of the model
    name this field.
    """
    caps = Caps(family="qwen", reasoning=form, efforts=(), thinks_by_default=True)
    conversion = CONVERSIONS["openai_responses__openai_chat"]
    assert asked(conversion, {"input": "x", "reasoning": {"effort": "none"}}, caps) == (FORMS[form], [])
    on, dropped = asked(conversion, {"input": "x", "reasoning": {"effort": "high"}}, caps)
    assert on == {"thinking": {"type": "enabled"}} if form == "thinking.type" else "True" in str(on)
    assert dropped == ["/reasoning/effort"]


def test_a_model_without_efforts_is_asked_for_none():
    """Check that a model with an empty list of efforts gets no effort, and that this is reported to the client."""
    for reasoning in ("reasoning_effort", "adaptive", "budget"):
        caps = Caps(family="x", reasoning=reasoning, efforts=(), tool_choice_fields=True)
        for name, body in (
            ("openai_chat__bedrock_converse", USER | {"reasoning_effort": "low"}),
            ("bedrock_converse__anthropic_messages", SAID | {"outputConfig": {"effort": "low"}}),
            ("anthropic_messages__bedrock_converse", USER | LIMIT | {"output_config": {"effort": "low"}}),
            ("anthropic_messages__bedrock_model_invoke", USER | LIMIT | {"output_config": {"effort": "low"}}),
        ):
            call = CONVERSIONS[name].call(body, caps=caps)
            assert "effort" not in str(call.sent), name


DIFFERENT = {
    "two efforts": ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, ["/reasoning/effort"]),
    "two switches": ({"enable_thinking": True, "chat_template_kwargs": {"thinking": False}}, ["/chat_template_kwargs/thinking"]),
    "an effort against a switch": ({"reasoning_effort": "high", "enable_thinking": False}, ["/reasoning_effort"]),
    "members that nobody reads": (
        {"chat_template_kwargs": {"a": 1, "thinking": True}, "reasoning": {"exclude": True}},
        ["/reasoning/exclude", "/chat_template_kwargs/a"],
    ),
    "a budget with another name": ({"thinking_budget": 9000}, ["/thinking_budget"]),
    "a budget inside": ({"reasoning": {"max_tokens": 9000}}, ["/reasoning/max_tokens"]),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_contradicts_or_is_not_read_is_reported(case):
    body, dropped = DIFFERENT[case]
    for target in ("bedrock_converse", "bedrock_model_invoke"):
        conversion = CONVERSIONS[f"openai_chat__{target}"]
        assert asked(conversion, USER | body, capabilities("anthropic.claude-opus-5"))[1] == dropped
