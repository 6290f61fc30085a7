"""Tests of a history with items or blocks that only one server understands: the session continues, and each loss is
reported.

Each conversion is tried with all items that the vendors' SDKs let a client send back, and with unknown items. Source:
openai/codex#45401, a resumed session that began with a compaction by another model.
"""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.capabilities import Caps
from gateway.contract.errors import Refused
from gateway.contract.flag import Target
from tests.helpers.clients import CLIENTS
from tests.helpers.conversion import CONVERSIONS, PNG, request_of

SECRET = "gAAAAABopaque"
TOKEN = {"encrypted_content": SECRET}


def of(dialect, way=""):
    """Return a mark that runs a test once for each conversion from a client's dialect to another dialect.

    If `way` is "", conversions to other APIs with the client's body format (envelopes) are added. If `way` is "invoke",
    only the one to InvokeModel is added.
    """
    ways = {"": ("translated", "envelope")}.get(way, ("translated",))
    of_dialect = [conversion for conversion in CONVERSIONS.values() if conversion.dialect == dialect]
    chosen = [
        conversion
        for conversion in of_dialect
        if conversion.way in ways or (way == "invoke" and conversion.provider.name == "bedrock_model_invoke")
    ]
    return pytest.mark.parametrize("conversion", chosen, ids=lambda conversion: conversion.name)


def sent_text(call):
    return json.dumps(call.sent)


# Responses

FOREIGN_ITEMS = {
    "compaction": {"id": "cmp_1", **TOKEN},
    "context_compaction": {"id": "cmp_1", **TOKEN},
    "compaction_summary": TOKEN,
    "reasoning": {"id": "rs_1", "summary": [], **TOKEN},
    "file_search_call": {"id": "fs_1", "queries": ["q"], "status": "completed", "results": [{"text": SECRET}]},
    "web_search_call": {"id": "ws_1", "status": "completed", "action": {"type": "search", "query": SECRET}},
    "code_interpreter_call": {"id": "ci_1", "code": "1", "container_id": SECRET, "outputs": [], "status": "completed"},
    "image_generation_call": {"id": "ig_1", "result": SECRET, "status": "completed"},
    "mcp_list_tools": {"id": "mcpl_1", "server_label": "s", "tools": [{"name": SECRET, "input_schema": {}}]},
    "mcp_approval_request": {"id": "mcpr_1", "server_label": "s", "name": "n", "arguments": SECRET},
    "mcp_approval_response": {"approval_request_id": "mcpr_1", "approve": True},
    "mcp_call": {"id": "mcp_1", "server_label": "s", "name": "n", "arguments": "{}", "output": SECRET},
    "tool_search_call": {"id": "tsc_1", "arguments": {"q": SECRET}, "status": "completed"},
    "tool_search_output": {"tools": [], "status": "completed"},
    "program": {"id": "p_1", "call_id": "c", "code": "1", "fingerprint": SECRET},
    "program_output": {"id": "p_2", "call_id": "c", "result": SECRET, "status": "completed"},
    "configuration_update": {"reasoning": {"effort": "low"}},
    "item_reference": {"id": "rs_12"},
    "ghost_snapshot": {"ghost_commit": {"id": SECRET}},
    "telepathy_call": {"id": "t_1", "call_id": "c9", "thoughts": SECRET},
    "telepathy_call_output": {"call_id": "c9", "output": SECRET},
}
SAID = [{"role": "user", "content": "first"}, {"role": "user", "content": "second"}]


@of("openai_responses")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", FOREIGN_ITEMS)
def test_an_item_of_another_maker_is_dropped_aloud(conversion, kind, stream):
    item = {"type": kind, **FOREIGN_ITEMS[kind]}
    call = conversion.call({"input": [SAID[0], item, SAID[1]]}, stream=stream)
    text = sent_text(call)
    assert call.dropped == ["/input/1"]
    assert call.fault is None
    assert SECRET not in text
    assert text.index("first") < text.index("second")
    assert ("were compacted" in text) == ("compaction" in kind)


@of("openai_responses")
def test_a_conversation_that_begins_with_a_compaction_goes_on(conversion):
    items = [{"type": "compaction", **TOKEN}, {"role": "assistant", "content": "done"}, SAID[1]]
    call = conversion.call({"input": items})
    assert (call.fault, call.dropped) == (None, ["/input/0"])
    assert sent_text(call).index("were compacted") < sent_text(call).index("done") < sent_text(call).index("second")


CLIENT_CALLS = [
    (
        {"type": "shell_call", "call_id": "c1", "action": {"commands": ["ls -l"], "timeout_ms": None}},
        {"type": "shell_call_output", "call_id": "c1", "output": [{"stdout": "a-file", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]},
        ["ls -l", "a-file"],
    ),
    (
        {"type": "apply_patch_call", "call_id": "c1", "operation": {"type": "create_file", "path": "a-file", "diff": "+x"}},
        {"type": "apply_patch_call_output", "call_id": "c1", "status": "completed", "output": "patched it"},
        ["create_file", "patched it"],
    ),
    (
        {"type": "apply_patch_call", "call_id": "c1", "operation": {"type": "delete_file", "path": "a-file"}},
        {"type": "apply_patch_call_output", "call_id": "c1", "status": "failed"},
        ["delete_file", "failed"],
    ),
    (
        {"type": "computer_call", "id": "x", "call_id": "c1", "action": {"type": "click", "x": 17, "y": 4}, "status": "completed", "pending_safety_checks": []},
        {"type": "computer_call_output", "call_id": "c1", "output": {"type": "computer_screenshot", "image_url": f"data:image/png;base64,{PNG}"}},
        ["click", PNG],
    ),
    (
        {"type": "computer_call", "id": "x", "call_id": "c1", "actions": [{"type": "click", "x": 17, "y": 4}], "status": "completed"},
        {"type": "computer_call_output", "call_id": "c1", "output": {"type": "computer_screenshot", "image_url": "https://example.com/a.png"}},
        ["click", PNG],
    ),
]  # fmt: skip


@of("openai_responses")
@pytest.mark.parametrize(("asked", "answered", "words"), CLIENT_CALLS)
def test_calls_of_the_clients_own_tools_stay_calls_with_results(conversion, asked, answered, words):
    call = conversion.call({"input": [SAID[0], asked, answered, SAID[1]]})
    assert call.fault is None
    for word in words:
        assert word in sent_text(call)


REFUSED_ITEMS = {
    "input[1]": {"type": "item_reference", "id": "msg_1"},
    "input[1].type": {"type": "voice_message", "role": "user", "content": "x"},
    "input[1].text.format": {"type": "configuration_update", "text": {"format": {"type": "json_schema", "schema": {}}}},
}


@of("openai_responses")
@pytest.mark.parametrize("field", REFUSED_ITEMS)
def test_an_item_without_which_the_request_means_another_thing_is_refused(conversion, field):
    with pytest.raises(Refused) as refused:
        conversion.call({"input": [SAID[0], REFUSED_ITEMS[field]]})
    assert refused.value.problem.param == field


@of("openai_responses")
def test_a_wish_to_compact_is_refused_in_words(conversion):
    with pytest.raises(Refused, match="not compacted here"):
        conversion.call({"input": [SAID[0], {"type": "compaction_trigger"}]})


# Messages

SERVER_USE = {"id": "srvtoolu_1", "name": "web_search", "input": {"query": SECRET}}
FOREIGN_BLOCKS = {
    "server_tool_use": SERVER_USE,
    "web_search_tool_result": {"tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result", **TOKEN}]},
    "web_fetch_tool_result": {"tool_use_id": "srvtoolu_1", "content": {"type": "web_fetch_result", "url": SECRET}},
    "advisor_tool_result": {"tool_use_id": "srvtoolu_1", "content": {"type": "advisor_result", "text": SECRET}},
    "code_execution_tool_result": {"tool_use_id": "srvtoolu_1", "content": {"stdout": SECRET}},
    "bash_code_execution_tool_result": {"tool_use_id": "srvtoolu_1", "content": {"stdout": SECRET}},
    "text_editor_code_execution_tool_result": {"tool_use_id": "srvtoolu_1", "content": {"content": SECRET}},
    "mcp_tool_use": {"id": "mcptoolu_1", "name": "n", "server_name": "s", "input": {"q": SECRET}},
    "mcp_tool_result": {"tool_use_id": "mcptoolu_1", "content": SECRET},
    "mcp_tool_listing": {"server_name": "s", "tools": [{"name": SECRET}]},
    "fallback": {"from": {"model": "a"}, "to": {"model": "b"}, "trigger": {"why": SECRET}},
}
BEDROCK_HAS = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "tool_search_tool_regex", "input": {"query": "x"}},
    {
        "type": "tool_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": {"type": "tool_search_tool_search_result"},
    },
    {"type": "telepathy", "thoughts": "x"},
]
"""Blocks that Bedrock gets unchanged: those of tool search, which Bedrock offers, and a block of an unknown type."""
ASKED = {"role": "user", "content": "first"}
GO_ON = {"role": "user", "content": "second"}
WITH_TEXT = [{"type": "text", "text": "so"}]


def messages(*blocks, role="assistant"):
    return {"max_tokens": 100, "messages": [ASKED, {"role": role, "content": list(blocks)}, GO_ON]}


@of("anthropic_messages", "invoke")
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("kind", FOREIGN_BLOCKS)
def test_a_block_of_another_maker_is_dropped_aloud(conversion, kind, alone):
    block = {"type": kind, **FOREIGN_BLOCKS[kind]}
    call = conversion.call(messages(block, *([] if alone else WITH_TEXT)))
    assert call.dropped == ["/messages/1/content/0"]
    assert SECRET not in sent_text(call)
    assert call.fault is None
    assert sent_text(call).index("first") < sent_text(call).index("second")


@of("anthropic_messages", "translated")
@pytest.mark.parametrize("block", BEDROCK_HAS)
def test_a_block_that_bedrock_may_know_is_dropped_where_it_is_translated(conversion, block):
    call = conversion.call(messages(block, *WITH_TEXT))
    assert (call.fault, call.dropped) == (None, ["/messages/1/content/0"])
    kept = CONVERSIONS["anthropic_messages__bedrock_model_invoke"].call(messages(block, *WITH_TEXT))
    assert kept.sent["messages"][1]["content"] == [block, *WITH_TEXT]


def test_a_request_of_foreign_blocks_alone_is_refused_on_invoke_model():
    upload = {"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}
    with pytest.raises(Refused) as refused:
        CONVERSIONS["anthropic_messages__bedrock_model_invoke"].call({"max_tokens": 5, "messages": [upload]})
    assert refused.value.problem.param == "messages"


@of("anthropic_messages")
def test_a_summary_of_a_compaction_stays(conversion):
    block = {"type": "compaction", "content": "They spoke of whales.", **TOKEN, "signature": SECRET}
    call = conversion.call(messages(block, *WITH_TEXT))
    assert "whales" in sent_text(call)
    if conversion.way == "translated":
        assert SECRET not in sent_text(call)
        assert call.fault is None
        empty = conversion.call(messages({"type": "compaction", "content": None}, *WITH_TEXT))
        assert empty.fault is None


@of("anthropic_messages", "translated")
@pytest.mark.parametrize("kind", ["container_upload", "tool_addition", "tool_removal", "mcp_tool_result"])
def test_a_block_for_anthropics_servers_in_a_users_message_is_dropped(conversion, kind):
    block = {"type": kind, "file_id": SECRET, "tool": {"name": SECRET}}
    call = conversion.call(messages(block, {"type": "text", "text": "look"}, role="user"))
    assert call.dropped == ["/messages/1/content/0"]
    assert SECRET not in sent_text(call)


TOOL = {"name": "late", "description": "Comes late.", "input_schema": {"type": "object", "properties": {}}}
CHANGES = {
    "addition": {"type": "tool_addition", "tool": {"type": "tool_reference", "name": SECRET}},
    "removal": {"type": "tool_removal", "tool": {"type": "tool_reference", "name": SECRET}},
    "addition of a server's tool": {
        "type": "tool_addition",
        "tool": {"type": "tool_definition", "definition": {"type": "web_search_20250305", "name": SECRET}},
    },
}


def defined(**more):
    return {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {**TOOL, **more}}}


def offered(call):
    """Return the description of each offered tool, by the tool's name. The request may be in any dialect."""
    body = call.sent
    tools = [*body.get("tools", ()), *body.get("toolConfig", {}).get("tools", ())]
    tools = [each for tool in tools for each in tool.get("functionDeclarations", [tool])]
    specs = [tool.get("toolSpec") or tool.get("function") or tool for tool in tools]
    return {spec["name"]: spec.get("description") for spec in specs}


@of("anthropic_messages", "translated")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_tools_in_a_system_message_is_dropped(conversion, change):
    """Check that a block that changes the tools is reported as dropped, and that the request is sent without it.

    Claude Code and the SDKs send such blocks in system messages only.
    """
    call = conversion.call(messages({"type": "text", "text": "Note this."}, change, role="system"))
    assert call.dropped == ["/messages/1/content/1"]
    assert SECRET not in sent_text(call)
    assert "Note this." in sent_text(call)
    assert call.fault is None
    assert conversion.call(messages(change, role="system")).fault is None


@of("anthropic_messages", "translated")
@pytest.mark.parametrize("role", ["system", "user"])
def test_a_tool_that_the_conversation_defines_is_offered(conversion, role):
    text = {"type": "text", "text": "look"}
    call = conversion.call(messages(text, defined(), role=role))
    assert (call.fault, call.dropped) == (None, [])
    assert offered(call) == {"late": "Comes late."}
    first = {**TOOL, "description": "Came first."}
    again = conversion.call({**messages(text, defined(), role=role), "tools": [{**first, "name": "other"}, first]})
    assert offered(again) == {"other": "Came first.", "late": "Comes late."}


@of("anthropic_messages", "translated")
def test_a_tool_that_an_answer_defines_is_dropped(conversion):
    call = conversion.call(messages({"type": "text", "text": "look"}, defined()))
    assert (offered(call), call.dropped) == ({}, ["/messages/1/content/1"])


@of("anthropic_messages", "translated")
def test_a_nameless_tool_of_the_conversation_is_a_400(conversion):
    with pytest.raises(Refused) as refused:
        conversion.call(messages(defined(name=" "), role="system"))
    assert refused.value.problem.param == "messages[1].content[0].tool.definition.name"


@of("anthropic_messages", "translated")
def test_an_unknown_block_of_a_user_is_refused_by_its_type(conversion):
    with pytest.raises(Refused) as refused:
        conversion.call(messages({"type": "video", "source": {}}, role="user"))
    assert refused.value.problem.param == "messages[1].content[0].type"


# Converse and Chat


@of("bedrock_converse")
def test_an_unknown_block_of_an_answer_to_converse_is_dropped(conversion):
    turns = [
        {"role": "user", "content": [{"text": "first"}]},
        {"role": "assistant", "content": [{"telepathy": {"thoughts": SECRET}}, {"text": "so"}]},
        {"role": "user", "content": [{"text": "second"}]},
    ]
    call = conversion.call({"messages": turns})
    assert (call.fault, call.dropped) == (None, ["/messages/1/content/0"])
    assert SECRET not in sent_text(call)
    with pytest.raises(Refused) as refused:
        conversion.call({"messages": [{"role": "user", "content": [{"telepathy": {}}]}]})
    assert refused.value.problem.param == "messages[0].content[0]"


@of("openai_chat")
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "audio", "audio": {"id": SECRET}},
        {"type": "reasoning.encrypted", "data": SECRET},
        {"type": "telepathy", "thoughts": SECRET},
    ],
)
def test_a_part_of_an_answer_that_is_no_text_is_dropped_in_chat(conversion, part):
    turns = [ASKED, {"role": "assistant", "content": [part, {"type": "text", "text": "so"}]}, GO_ON]
    call = conversion.call({"messages": turns})
    assert (call.fault, call.dropped) == (None, ["/messages/1/content/0"])
    assert SECRET not in sent_text(call)
    assert PNG not in sent_text(call)


@of("openai_chat")
def test_a_call_of_a_custom_tool_stays_a_call(conversion):
    asked = {"id": "c1", "type": "custom", "custom": {"name": "grep", "input": "whales"}}
    turns = [
        ASKED,
        {"role": "assistant", "tool_calls": [asked]},
        *CLIENTS["openai_chat"].answered("c1", {"type": "text", "text": "none"}),
        GO_ON,
    ]
    call = conversion.call({"messages": turns})
    assert call.fault is None
    assert "whales" in sent_text(call)


# anything at all

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 9) | st.sampled_from(["", "x", "data:,x", SECRET]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "text", "role", "name"]), inner, max_size=3)
    ),
    max_leaves=5,
)
KINDS = st.sampled_from(
    [*FOREIGN_ITEMS, *FOREIGN_BLOCKS, "shell_call", "computer_call_output", "new_call", "text", "message"]
)
NAMES = st.sampled_from(
    [
        "id",
        "call_id",
        "content",
        "output",
        "action",
        "actions",
        "operation",
        "text",
        "tool_use_id",
        "name",
        "input",
        "source",
    ]
)
ITEM = st.builds(lambda kind, rest: {"type": kind, **rest}, KINDS, st.dictionaries(NAMES, VALUES, max_size=4))
WRAPPED = {
    "openai_responses": lambda items: {"input": [SAID[0], *items, SAID[1]]},
    "anthropic_messages": lambda items: messages(*items, *WITH_TEXT),
    "bedrock_converse": lambda items: {
        "messages": [
            {"role": "user", "content": [{"text": "first"}]},
            {"role": "assistant", "content": [*({item.pop("type"): item} for item in items), {"text": "so"}]},
            {"role": "user", "content": [{"text": "second"}]},
        ]
    },
    "openai_chat": lambda items: {"messages": [ASKED, {"role": "assistant", "content": [*items, *WITH_TEXT]}, GO_ON]},
    "gemini_generate_content": lambda items: {
        "contents": [
            {"parts": [{"text": "first"}]},
            {"role": "model", "parts": [*({item.pop("type"): item} for item in items), {"text": "so"}]},
            {"parts": [{"text": "second"}]},
        ]
    },
}
EVERY_TRANSLATION = [conversion for conversion in CONVERSIONS.values() if conversion.way == "translated"]


@settings(max_examples=60, deadline=None)
@given(items=st.lists(ITEM, max_size=3))
@pytest.mark.parametrize("conversion", EVERY_TRANSLATION, ids=lambda conversion: conversion.name)
def test_any_item_is_carried_dropped_or_refused_by_name(conversion, items):
    problem = None
    try:
        call = conversion.call(WRAPPED[conversion.dialect](copy.deepcopy(items)))
    except Refused as refused:
        problem = refused.problem
    if problem is None:
        assert call.fault is None
    else:
        assert problem.param
        assert SECRET not in problem.message


# from a translated provider to OpenAI itself

UNSIGNED = {
    "bedrock_converse": {
        "output": {"message": {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": "so"}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}, "metrics": {"latencyMs": 3},
    },
    "anthropic_messages": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None,
        "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "so"}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
    "openai_chat": {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "so", "reasoning_content": "hm"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
    "gemini_generate_content": {
        "candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "so"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
    },
}  # fmt: skip


@of("openai_responses")
def test_unsigned_thinking_of_others_does_not_reach_openai(conversion):
    """Check that a reasoning item that the gateway made from unsigned thinking is not sent to OpenAI.

    OpenAI would look up the item by its id (farion1231/cc-switch#5825).
    """
    output = conversion.call({"input": "Hi"}).whole(UNSIGNED[conversion.upstream])["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    body = {"model": "m", "store": False, "input": [SAID[0], *output, SAID[1]]}
    flag = conversion.client
    request = flag.parse(request_of(flag, body))
    dropped = []
    sent = json.loads(flag.build(request, Target("p", flag.name, "m", conversion.dialect, Caps()), dropped.append).body)
    assert sent["input"] == [SAID[0], output[1], SAID[1]]
    assert dropped == ["/input/1"]
