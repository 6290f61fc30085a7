"""Tests of the texts in requests that filters get.

The documentation (`plugins/guide.md`) names texts that filters do not get. The tests check these too.
"""

import json

import pytest

from gateway.contract.filter import Asked
from gateway.contract.members import Members
from gateway.contract.messages import ClientRequest, Event
from tests.helpers.gateway import built_in

WORD, CHANGED = "falcon", "osprey"


def user(content, **more):
    return {"messages": [{"role": "user", "content": content}], **more}


def says(role, **more):
    return {"messages": [{"role": role, **more}]}


def gemini(*parts, role="user", **more):
    return {"contents": [{"role": role, "parts": [*parts]}], **more}


def item(kind, **more):
    return {"input": [{"type": kind, **more}]}


def part(kind, **more):
    return {"input": [{"role": "user", "content": [{"type": kind, **more}]}]}


CALL = {"id": "c", "type": "function"}
TOOL_USE = {"toolUseId": "t", "name": "n"}
SEEN = {
    "openai_chat": {
        "system": says("system", content=WORD),
        "developer": says("developer", content=WORD),
        "user": user(WORD),
        "part": user([{"type": "text", "text": WORD}]),
        "assistant": says("assistant", content=WORD),
        "refusal": says("assistant", refusal=WORD),
        "refusal in a part": says("assistant", content=[{"type": "refusal", "refusal": WORD}]),
        "thinking": says("assistant", reasoning_content=WORD),
        "thinking block": says("assistant", thinking_blocks=[{"type": "thinking", "thinking": WORD, "signature": "s"}]),
        "arguments": says("assistant", tool_calls=[{**CALL, "function": {"name": "n", "arguments": f'{{"a":"{WORD}"}}'}}]),
        "custom input": says("assistant", tool_calls=[{"id": "c", "custom": {"name": "n", "input": WORD}}]),
        "function": says("assistant", function_call={"name": "n", "arguments": f'{{"a":"{WORD}"}}'}),
        "result": says("tool", tool_call_id="c", content=WORD),
        "prediction": user("hi", prediction={"type": "content", "content": WORD}),
        "prediction in parts": user("hi", prediction={"type": "content", "content": [{"type": "text", "text": WORD}]}),
        "unknown part": user([{"type": "novel", "inner": {"words": [WORD]}}]),
        "part that is a string": user([WORD]),
    },
    "openai_responses": {
        "instructions": {"instructions": WORD, "input": "hi"},
        "input": {"input": WORD},
        "message": {"input": [{"role": "user", "content": WORD}]},
        "part": part("input_text", text=WORD),
        "refusal": part("refusal", refusal=WORD),
        "arguments": item("function_call", call_id="c", name="n", arguments=f'{{"a":"{WORD}"}}'),
        "result": item("function_call_output", call_id="c", output=WORD),
        "result in parts": item("function_call_output", call_id="c", output=[{"type": "input_text", "text": WORD}]),
        "custom input": item("custom_tool_call", call_id="c", name="n", input=WORD),
        "custom result": item("custom_tool_call_output", call_id="c", output=WORD),
        "summary": item("reasoning", summary=[{"type": "summary_text", "text": WORD}]),
        "reasoning": item("reasoning", summary=[], content=[{"type": "reasoning_text", "text": WORD}]),
        "queries": item("file_search_call", queries=[WORD]),
        "results": item("file_search_call", results=[{"text": WORD}]),
        "web query": item("web_search_call", action={"type": "search", "query": WORD}),
        "code": item("code_interpreter_call", code=WORD),
        "logs": item("code_interpreter_call", outputs=[{"type": "logs", "logs": WORD}]),
        "command": item("local_shell_call", action={"type": "exec", "command": ["echo", WORD]}),
        "commands": item("shell_call", action={"commands": [f"echo {WORD}"]}),
        "output": item("shell_call_output", output=[{"stdout": WORD, "stderr": WORD}]),
        "patch": item("apply_patch_call", operation={"type": "create_file", "path": "a", "diff": WORD}),
        "typed": item("computer_call", action={"type": "type", "text": WORD}),
        "revised prompt": item("image_generation_call", revised_prompt=WORD),
        "remote call": item("mcp_call", name="n", arguments=f'{{"a":"{WORD}"}}', output=WORD),
        "variable": {"prompt": {"id": "p", "variables": {"a": WORD}}},
        "variable of a type": {"prompt": {"id": "p", "variables": {"a": {"type": "input_text", "text": WORD}}}},
        "unknown item": item("novel", inner=[{"words": WORD}]),
        "unknown part": part("novel", inner=[{"words": WORD}]),
    },
    "anthropic_messages": {
        "system": user("hi", system=WORD),
        "system in blocks": user("hi", system=[{"type": "text", "text": WORD}]),
        "user": user(WORD),
        "text": user([{"type": "text", "text": WORD}]),
        "thinking": says("assistant", content=[{"type": "thinking", "thinking": WORD, "signature": "s"}]),
        "arguments": says("assistant", content=[{"type": "tool_use", "id": "t", "name": "n", "input": {"a": WORD}}]),
        "result": user([{"type": "tool_result", "tool_use_id": "t", "content": WORD}]),
        "result in blocks": user([{"type": "tool_result", "content": [{"type": "text", "text": WORD}]}]),
        "document": user([{"type": "document", "source": {"type": "text", "data": WORD}}]),
        "document in blocks": user(
            [{"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": WORD}]}}]
        ),
        "document of a result": user(
            [{"type": "tool_result", "content": [{"type": "document", "source": {"type": "text", "data": WORD}}]}]
        ),
        "title and context": user([{"type": "document", "title": WORD, "context": WORD, "source": {"type": "url"}}]),
        "search result": user(
            [{"type": "search_result", "title": WORD, "source": "x", "content": [{"type": "text", "text": WORD}]}]
        ),
        "cited": user([{"type": "text", "text": "x", "citations": [{"type": "char_location", "cited_text": WORD}]}]),
        "fetched": user(
            [{"type": "web_fetch_tool_result", "content": {"type": "web_fetch_result", "content": {
                "type": "document", "source": {"type": "text", "data": WORD}}}}]
        ),
        "program": user([{"type": "bash_code_execution_tool_result", "content": {"stdout": WORD, "stderr": WORD}}]),
        "edited lines": user([{"type": "text_editor_code_execution_tool_result", "content": {"lines": [WORD]}}]),
        "advice": user([{"type": "advisor_tool_result", "content": {"type": "advisor_result", "text": WORD}}]),
        "web results": user(
            [{"type": "web_search_tool_result", "content": [{"type": "web_search_result", "title": WORD, "url": "u"}]}]
        ),
        "compaction": says("assistant", content=[{"type": "compaction", "content": WORD}]),
        "unknown block": user([{"type": "novel", "inner": [{"words": WORD}]}]),
        "unknown block of a result": user([{"type": "tool_result", "content": [{"type": "novel", "words": WORD}]}]),
    },
    "bedrock_converse": {
        "system": user([{"text": "hi"}], system=[{"text": WORD}]),
        "guarded system": user([{"text": "hi"}], system=[{"guardContent": {"text": {"text": WORD}}}]),
        "text": user([{"text": WORD}]),
        "guarded": user([{"guardContent": {"text": {"text": WORD}}}]),
        "reasoning": says("assistant", content=[{"reasoningContent": {"reasoningText": {"text": WORD}}}]),
        "arguments": says("assistant", content=[{"toolUse": {**TOOL_USE, "input": {"a": WORD}}}]),
        "result": user([{"toolResult": {"toolUseId": "t", "content": [{"text": WORD}]}}]),
        "result as JSON": user([{"toolResult": {"toolUseId": "t", "content": [{"json": {"a": WORD}}]}}]),
        "document": user([{"document": {"name": "d", "format": "txt", "source": {"text": WORD}, "context": WORD}}]),
        "document in parts": user([{"document": {"name": "d", "source": {"content": [{"text": WORD}]}}}]),
        "document of a result": user(
            [{"toolResult": {"toolUseId": "t", "content": [{"document": {"name": "d", "source": {"text": WORD}}}]}}]
        ),
        "search result": user([{"searchResult": {"source": "s", "title": WORD, "content": [{"text": WORD}]}}]),
        "citations": says(
            "assistant",
            content=[{"citationsContent": {
                "content": [{"text": WORD}], "citations": [{"sourceContent": [{"text": WORD}]}]}}],
        ),
        "variable": {**user([{"text": "hi"}]), "promptVariables": {"a": {"text": WORD}}},
        "unknown block": user([{"novel": {"inner": [WORD]}}]),
    },
    "gemini_generate_content": {
        "system": gemini({"text": "hi"}, systemInstruction={"parts": [{"text": WORD}]}),
        "system in the other spelling": gemini({"text": "hi"}, system_instruction={"parts": [{"text": WORD}]}),
        "text": gemini({"text": WORD}),
        "thinking": gemini({"text": WORD, "thought": True}, role="model"),
        "arguments": gemini({"functionCall": {"name": "n", "args": {"a": WORD}}}, role="model"),
        "result": gemini({"functionResponse": {"name": "n", "response": {"a": WORD}}}),
        "code": gemini({"executableCode": {"language": "PYTHON", "code": WORD}}, role="model"),
        "output": gemini({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": WORD}}, role="model"),
        "unknown part": gemini({"novel": {"inner": [WORD]}}),
    },
}  # fmt: skip
IMAGE = {"type": "base64", "media_type": "image/png", "data": WORD}
UNSEEN = {
    "openai_chat": {
        "tools": user("hi", tools=[{"type": "function", "function": {"name": WORD, "description": WORD}}]),
        "image": user([{"type": "image_url", "image_url": {"url": WORD}}]),
        "file": user([{"type": "file", "file": {"filename": WORD, "file_data": WORD}}]),
        "author": says("user", content="hi", name=WORD),
        "schema": user("hi", response_format={"json_schema": {"name": "s", "description": WORD}}),
        "user": user("hi", user=WORD, metadata={"a": WORD}),
    },
    "openai_responses": {
        "tools": {"input": "hi", "tools": [{"type": "function", "name": WORD, "description": WORD}]},
        "file": part("input_file", filename=WORD, file_data=WORD),
        "annotations": part("output_text", text="x", annotations=[{"type": "url_citation", "title": WORD}]),
    },
    "anthropic_messages": {
        "tools": user("hi", tools=[{"name": WORD, "description": WORD, "input_schema": {}}]),
        "image": user([{"type": "image", "source": IMAGE}]),
        "document in base64": user([{"type": "document", "source": IMAGE}]),
        "signature": says("assistant", content=[{"type": "redacted_thinking", "data": WORD}]),
    },
    "bedrock_converse": {
        "tools": user([{"text": "hi"}], toolConfig={"tools": [{"toolSpec": {"name": WORD, "description": WORD}}]}),
        "document in base64": user([{"document": {"name": WORD, "source": {"bytes": WORD}}}]),
        "more": user([{"text": "hi"}], additionalModelRequestFields={"a": WORD}),
    },
    "gemini_generate_content": {
        "tools": gemini({"text": "hi"}, tools=[{"functionDeclarations": [{"name": WORD, "description": WORD}]}]),
        "file": gemini({"inlineData": {"mimeType": "text/plain", "data": WORD}}, {"fileData": {"fileUri": WORD}}),
    },
}
"""Requests with a text that filters must not get, as `plugins/guide.md` says."""


def asked(flag, body):
    top = Members(json.dumps(body).encode())
    request = ClientRequest(flag, flag, "generate", "POST", "/", "", {}, top, "m", False)
    return Asked(request, built_in().flags[flag].places)


@pytest.mark.parametrize("flag", SEEN)
def test_a_filter_sees_and_changes_each_text(flag):
    left = {}
    for name, body in SEEN[flag].items():
        given = asked(flag, body)
        changed = given.with_texts([text.text.replace(WORD, CHANGED) for text in given.texts])
        result = json.loads(changed.request.top.body)
        if result != json.loads(json.dumps(body).replace(WORD, CHANGED)):
            left[name] = result
    assert left == {}


@pytest.mark.parametrize("flag", UNSEEN)
def test_what_the_page_says_is_not_seen_is_not_seen(flag):
    for name, body in UNSEEN[flag].items():
        assert not any(WORD in text.text for text in asked(flag, body).texts), name


@pytest.mark.parametrize("flag", SEEN)
@pytest.mark.parametrize("value", [None, 1, "x", [], [1, "x", None, [], {}], {}, {"type": [1]}, {"type": {}}, True])
def test_values_of_a_wrong_type_break_nothing(flag, value):
    name = {"openai_responses": "input", "gemini_generate_content": "contents"}.get(flag, "messages")
    inner = "parts" if flag == "gemini_generate_content" else "content"
    for body in ({name: value}, {name: [value]}, {name: [{inner: value}]}, {name: [{inner: [value]}]}):
        given = asked(flag, body)
        assert given.with_texts([text.text for text in given.texts]) is given


@pytest.mark.parametrize(
    "replied",
    [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "compaction", "content": WORD}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": WORD}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "novel_delta", "inner": [WORD]}},
    ],
)
def test_a_filter_sees_streamed_texts_of_unknown_kinds(replied):
    """Check that a filter sees the text of blocks and deltas of Anthropic's streams even if their type is unknown."""
    places = [*built_in().flags["anthropic_messages"].places(Event(replied["type"], json.dumps(replied).encode()))]
    assert [place.path[-1] for place in places] in (["content"], [0])
