"""Tests of thinking with the gateway's tag in native requests. The tag names a model family.

If the requested model belongs to this family, the thinking is sent without the tag. Thinking of another family is
dropped.
"""

import base64
import json

import pytest

from gateway.contract.capabilities import Caps, capabilities
from gateway.contract.flag import ClientRequest, Members, Target
from gateway_plugins import anthropic_messages, bedrock_converse, bedrock_model_invoke, openai_chat

CLAUDE = capabilities("us.anthropic.claude-sonnet-4-5-20250929-v1:0")


def sent(flag, body, client, caps=CLAUDE):
    name = flag.__name__.rpartition(".")[2]
    dialect = flag.dialects[0]
    ask = ClientRequest(client or name, dialect, "generate", "POST", "/", "", {}, Members(body), "m", False)
    dropped = []
    send = flag.build(ask, Target("p", name, "m", dialect, caps), dropped.append)
    return send.body, dropped


def messages(*blocks):
    turn = {"role": "assistant", "content": [*blocks]}
    question = {"role": "user", "content": "hi"}
    body = {"anthropic_version": "bedrock-2023-05-31", "model": "m", "max_tokens": 9}
    return json.dumps({**body, "messages": [question, turn, question]}).encode()


def thinking(signature):
    return {"type": "thinking", "thinking": "hm", "signature": signature}


def redacted(data):
    return {"type": "redacted_thinking", "data": data}


TEXT = {"type": "text", "text": "ok"}
WAYS = [
    (anthropic_messages, ""),
    (bedrock_model_invoke, ""),
    (bedrock_model_invoke, "anthropic_messages"),
    (anthropic_messages, "bedrock_model_invoke"),
]


@pytest.mark.parametrize(("flag", "client"), WAYS)
def test_thinking_of_the_models_own_family_comes_back_without_our_tag(flag, client):
    given = messages(thinking("irisgate1:claude:s1"), redacted("irisgate1:claude:d1"), TEXT)
    body, dropped = sent(flag, given, client)
    assert json.loads(body)["messages"][1]["content"] == [thinking("s1"), redacted("d1"), TEXT]
    assert dropped == []


@pytest.mark.parametrize(("flag", "client"), WAYS)
def test_another_familys_thinking_is_dropped_with_empty_turns(flag, client):
    """Check that thinking of another model family is reported as dropped, and so is a turn that has nothing else."""
    given = messages(thinking("irisgate1:nova:s1"), thinking("s2"), TEXT)
    body, dropped = sent(flag, given, client)
    assert json.loads(body)["messages"][1]["content"] == [thinking("s2"), TEXT]
    assert dropped == ["/messages/1/content/0"]
    body, _ = sent(flag, messages(redacted("irisgate1:nova:s1")), client)
    assert [message["role"] for message in json.loads(body)["messages"]] == ["user", "user"]


@pytest.mark.parametrize("flag", [bedrock_model_invoke, bedrock_converse])
def test_a_native_body_without_our_tag_is_not_touched(flag):
    body = b'{ "anthropic_version":"bedrock-2023-05-31", "messages": [ {"content": [{"signature": "irisgate"}]} ] }'
    assert sent(flag, body, "") == (body, [])


def test_converse_is_untagged_also_inside_of_its_base64():
    def reasoned(**inner):
        return {"reasoningContent": inner}

    def hidden(text):
        return reasoned(redactedContent=base64.b64encode(text.encode()).decode())

    def signed(value):
        return reasoned(reasoningText={"text": "hm", "signature": value})

    content = [signed("irisgate1:claude:s1"), hidden("irisgate1:claude:d1"), hidden("irisgate1:nova:d2"), {"text": "x"}]
    given = json.dumps({"messages": [{"role": "assistant", "content": content}]}).encode()
    body, dropped = sent(bedrock_converse, given, "")
    assert json.loads(body)["messages"][0]["content"] == [signed("s1"), hidden("d1"), {"text": "x"}]
    assert dropped == ["/messages/0/content/2"]


def test_a_model_without_a_family_gets_back_what_it_made_itself():
    given = messages(thinking("irisgate1::s1"), TEXT)
    assert json.loads(sent(anthropic_messages, given, "", Caps())[0])["messages"][1]["content"][0] == thinking("s1")


def test_unsigned_thinking_does_not_go_to_a_signing_provider():
    """Check that thinking without a signature is reported as dropped if the provider's models sign their thinking."""
    body, dropped = sent(anthropic_messages, messages(thinking("irisgate1:claude:"), TEXT), "")
    assert (json.loads(body)["messages"][1]["content"], dropped) == ([TEXT], ["/messages/1/content/0"])


def test_a_chat_is_untagged_in_its_thinking_blocks():
    blocks = [thinking("irisgate1:claude:s1"), redacted("irisgate1:nova:d1")]
    given = {"model": "m", "messages": [{"role": "assistant", "content": "ok", "thinking_blocks": blocks}]}
    body, dropped = sent(openai_chat, json.dumps(given).encode(), "")
    assert json.loads(body)["messages"] == [{"role": "assistant", "content": "ok", "thinking_blocks": [thinking("s1")]}]
    assert dropped == ["/messages/0/thinking_blocks/1"]
