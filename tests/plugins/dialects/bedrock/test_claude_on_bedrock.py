"""Tests of Messages requests for InvokeModel: fields that are passed on, changed, refused, or reported as dropped."""

import json
from dataclasses import replace

import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest, Members, Target
from gateway.testkit.rules.claude import claude_fault
from gateway_plugins import bedrock_model_invoke as flag
from tests.helpers.json_faults import MISSING, changed, paths

OLD = capabilities("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
OPUS_4_5 = capabilities("us.anthropic.claude-opus-4-5-20251101-v1:0")
OPUS_4_6 = capabilities("us.anthropic.claude-opus-4-6-v1")
NEW = capabilities("us.anthropic.claude-opus-5")
CLAUDE_3 = capabilities("anthropic.claude-3-haiku-20240307-v1:0")
HELLO = [{"role": "user", "content": "hello"}]
CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]}
SYSTEM = {"role": "system", "content": "Be brief."}
REMINDER = {"role": "user", "content": [{"type": "text", "text": "<system-reminder>\nBe brief.\n</system-reminder>"}]}
ANSWER = {"role": "assistant", "content": "yes"}


def built(body, caps=OLD, **headers):
    """Return the InvokeModel body for a Messages request, and the dropped fields. Check that the simulated Bedrock
    accepts the body.
    """
    top = Members(json.dumps({"model": "m", "max_tokens": 4000, "messages": HELLO, **body}).encode())
    ask = ClientRequest(
        "anthropic_messages", "anthropic_messages", "generate", "POST", "/", "", headers, top, "m", False
    )
    dropped = []
    send = flag.build(ask, Target("b", "bedrock_model_invoke", "m", "anthropic_messages", caps), dropped.append)
    sent = json.loads(send.body)
    assert claude_fault(sent, caps, bedrock=True) is None
    return sent, dropped


@pytest.mark.parametrize(
    ("given", "native", "elsewhere"),
    [
        ([*HELLO, SYSTEM], [*HELLO, SYSTEM], [*HELLO, REMINDER]),
        ([*HELLO, SYSTEM, ANSWER, *HELLO], [*HELLO, SYSTEM, ANSWER, *HELLO], [*HELLO, REMINDER, ANSWER, *HELLO]),
        # never between a call and its result
        ([*HELLO, CALL, SYSTEM, RESULT], [*HELLO, CALL, RESULT, SYSTEM], [*HELLO, CALL, RESULT, REMINDER]),
        # a native one must follow the user and be followed by the assistant
        ([*HELLO, ANSWER, SYSTEM, *HELLO], [*HELLO, ANSWER, REMINDER, *HELLO], [*HELLO, ANSWER, REMINDER, *HELLO]),
    ],
)
def test_a_system_message_between_turns_is_native_or_a_reminder(given, native, elsewhere):
    """Check that a system message between turns is sent unchanged if the model accepts it.

    For another model, it becomes a text in the user's turn, between tags `<system-reminder>`.
    """
    tools = {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}
    assert built({"messages": given, **tools}, NEW) == ({**built({**tools}, NEW)[0], "messages": native}, [])
    assert built({"messages": given, **tools}, OLD)[0]["messages"] == elsewhere


def test_a_system_message_before_all_turns_is_the_system_prompt():
    sent, dropped = built({"system": "You help.", "messages": [SYSTEM, *HELLO]})
    assert sent["system"] == [{"type": "text", "text": "You help."}, {"type": "text", "text": "Be brief."}]
    assert (sent["messages"], dropped) == (HELLO, [])


def test_adjacent_system_messages_join_and_losses_are_reported():
    """Check that two consecutive system messages between turns become one.

    If the model accepts no system messages there, their text is sent in the user's turn, and their other parts are
    reported as dropped.
    """
    other = {"role": "system", "content": [{"type": "text", "text": "B"}, {"type": "tool_removal", "name": "f"}]}
    sent, _ = built({"messages": [*HELLO, SYSTEM, {**other, "content": other["content"][:1]}]}, NEW)
    blocks = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "B"}]
    assert sent["messages"][1:] == [{"role": "system", "content": blocks}]
    sent, dropped = built({"messages": [*HELLO, {**other, "output_config": {"effort": "low"}}]})
    assert sent["messages"][1]["content"][0]["text"] == "<system-reminder>\nB\n</system-reminder>"
    assert dropped == ["/messages/1/output_config", "/messages/1/content/1"]


@pytest.mark.parametrize(
    ("caps", "effort", "sent", "dropped"),
    [
        (OPUS_4_6, "max", {"effort": "max"}, []),
        (OPUS_4_6, "xhigh", {"effort": "high"}, ["/output_config/effort"]),
        (capabilities("anthropic.claude-opus-4-7"), "max", {"effort": "xhigh"}, ["/output_config/effort"]),
        (NEW, "max", {"effort": "max"}, []),
        (OPUS_4_5, "high", {"effort": "high"}, []),
        (OPUS_4_5, "max", {"effort": "high"}, ["/output_config/effort"]),
        (OLD, "low", None, ["/output_config/effort"]),
    ],
)
def test_an_effort_is_the_nearest_the_model_has_or_dropped(caps, effort, sent, dropped):
    """Check that an effort becomes the nearest effort that the model accepts.

    If the model accepts no effort, the client's effort is reported as dropped.
    """
    body, drops = built({"output_config": {"effort": effort}}, caps)
    assert (body.get("output_config"), drops) == (sent, dropped)
    assert body.get("anthropic_beta", []) == (["effort-2025-11-24"] if caps is OPUS_4_5 else [])


FORMAT = {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}


@pytest.mark.parametrize("given", [{"output_format": FORMAT}, {"output_config": {"format": FORMAT}}])
def test_structured_output_is_native_or_in_the_system_prompt(given):
    """Check that structured output is requested by the model's own field, or else by a text in the system prompt.

    With the text, the client's field is reported as dropped.
    """
    body, dropped = built(given, OLD)
    assert (body["output_config"], "output_format" in body, dropped) == ({"format": FORMAT}, False, [])
    body, dropped = built({**given, "system": "You help."}, CLAUDE_3)
    assert ("output_config" in body, "output_format" in body) == (False, False)
    assert "It must match this JSON schema: {" in body["system"][1]["text"]
    assert dropped == ["/output_format" if "output_format" in given else "/output_config/format"]


@pytest.mark.parametrize(
    ("caps", "given", "left", "dropped"),
    [
        (NEW, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {}, ["/temperature", "/top_p", "/top_k"]),
        (OLD, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}, ["/top_p"]),
        (OLD, {"temperature": 1, "thinking": {"type": "enabled", "budget_tokens": 1024}}, {}, []),
        (CLAUDE_3, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}, []),
    ],
)
def test_sampling_goes_as_far_as_the_model_takes_it_and_the_rest_is_told(caps, given, left, dropped):
    body, drops = built(given, caps)
    assert ({name: body[name] for name in ("temperature", "top_p", "top_k") if name in body}, drops) == (left, dropped)


def test_a_sampling_parameter_of_a_wrong_type_is_refused_by_name():
    with pytest.raises(Refused, match='temperature: "warm" is not a number of at least 0'):
        built({"temperature": "warm"})


def test_a_limit_that_is_missing_leaves_room_beside_the_thinking():
    thinking = {"type": "enabled", "budget_tokens": 10_000}
    top = Members(json.dumps({"messages": HELLO, "thinking": thinking}).encode())
    ask = ClientRequest("anthropic_messages", "anthropic_messages", "generate", "POST", "/", "", {}, top, "m", False)
    place = Target("b", "bedrock_model_invoke", "m", "anthropic_messages", OLD)
    assert json.loads(flag.build(ask, place, print).body)["max_tokens"] == 10_000 + OLD.max_output


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "file"}}]},
    ],
)
def test_a_source_that_bedrock_would_have_to_fetch_is_refused_at_its_place(block):
    with pytest.raises(Refused, match=r"messages\[0\]\.content\[1\](\.content\[0\])?\.source: .* as base64") as refused:
        built({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, block]}]})
    assert refused.value.problem.param.endswith(".source")


def test_a_tool_without_a_name_is_refused_by_its_place():
    with pytest.raises(Refused, match=r"tools\[0\]\.name: a tool needs a name"):
        built({"tools": [{"name": " ", "input_schema": {"type": "object"}}]})


def test_edits_of_the_context_and_safeguards_bring_their_betas():
    edits = [{"type": "clear_tool_uses_20250919"}, {"type": "compact_20260112"}]
    body, dropped = built({"context_management": {"edits": edits}, "safeguards": {"dangerous_tools": True}})
    assert sorted(body["anthropic_beta"]) == [
        "compact-2026-01-12", "context-management-2025-06-27", "dangerous-tool-use-2026-09-03",
    ]  # fmt: skip
    assert (body["context_management"], dropped) == ({"edits": edits}, [])


def test_values_that_ask_for_nothing_are_left_out_without_a_word():
    neutral = {"speed": "standard", "mcp_servers": [], "service_tier": "standard_only", "container": None}
    assert built(neutral) == built({})


def test_a_model_of_which_nothing_is_known_keeps_what_it_was_sent():
    unknown = replace(capabilities("x"), native_dialect="anthropic_messages")
    sent = {"output_config": {"effort": "max", "format": FORMAT}, "temperature": 0.5, "top_p": 0.5}
    top = Members(json.dumps({"max_tokens": 1, "messages": HELLO, **sent}).encode())
    ask = ClientRequest("anthropic_messages", "anthropic_messages", "generate", "POST", "/", "", {}, top, "m", False)
    place = Target("b", "bedrock_model_invoke", "m", "anthropic_messages", unknown)
    body = json.loads(flag.build(ask, place, pytest.fail).body)
    assert {name: body[name] for name in sent} == sent


EVERYTHING = {
    "model": "m", "stream": False, "max_tokens": 4000, "temperature": 0.5, "top_p": 0.9, "top_k": 5,
    "stop_sequences": ["a"], "service_tier": "flex", "container": "c", "safeguards": {"a": 1}, "speed": "fast",
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "g"}}],
    "cache_control": {"type": "ephemeral"}, "metadata": {"user_id": "u"}, "anthropic_beta": ["a-1"],
    "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "summarized"},
    "output_config": {"effort": "max", "format": FORMAT}, "output_format": FORMAT,
    "context_management": {"edits": [{"type": "clear_thinking_20251015"}, {"type": "compact_20260112"}]},
    "tools": [{"name": "f", "input_schema": {"type": "custom"}, "eager_input_streaming": True, "custom": {"a": 1}}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "messages": [
        SYSTEM, *HELLO,
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "t", "signature": "irisgate1:claude:s"},
            {"type": "redacted_thinking", "data": "irisgate1:nova:s"},
            *CALL["content"],
        ]},
        {**SYSTEM, "output_config": {"effort": "low"}}, RESULT,
        {"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        ]},
    ],
}  # fmt: skip
JUNK = [MISSING, None, 0, 1.5, True, "junk", [], {}, {"a": 1}, [1], [None], {"type": "url"}]


@pytest.mark.parametrize("caps", [OLD, NEW, OPUS_4_5, CLAUDE_3], ids=["4.5", "5", "opus-4.5", "3"])
@pytest.mark.parametrize("operation", ["generate", "count_tokens"])
def test_whatever_stands_in_a_request_it_is_carried_or_refused_by_name(caps, operation):
    place = Target("b", "bedrock_model_invoke", "m", "anthropic_messages", caps)
    for path in paths(EVERYTHING):
        for junk in JUNK:
            assert refusal(changed(EVERYTHING, path, junk), operation, place), (path, junk)


def refusal(body, operation, place):
    """Return the field that a refusal names, or "none" if the request is not refused. Any other exception fails the
    test.
    """
    top = Members(json.dumps(body).encode())
    ask = ClientRequest("anthropic_messages", "anthropic_messages", operation, "POST", "/", "", {}, top, "m", False)
    try:
        flag.build(ask, place, lambda _: None)
    except Refused as refused:
        return refused.problem.param
    return "none"
