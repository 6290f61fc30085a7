"""Tests that Claude gets its own signed thinking back, unchanged and in order, and that no model gets the thinking of
another model family.
"""

import base64

import orjson
import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.flag import ClientRequest, Members, Target
from gateway_plugins import anthropic_messages, bedrock_converse, bedrock_model_invoke, openai_chat
from tests.helpers.second_turn import CLIENTS, chat_reply, second_turn

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
SIGNED, HIDDEN = "Eu8BCkgIDRABGAIq" + "+/" * 40, "Eu8ECkgIBxABGAIq" + "Rk" * 40
SIGNED2 = "Ev8BCkgIDRABGAIq" + "aZ" * 40


def of_messages(*blocks):
    return {"id": "msg_1", "role": "assistant", "content": [*blocks], "stop_reason": "tool_use"}


def of_converse(*blocks):
    content = [_CONVERSE[block["type"]](block) for block in blocks]
    return {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "tool_use"}


_CONVERSE = {
    "text": lambda block: {"text": block["text"]},
    "tool_use": lambda block: {"toolUse": {"toolUseId": block["id"], "name": block["name"], "input": block["input"]}},
    "thinking": lambda block: {
        "reasoningContent": {"reasoningText": {"text": block["thinking"], "signature": block["signature"]}}
    },
    "redacted_thinking": lambda block: {
        "reasoningContent": {"redactedContent": base64.b64encode(block["data"].encode()).decode()}
    },
}


def thinking(text, signature=SIGNED):
    return {"type": "thinking", "thinking": text, "signature": signature}


def text(value):
    return {"type": "text", "text": value}


def use(tool_id="c1"):
    return {"type": "tool_use", "id": tool_id, "name": "f", "input": {"a": 1}}


REDACTED = {"type": "redacted_thinking", "data": HIDDEN}
CONTENTS = {
    "signed": [thinking("plan"), text("So."), use()],
    "redacted": [REDACTED, use()],
    "without text": [thinking(""), use()],
    "signed and redacted": [thinking("plan"), REDACTED, text("So."), use()],
    "after text": [text("So."), thinking("plan"), use()],
    "between calls": [thinking("a"), use("c1"), thinking("b", SIGNED2), use("c2")],
    "redacted between calls": [thinking("a"), use("c1"), REDACTED, use("c2")],
    "between texts": [thinking("a"), text("One."), thinking("b", SIGNED2), text("Two."), REDACTED, use()],
}
UPSTREAMS = {
    "bedrock_converse": (HAIKU, of_converse),
    "anthropic_messages": ("claude-haiku-4-5", of_messages),
}
PAIRS = [(client, upstream) for client in CLIENTS for upstream in UPSTREAMS if client != upstream]


def events_of(upstream, blocks):
    """Return the provider's events for Messages blocks. Each signature and text is split into two pieces."""
    return (_converse_events if upstream == "bedrock_converse" else _messages_events)(blocks)


def _messages_events(blocks):
    events = [("message_start", {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 1}}})]
    for index, block in enumerate(blocks):
        empty = {
            name: {} if name == "input" else "" for name in block.keys() & {"text", "thinking", "signature", "input"}
        }
        events.append(("content_block_start", {"index": index, "content_block": block | empty}))
        kind = block["type"]
        if kind == "tool_use":
            events += [_delta(index, "input_json_delta", "partial_json", piece) for piece in ('{"a"', ":1}")]
        for name in ("thinking", "text"):
            if kind == name:
                events += [_delta(index, f"{name}_delta", name, piece) for piece in (block[name][:1], block[name][1:])]
        if kind == "thinking":
            pieces = (block["signature"][:7], block["signature"][7:])
            events += [_delta(index, "signature_delta", "signature", piece) for piece in pieces]
        events.append(("content_block_stop", {"index": index}))
    return [*events, ("message_delta", {"delta": {"stop_reason": "tool_use"}, "usage": {}}), ("message_stop", {})]


def _delta(index, kind, name, piece):
    return ("content_block_delta", {"index": index, "delta": {"type": kind, name: piece}})


def _converse_events(blocks):
    events = [("messageStart", {"role": "assistant"})]
    for index, block in enumerate(_CONVERSE[block["type"]](block) for block in blocks):
        deltas = []
        if "toolUse" in block:
            start = {"toolUse": {"toolUseId": block["toolUse"]["toolUseId"], "name": "f"}}
            events.append(("contentBlockStart", {"contentBlockIndex": index, "start": start}))
            deltas = [{"toolUse": {"input": piece}} for piece in ('{"a"', ":1}")]
        elif "text" in block:
            deltas = [{"text": block["text"][:1]}, {"text": block["text"][1:]}]
        elif "redactedContent" in block["reasoningContent"]:
            deltas = [block]
        else:
            inner = block["reasoningContent"]["reasoningText"]
            deltas = [
                {"reasoningContent": {"text": inner["text"]}},
                {"reasoningContent": {"signature": inner["signature"]}},
            ]
        events += [("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas]
        events.append(("contentBlockStop", {"contentBlockIndex": index}))
    return [*events, ("messageStop", {"stopReason": "tool_use"}), ("metadata", {"usage": {"inputTokens": 1}})]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("client", "upstream"), PAIRS)
@pytest.mark.parametrize("case", CONTENTS)
def test_what_claude_made_comes_back_to_it_in_order(case, client, upstream, streamed):
    model, reply = UPSTREAMS[upstream]
    blocks = CONTENTS[case]
    events = events_of(upstream, blocks) if streamed else None
    body, dropped = second_turn(client, upstream, model, reply(*blocks), events, judged=False)
    expected = reply(*blocks)
    expected = expected["content"] if upstream == "anthropic_messages" else expected["output"]["message"]["content"]
    assert body["messages"][1]["content"] == expected
    assert dropped == []


PLAIN = [pair for pair in PAIRS if pair[0] not in ("openai_responses", "gemini_generate_content")]
"""Pairs (client's dialect, provider's dialect). Their clients get each signature separately.

Clients of Responses and Gemini are not listed: they get all signatures of a turn in one string."""


def received(client, upstream, blocks, *, streamed=False):
    """Return the client's history after the first turn, as JSON text."""
    seen = []
    model, reply = UPSTREAMS[upstream]
    events = events_of(upstream, blocks) if streamed else None
    between = [lambda history: seen.append(history) or history]
    second_turn(client, upstream, model, reply(*blocks), events, between=between, judged=False)
    return orjson.dumps(seen[0])


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("client", "upstream"), PLAIN)
def test_a_client_gets_claudes_signature_as_claude_made_it(client, upstream, streamed):
    history = received(client, upstream, CONTENTS["signed and redacted"], streamed=streamed)
    hidden = base64.b64encode(HIDDEN.encode()).decode() if client == "bedrock_converse" else HIDDEN
    assert SIGNED.encode() in history
    assert hidden.encode() in history
    assert b"irisgate1" not in history
    assert base64.b64encode(b"irisgate1") not in history


@pytest.mark.parametrize(("client", "upstream"), PLAIN)
def test_a_tag_of_an_older_session_is_still_read(client, upstream):
    def tag(history):
        hidden = base64.b64encode(HIDDEN.encode()), base64.b64encode(b"irisgate1:claude:" + HIDDEN.encode())
        raw = orjson.dumps(history).replace(SIGNED.encode(), b"irisgate1:claude:" + SIGNED.encode())
        return orjson.loads(raw.replace(*hidden))

    model, reply = UPSTREAMS[upstream]
    blocks = CONTENTS["signed and redacted"]
    body, dropped = second_turn(client, upstream, model, reply(*blocks), between=[tag], judged=False)
    assert SIGNED in str(body)
    assert "irisgate1" not in str(body)
    assert dropped == []


@pytest.mark.parametrize("model", ["gpt-5.4", "deepseek-v4-pro", "kimi-k2-thinking", "some-model"])
@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "openai_chat"])
def test_signed_thinking_is_dropped_alike_by_every_client_of_chat(client, upstream, model):
    if client == upstream:
        return
    source, reply = UPSTREAMS[upstream]
    then = ("openai_chat", model)
    body, dropped = second_turn(client, upstream, source, reply(*CONTENTS["signed and redacted"]), then=then)
    (answer,) = [message for message in body["messages"] if message["role"] == "assistant"]
    assert answer.get("reasoning_content", "").strip() == ""
    assert answer["content"] == "So."
    assert len(dropped) == 2


@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "bedrock_converse"])
def test_claudes_hidden_thinking_does_not_go_to_gpt_on_converse(client):
    then = ("bedrock_converse", "openai.gpt-5.4")
    reply = of_messages(*CONTENTS["redacted"])
    if client == "anthropic_messages":
        body, dropped = second_turn(client, "bedrock_converse", HAIKU, of_converse(*CONTENTS["redacted"]), then=then)
    else:
        body, dropped = second_turn(client, "anthropic_messages", "claude-haiku-4-5", reply, then=then)
    assert "reasoningContent" not in str(body)
    assert len(dropped) == 1


# what a model demands of a history that another model made


@pytest.mark.parametrize(
    "model", ["deepseek-v4-pro", "deepseek/deepseek-v4-pro", "kimi-k2.5", "kimi-k2-thinking", "mimo-v2"]
)
@pytest.mark.parametrize("client", ["anthropic_messages", "bedrock_converse", "openai_responses"])
@pytest.mark.parametrize(
    "blocks", [[use()], CONTENTS["signed"], CONTENTS["redacted"]], ids=["no thought", "signed", "hidden"]
)
def test_a_message_with_calls_has_thinking_where_the_model_demands_it(client, model, blocks):
    upstream = "anthropic_messages" if client == "bedrock_converse" else "bedrock_converse"
    source, reply = UPSTREAMS[upstream]
    body, _ = second_turn(client, upstream, source, reply(*blocks), then=("openai_chat", model))
    (answer,) = [message for message in body["messages"] if message["role"] == "assistant"]
    assert answer["reasoning_content"] == " "


@pytest.mark.parametrize("model", ["gpt-5.4", "glm-5", "some-model", "qwen3-max"])
def test_other_models_get_no_thinking_that_is_not_there(model):
    body, _ = second_turn(
        "anthropic_messages", "bedrock_converse", HAIKU, of_converse(use()), then=("openai_chat", model)
    )
    assert "reasoning_content" not in body["messages"][1]


@pytest.mark.parametrize(
    ("model", "needed"), [("gemini-3-pro", True), ("google/gemini-3-flash", True), ("gemini-2.5-pro", False)]
)
@pytest.mark.parametrize("client", ["anthropic_messages", "openai_responses"])
def test_gemini_3_takes_calls_of_another_model(client, model, needed):
    """Check that if another model made the tool calls, Gemini 3 gets a placeholder signature at the first of them.

    Gemini 3 refuses a request without this signature.
    """
    reply = of_converse(use("c1"), use("c2"))
    body, _ = second_turn(client, "bedrock_converse", HAIKU, reply, then=("openai_chat", model))
    first, second = body["messages"][1]["tool_calls"]
    signature = first.get("extra_content", {}).get("google", {}).get("thought_signature")
    assert signature == ("skip_thought_signature_validator" if needed else None)
    assert "extra_content" not in second


# requests that are not translated


def native(flag, model, *messages):
    body = orjson.dumps({"model": model, "messages": messages})
    dropped = []
    name = flag.dialects[0]
    own = flag.__name__.rpartition(".")[2]
    request = ClientRequest(own, name, "generate", "POST", "/", "", {}, Members(body), model, stream=False)
    target = Target("p", name, model, name, capabilities(model))
    return orjson.loads(flag.build(request, target, dropped.append).body)["messages"], dropped


@pytest.mark.parametrize(
    ("model", "kept"), [("gpt-5.4", False), ("gemini-3-pro", False), ("claude-haiku-4-5", True), ("alias", True)]
)
def test_a_chat_provider_of_another_family_gets_no_blocks_of_claude(model, kept):
    blocks = [thinking("plan"), REDACTED]
    message = {"role": "assistant", "content": "So.", "thinking_blocks": blocks}
    sent, dropped = native(openai_chat, model, message)
    assert sent == [message if kept else {"role": "assistant", "content": "So."}]
    assert dropped == ([] if kept else ["/messages/0/thinking_blocks/0", "/messages/0/thinking_blocks/1"])


def test_a_chat_provider_gets_its_own_blocks():
    """Check that a signature of Gemini in LiteLLM's thinking blocks reaches Gemini, although it begins like a signature
    of Claude.
    """
    blocks = [thinking("plan", "EvIDCu8DAXLI2nx" + "A" * 33)]
    message = {"role": "assistant", "content": "So.", "thinking_blocks": blocks}
    assert native(openai_chat, "gemini-3-pro", message) == ([message], [])


TOKENS = ("irisgate1:gemini+chat:eyJwcm92aWRlciI6InAifQ==", "irisgate1:nova+text:WyI8YT4iLCI8L2E+Il0=")


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(
    "flag", [anthropic_messages, bedrock_model_invoke, bedrock_converse], ids=lambda flag: flag.__name__
)
def test_a_provider_of_the_clients_dialect_gets_no_token_of_another_maker(flag, token):
    """Check that redacted thinking of another model family is removed from a native request and reported as dropped.

    A client has such thinking if its session began at a provider of another dialect.
    """
    hidden = {"type": "redacted_thinking", "data": token}
    content = [hidden, text("So.")]
    if flag is bedrock_converse:
        content = [_CONVERSE[block["type"]](block) for block in content]
    sent, dropped = native(flag, HAIKU, {"role": "assistant", "content": content})
    assert (sent, dropped) == ([{"role": "assistant", "content": content[1:]}], ["/messages/0/content/0"])


def test_thinking_that_a_maker_does_not_sign_goes_back_to_it():
    """Check that DeepSeek gets its unsigned thinking back unchanged.

    The session begins through Chat and continues at DeepSeek's Messages endpoint.
    """
    message = chat_reply({"role": "assistant", "content": None, "reasoning_content": "plan", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]})  # fmt: skip
    seen = []
    model = "deepseek-v4-pro"
    second_turn("anthropic_messages", "openai_chat", model, message, between=[lambda each: seen.extend(each) or each])
    sent, dropped = native(anthropic_messages, model, *seen)
    assert sent[1]["content"][0] == {"type": "thinking", "thinking": "plan", "signature": ""}
    assert dropped == []


@pytest.mark.parametrize("client", ["bedrock_converse", "openai_chat", "openai_responses"])
def test_thinking_of_deepseek_in_messages_comes_back_unsigned(client):
    blocks = [thinking("plan", ""), use()]
    for events in (None, _messages_events(blocks)):
        body, dropped = second_turn(
            client, "anthropic_messages", "deepseek-v4-pro", of_messages(*blocks), events, judged=False
        )
        assert (body["messages"][1]["content"], dropped) == (blocks, [])


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("repeated", [False, True], ids=["content alone", "twice"])
def test_blocks_in_the_content_of_a_chat_are_thinking_once(upstream, repeated):
    """Check that the provider gets each thinking block once if the client sends the blocks in `content` of a Chat
    message (litellm#23137).

    The client may send the same blocks in `thinking_blocks` too.
    """

    def move(history):
        message = history[1]
        blocks = [
            {name: value for name, value in block.items() if name != "index"} for block in message["thinking_blocks"]
        ]
        content = [*blocks, {"type": "text", "text": message["content"]}]
        rest = {name: value for name, value in message.items() if repeated or name != "thinking_blocks"}
        return [history[0], {**rest, "content": content}, *history[2:]]

    model, reply = UPSTREAMS[upstream]
    blocks = CONTENTS["signed and redacted"]
    body, dropped = second_turn("openai_chat", upstream, model, reply(*blocks), between=[move], judged=False)
    expected = reply(*blocks)
    expected = expected["content"] if upstream == "anthropic_messages" else expected["output"]["message"]["content"]
    assert (body["messages"][1]["content"], dropped) == (expected, [])
