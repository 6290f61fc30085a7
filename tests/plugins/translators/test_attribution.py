"""Tests that only Anthropic's servers get the attribution with which Claude Code begins a system prompt.

Sources: anthropics/claude-code#24168 (Bedrock refuses it) and #68900 (it differs in every request, so that prompts are
not found in caches); musistudio/claude-code-router#1161 (Chat's form).
"""

import pytest

from tests.helpers.conversion import ALL_CONVERSIONS, BASES, CONVERSIONS

NAME = "x-anthropic-billing-header"
LINE = f"{NAME}: cc_version=2.1.177.01c; cc_entrypoint=cli; cch=36ee5;"
OF_MESSAGES = [
    conversion for conversion in CONVERSIONS.values() if conversion.client.name in ("anthropic_messages", "openai_chat")
]
each_conversion = pytest.mark.parametrize("conversion", OF_MESSAGES, ids=lambda conversion: conversion.name)
NATIVE = ("anthropic_messages__anthropic_messages", "bedrock_model_invoke__bedrock_model_invoke")


def text(value):
    return {"type": "text", "text": value}


def called(conversion, system, history=()):
    """Convert a request with this system prompt. The messages are `history` and one message of the user."""
    body = BASES[conversion.dialect]
    messages = [*history, *body["messages"]]
    if conversion.dialect == "openai_chat":
        return conversion.call({**body, "messages": [{"role": "system", "content": system}, *messages]})
    return conversion.call({**body, "system": system, "messages": messages})


@each_conversion
@pytest.mark.parametrize(
    "system",
    [
        [text(LINE), text("You are Claude Code.")],
        [text(f"{LINE}\nYou are Claude Code.")],
        f"{LINE}\nYou are Claude Code.",
    ],
    ids=["block", "line of a block", "line of a string"],
)
def test_the_attribution_is_left_out_of_the_system_prompt(conversion, system):
    """Check that nothing but Claude Code's attribution is removed from the system prompt. The removal is not reported
    as a loss.
    """
    passed = called(conversion, system)
    sent = passed.upstream_request.body
    assert NAME.encode() not in sent
    assert sent.count(b"You are Claude Code.") == 1
    assert not passed.fault
    assert passed.dropped == []


@each_conversion
@pytest.mark.parametrize("system", [[text(LINE)], LINE], ids=["blocks", "string"])
def test_a_system_prompt_of_nothing_else_is_left_out(conversion, system):
    passed = called(conversion, system)
    assert NAME.encode() not in passed.upstream_request.body
    assert not passed.fault
    assert not passed.sent.get("system")


@each_conversion
def test_the_words_of_a_person_about_it_stay(conversion):
    words = f"What is {LINE}"
    passed = called(conversion, [text(words)], [{"role": "user", "content": LINE}])
    assert passed.upstream_request.body.count(LINE.encode()) == 2


@pytest.mark.parametrize("name", NATIVE)
def test_a_native_request_keeps_it(name):
    """Check that Anthropic's servers, which read the attribution, get the system prompt unchanged."""
    passed = called(ALL_CONVERSIONS[name], [text(LINE), text("x")])
    assert passed.sent["system"] == [text(LINE), text("x")]
