"""Tests that a Chat provider gets back, in the second turn, the reasoning tokens of its first reply.

Reasoning tokens are opaque values, such as signatures and encrypted thinking. The clients use dialects other than Chat.
"""

import pytest

from tests.helpers.second_turn import CLIENTS, chat_events, chat_reply, second_turn

TRANSLATED = [client for client in CLIENTS if client != "openai_chat"]
GEMINI, DEEPSEEK, KIMI = "gemini-3-pro", "deepseek-v4-pro", "kimi-k2-thinking"
SIGNATURE = "SIGNATURE_A+/=" * 900
ENCRYPTED = {
    "type": "reasoning.encrypted",
    "data": "gAAA+/=",
    "format": "openai-responses-v1",
    "index": 1,
    "id": "rs_1",
}
SAID = {"type": "reasoning.text", "text": "plan", "signature": "Eq+/=", "format": "anthropic-claude-v1", "index": 0}


def call(name="f", call_id="c1", **more):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": '{"a":1}'}, **more}


def google(signature=SIGNATURE):
    return {"extra_content": {"google": {"thought_signature": signature}}}


# name: (model, the assistant's message that the provider makes and gets back)
MESSAGES = {
    "gemini: a call": (GEMINI, {"tool_calls": [call(**google())]}),
    "gemini: the first of two calls": (GEMINI, {"tool_calls": [call(**google()), call(call_id="c2")]}),
    "gemini: both calls": (GEMINI, {"tool_calls": [call(**google("A")), call(call_id="c2", **google("B"))]}),
    "gemini: text and call": (GEMINI, {"content": "So.", "tool_calls": [call(**google())]}),
    "gemini: the message": (GEMINI, {"content": "So.", **google()}),
    "gemini: the message and a call": (GEMINI, {"content": "So.", **google("A"), "tool_calls": [call(**google("B"))]}),
    "gemini at a proxy: in the function": (
        "google/gemini-3-pro",
        {"tool_calls": [{**call(), "function": {**call()["function"], "thought_signature": "s"}}]},
    ),
    "gemini at LiteLLM": (GEMINI, {"tool_calls": [call(provider_specific_fields={"thought_signature": "s"})]}),
    "gemini at LiteLLM: the message": (
        GEMINI,
        {"content": "So.", "provider_specific_fields": {"thought_signatures": ["s"]}},
    ),
    "OpenRouter: a call": ("openai/gpt-5.4", {"reasoning_details": [ENCRYPTED], "tool_calls": [call()]}),
    "OpenRouter: readable and encrypted": (
        "anthropic/claude-sonnet-4.6",
        {"reasoning_details": [SAID, ENCRYPTED], "content": "So.", "tool_calls": [call()]},
    ),
    "OpenRouter: an unknown family": ("some/model", {"reasoning_details": [ENCRYPTED], "tool_calls": [call()]}),
    "MiniMax": (
        "MiniMax-M2",
        {"reasoning_details": [{"type": "reasoning.text", "text": "plan", "index": 0}], "tool_calls": [call()]},
    ),
    "DeepSeek": (DEEPSEEK, {"reasoning_content": "plan\n", "content": "So.", "tool_calls": [call()]}),
    "DeepSeek: no text": (DEEPSEEK, {"reasoning_content": "plan", "tool_calls": [call()]}),
    "Kimi": (KIMI, {"reasoning_content": "plan", "tool_calls": [call(call_id="functions.f:0")]}),
    "GLM": ("glm-5", {"reasoning_content": "plan", "tool_calls": [call()]}),
    "Qwen": ("qwen3-max", {"reasoning_content": "plan", "tool_calls": [call()]}),
    "another name for the thinking": ("glm-5", {"reasoning": "plan", "tool_calls": [call()]}),
    "xAI": ("grok-4", {"encrypted_content": "AbC+/=", "tool_calls": [call()]}),
    "Copilot": ("gpt-5.4", {"reasoning_opaque": "AbC", "content": "So.", "tool_calls": [call()]}),
    "Mistral": (
        "magistral-medium-latest",
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "plan"}]},
                {"type": "text", "text": "So."},
                {"type": "thinking", "thinking": [{"type": "text", "text": "more"}]},
            ],
            "tool_calls": [call(call_id="abcdefghi")],
        },
    ),
    "LiteLLM": (
        "claude-sonnet-4-6",
        {
            "thinking_blocks": [
                {"type": "thinking", "thinking": "plan", "signature": "Eq+/="},
                {"type": "redacted_thinking", "data": "Em+/="},
            ],
            "tool_calls": [call()],
        },
    ),
    "inline": ("openai.gpt-oss-120b-1:0", {"content": "<reasoning>plan</reasoning>So.", "tool_calls": [call()]}),
    "inline with space": ("MiniMax-M2", {"content": "<think>\nplan\n</think>\n\nSo.", "tool_calls": [call()]}),
    "inline without an answer": ("MiniMax-M2", {"content": "<think>\nplan\n</think>\n\n", "tool_calls": [call()]}),
}


def pieces(message):
    """Return a message as deltas of a stream: one field after the other, and each text and tool call in several
    pieces.
    """
    deltas = []
    for name in ("reasoning_details", "reasoning_content", "reasoning", "thinking_blocks", "content"):
        value = message.get(name)
        if isinstance(value, str):
            deltas += [{name: value[:2]}, {name: value[2:]}]
        elif name == "reasoning_details" and value and value[0]["type"] == "reasoning.text":
            first = {**value[0], "text": "pl"} | ({"signature": None} if "signature" in value[0] else {})
            deltas += [{name: [first]}, {name: [{**value[0], "text": "an"}]}, *({name: [each]} for each in value[1:])]
        elif value:
            deltas += [{name: [each]} for each in value]
    deltas += [{name: value} for name, value in message.items() if name in OPAQUE]
    for index, each in enumerate(message.get("tool_calls", ())):
        more = {name: value for name, value in each["function"].items() if name not in {"name", "arguments"}}
        begun = {**each, "index": index, "function": {"name": each["function"]["name"], "arguments": "", **more}}
        deltas.append({"tool_calls": [begun]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in ('{"a"', ":1}")]
    return deltas


OPAQUE = ("extra_content", "provider_specific_fields", "encrypted_content", "reasoning_opaque")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("client", TRANSLATED)
@pytest.mark.parametrize("case", MESSAGES)
def test_what_a_provider_made_comes_back_to_it(case, client, streamed):
    model, message = MESSAGES[case]
    finish = "tool_calls" if "tool_calls" in message else "stop"
    reply = chat_reply({"role": "assistant", "content": None, **message}, finish)
    events = chat_events(*pieces(message), finish=finish) if streamed else None
    judged = case not in {"Kimi", "Mistral"}  # the simulated provider is OpenAI, which takes neither
    body, dropped = second_turn(client, "openai_chat", model, reply, events, judged=judged)
    answer = next(each for each in body["messages"] if each["role"] == "assistant")
    assert answer == {"role": "assistant", "content": None, **message}
    results = [each["tool_call_id"] for each in body["messages"] if each["role"] == "tool"]
    assert results == [each["id"] for each in message.get("tool_calls", ())]
    assert dropped == []


@pytest.mark.parametrize("client", TRANSLATED)
def test_a_token_that_comes_after_its_call_goes_back_too(client):
    late = [{"tool_calls": [{"index": 0, **call()}]}, {"tool_calls": [{"index": 0, **google()}]}]
    body, dropped = second_turn(client, "openai_chat", GEMINI, None, chat_events(*late))
    assert body["messages"][1]["tool_calls"] == [call(**google())]
    assert dropped == []


@pytest.mark.parametrize("client", TRANSLATED)
@pytest.mark.parametrize("case", ["gemini: a call", "OpenRouter: an unknown family", "Mistral", "inline", "LiteLLM"])
def test_a_token_of_another_family_is_dropped_aloud(client, case):
    model, message = MESSAGES[case]
    reply = chat_reply({"role": "assistant", "content": None, **message})
    body, dropped = second_turn(client, "openai_chat", model, reply, then=("openai_chat", "gpt-5.4"))
    (answer,) = [each for each in body["messages"] if each["role"] == "assistant"]
    assert not answer.keys() - {"role", "content", "tool_calls"}
    assert [each.keys() - {"id", "type", "function"} for each in answer["tool_calls"]] == [set()]
    assert len(dropped) >= 1


@pytest.mark.parametrize("client", TRANSLATED)
@pytest.mark.parametrize(
    "then",
    [
        ("bedrock_converse", "us.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("anthropic_messages", "claude-haiku-4-5"),
        ("bedrock_converse", "us.amazon.nova-pro-v1:0"),
    ],
)
def test_a_token_does_not_go_to_a_provider_of_another_dialect(client, then):
    if client == then[0]:
        return
    model, message = MESSAGES["gemini: text and call"]
    reply = chat_reply({"role": "assistant", **message})
    body, dropped = second_turn(client, "openai_chat", model, reply, then=then)
    assert "SIGNATURE" not in str(body)
    assert "irisgate" not in str(body)
    assert len(dropped) == 1


@pytest.mark.parametrize("client", TRANSLATED)
def test_a_session_that_comes_back_has_its_tokens_still(client):
    """Check that a signature reaches Gemini again, even if another model has answered a turn in between."""
    model, message = MESSAGES["gemini: a call"]
    reply = chat_reply({"role": "assistant", "content": None, **message})
    there, _ = second_turn(client, "openai_chat", model, reply, then=("openai_chat", "gpt-5.4"))
    back, _ = second_turn(client, "openai_chat", model, reply)
    assert "SIGNATURE" not in str(there)
    assert back["messages"][1]["tool_calls"] == message["tool_calls"]


FORGED = [
    "irisgate1:gemini+chat:",
    "irisgate1:gemini+chat:%%%",
    "irisgate1:gemini+chat:bm8=",
    "irisgate1:gemini+chat:W10=",
    "irisgate1:gemini+chat:eyJtZXNzYWdlIjogeyJyb2xlIjogInVzZXIifX0=",
    "irisgate1:gemini+chat:eyJjYWxscyI6IHsiYzEiOiB7ImlkIjogIngifX19",
    "irisgate1:gemini+chat:eyJjYWxscyI6IHsiYzEiOiBbXX19",
    "irisgate1:gemini+chat:eyJtZXNzYWdlIjogeyJyZWFzb25pbmdfZGV0YWlscyI6IDF9fQ==",
    "irisgate1:gemini+text:W10=",
    "irisgate1:gemini+text:WzEsMl0=",
    "irisgate1:openai+chat:e30=",
    "irisgate1:" + "x" * 4_000_000,
    "Eq+/=",
]


@pytest.mark.parametrize("value", FORGED, ids=lambda value: value[:60])
def test_a_forged_or_foreign_token_is_dropped_aloud(value):
    def forge(history):
        return [history[0], {"role": "assistant", "content": [hidden, called]}, *history[2:]]

    hidden, called = (
        {"type": "redacted_thinking", "data": value},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
    )
    _, message = MESSAGES["gemini: a call"]
    reply = chat_reply({"role": "assistant", "content": None, **message})
    body, dropped = second_turn("anthropic_messages", "openai_chat", GEMINI, reply, between=[forge])
    assert body["messages"][1].keys() == {"role", "content", "tool_calls"}
    assert dropped == ["/messages/1/content/0"]


@pytest.mark.parametrize("client", TRANSLATED)
def test_pieces_of_litellms_blocks_are_one_thought(client):
    """Check thinking that LiteLLM streams in several pieces: the second turn has it as a single block.

    The pieces are only in `thinking_blocks`, or also in `reasoning_content` (open-webui#29860).
    """
    block = {"type": "thinking", "thinking": "plan", "signature": "Eq+/="}
    alone = [{"thinking_blocks": [{"type": "thinking", "thinking": piece}]} for piece in ("pl", "an")]
    beside = [{"reasoning_content": piece, "thinking_blocks": [{"thinking": piece}]} for piece in ("pl", "an")]
    for deltas in (alone, beside):
        for signed in (block, {**block, "thinking": ""}):
            events = chat_events(*deltas, {"thinking_blocks": [signed]}, {"tool_calls": [{"index": 0, **call()}]})
            body, dropped = second_turn(client, "openai_chat", "claude-sonnet-4-6", None, events)
            assert (body["messages"][1]["thinking_blocks"], dropped) == ([block], [])


def test_every_answer_has_thinking_where_the_model_demands_it():
    """Check that even an assistant turn without tool calls gets thinking if the model requires it in every turn
    (openclaw#73417, opencode#25000).
    """
    reply = chat_reply({"role": "assistant", "content": "So."}, "stop")
    body, _ = second_turn("anthropic_messages", "openai_chat", DEEPSEEK, reply)
    assert body["messages"][1] == {"role": "assistant", "content": "So.", "reasoning_content": " "}


@pytest.mark.parametrize("client", TRANSLATED)
def test_members_that_hold_no_token_are_dropped_aloud(client):
    """Check that two reply fields are reported as dropped, because they contain neither a signature nor encrypted
    thinking.

    They are LiteLLM's `provider_specific_fields`, which repeat the thinking, and Gemini's `thought`.
    """
    fields = {"thinking_blocks": [{"type": "thinking", "thinking": "plan"}], "citations": None}
    message = {"content": "So.", "provider_specific_fields": fields, "extra_content": {"google": {"thought": True}}}
    body, dropped = second_turn(client, "openai_chat", GEMINI, chat_reply(message, "stop"))
    assert body["messages"][1] == {"role": "assistant", "content": "So."}
    assert sorted(dropped) == ["/reply/extra_content", "/reply/provider_specific_fields"]
