"""Tests of recorded Converse replies that are translated to Messages. They must be valid for Anthropic's SDK and have
all token counts.
"""

from __future__ import annotations

from urllib.parse import unquote

import orjson
import pytest
from anthropic.types import Message

from gateway.contract.capabilities import capabilities
from gateway.contract.flag import Head
from gateway_plugins import bedrock_converse
from tests.helpers.fold import fold
from tests.helpers.messages_to import CONVERSE, HELLO, tool
from tests.helpers.recordings import exchanges, served

recorded = pytest.mark.parametrize("exchange", exchanges("converse", "converse-stream", status=200))

RUN_BY_AWS = ("nova_code_interpreter",)


def answered(exchange):
    """Translate a recorded reply. Return the model, the client's message, and the usage from which the cost is
    computed.
    """
    model = unquote(exchange["path"].split("/")[2])
    data, content_type = served(exchange)
    translation = CONVERSE.unjudged({}, model, stream="response_base64" in exchange)
    head = Head(200, {"content-type": content_type})
    decoder = bedrock_converse.decoder(translation.request, None, head)
    meter = bedrock_converse.ConverseMeter()
    if "response_base64" not in exchange:
        body = decoder.whole(data)
        meter.whole(body)
        return model, orjson.loads(translation.whole(body)), meter.facts()
    events = []
    for each in decoder.feed(data):
        meter.feed(each)
        events += translation.feed(each)
    return model, fold("anthropic_messages", [*events, *translation.close()]), meter.facts()


@recorded
def test_a_recorded_reply_is_a_message_with_all_its_counts(exchange):
    _, message, facts = answered(exchange)
    Message.model_validate_json(orjson.dumps(message), strict=True)
    usage = message["usage"]
    assert usage["input_tokens"] == facts.usage.input
    assert usage["output_tokens"] == facts.usage.output
    assert usage["cache_read_input_tokens"] == facts.usage.cache_read
    written = facts.usage.cache_write_5m + facts.usage.cache_write_1h
    assert usage["cache_creation_input_tokens"] == written
    called = [block["name"] for block in message["content"] if block["type"] == "tool_use"]
    assert called == [name for name in facts.tools if name not in RUN_BY_AWS]


@recorded
def test_a_recorded_reply_goes_back_as_it_came(exchange):
    """Check that Bedrock gets a recorded reply back unchanged in the next turn.

    Signatures are not verified; only the real service can do that.
    """
    model, message, _ = answered(exchange)
    if not message["content"]:
        return
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "1"} for call in calls]
    last = {"role": "user", "content": results} if results else HELLO
    history = [HELLO, {"role": "assistant", "content": message["content"]}, last]
    drops = []
    translation = CONVERSE.unjudged(
        {"messages": history, "tools": [tool(call["name"]) for call in calls]}, model, drops
    )
    made = translation.request.top.decode("messages")
    thinking = sum("reasoningContent" in block for turn in made for block in turn["content"])
    caps = capabilities(model)
    thoughts = [block for block in message["content"] if block["type"] in {"thinking", "redacted_thinking"}]
    inline = [block for block in thoughts if block.get("signature", "").startswith(f"irisgate1:{caps.family}+text:")]
    expected = len(thoughts) - len(inline)  # thinking between tags goes back as text
    assert thinking == (expected if caps.signed_reasoning else 0)
    assert bool(drops) == (thinking < expected)
