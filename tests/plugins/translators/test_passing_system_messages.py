"""Tests of system messages that are only for the turn of the user that they follow (`clear_at`).

Source: the anthropic SDK's types (`BetaSystemMessageParam`).
"""

import json
from dataclasses import replace

import pytest

from gateway.contract.capabilities import capabilities
from tests.helpers.conversion import CONVERSIONS

OF_MESSAGES = [each for each in CONVERSIONS.values() if each.client.name == "anthropic_messages"]
each_conversion = pytest.mark.parametrize("conversion", OF_MESSAGES, ids=lambda conversion: conversion.name)
ASKED = {"role": "user", "content": "What is the largest animal?"}
GO_ON = {"role": "user", "content": "And the second?"}


def text_of(call):
    return json.dumps(call.sent)


def told(clear_at, *after, content="Answer in one word."):
    """Return a request with a system message that has this `clear_at`. The messages `after` follow it."""
    system = {"role": "system", "content": content, "clear_at": clear_at}
    return {"max_tokens": 100, "messages": [ASKED, system, *after]}


ANSWER = {"role": "assistant", "content": "Whales."}


@each_conversion
@pytest.mark.parametrize("mid_system", [False, True])
@pytest.mark.parametrize(
    "content", ["Answer in one word.", [{"type": "text", "text": "Answer in one word."}]], ids=type
)
def test_a_system_message_for_one_turn_is_gone_in_the_next(conversion, content, mid_system):
    """Check that a system message for one turn reaches the model in this turn, and no longer after the next user
    message of the conversation.
    """
    caps = replace(capabilities(conversion.model), mid_system=mid_system)
    now = conversion.call(told("next_user_message", content=content), caps=caps)
    assert "one word" in text_of(now)
    later = conversion.call(told("next_user_message", ANSWER, GO_ON, content=content), caps=caps)
    assert "one word" not in text_of(later)
    kept = conversion.call(told("never", ANSWER, GO_ON, content=content), caps=caps)
    assert "one word" in text_of(kept)
    assert [(call.fault, call.dropped) for call in (now, later, kept)] == [(None, [])] * 3
    assert "clear_at" not in text_of(now) + text_of(later) + text_of(kept)


@each_conversion
def test_an_unknown_time_of_clearing_is_reported(conversion):
    call = conversion.call(told("next_moon", ANSWER, GO_ON))
    assert call.dropped == ["/messages/1/clear_at"]
    assert "one word" in text_of(call)
