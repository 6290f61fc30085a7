"""Tests of Converse's own rules: real traffic is accepted, and usual mistakes of other gateways are refused."""

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from gateway.contract.capabilities import capabilities
from gateway.testkit.rules.common import SIGNATURE
from gateway.testkit.rules.converse import converse_fault

RECORDINGS = Path(__file__).resolve().parents[3].parent / "shared" / "recorded-bedrock"
CLAUDE = capabilities("anthropic.claude-sonnet-4-5-20250929-v1:0")
NEWEST = capabilities("anthropic.claude-opus-4-7")
NOVA = capabilities("amazon.nova-lite-v1:0")
LLAMA = capabilities("meta.llama4-maverick-17b-instruct-v1:0")
WRITER = capabilities("writer.palmyra-x5-v1:0")
QWEN = capabilities("qwen.qwen3-32b-v1:0")
GPT = capabilities("openai.gpt-5.4")
UNKNOWN = capabilities("arn:aws:bedrock:us-east-1:1:application-inference-profile/a")

POINT = {"cachePoint": {"type": "default"}}
HOUR = {"cachePoint": {"type": "default", "ttl": "1h"}}
SPEC = {"toolSpec": {"name": "t", "inputSchema": {"json": {"type": "object"}}}}
TOOLS = {"toolConfig": {"tools": [SPEC]}}
THINK = {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2000}}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"


def text(words="hello"):
    return {"text": words}


def user(*blocks):
    return {"role": "user", "content": [text(block) if isinstance(block, str) else block for block in blocks]}


def assistant(*blocks):
    return {**user(*blocks), "role": "assistant"}


def use(made="a", **more):
    return {"toolUse": {"toolUseId": made, "name": "t", "input": {}, **more}}


def result(made="a", *content, **more):
    return {"toolResult": {"toolUseId": made, "content": list(content or [text("42")]), **more}}


def document(name="one", kind="pdf"):
    return {"document": {"name": name, "format": kind, "source": {"bytes": "QQ=="}}}


def image(kind="png"):
    return {"image": {"format": kind, "source": {"bytes": PNG}}}


def thought(signature=SIGNATURE + "1"):
    return {"reasoningContent": {"reasoningText": {"text": "hm", "signature": signature}}}


def body(*messages, **more):
    return {"messages": list(messages or [user("hello")]), **more}


def tool(**spec):
    return {"toolConfig": {"tools": [{"toolSpec": {**SPEC["toolSpec"], **spec}}]}}


def schema(**root):
    return tool(inputSchema={"json": root})


def extra(**fields):
    return {"additionalModelRequestFields": fields}


def resigned(value):
    """Return the request with the simulator's signature in place of each signature of thinking."""
    if isinstance(value, dict):
        return {name: SIGNATURE if name == "signature" else resigned(item) for name, item in value.items()}
    return [resigned(item) for item in value] if isinstance(value, list) else value


def test_every_recorded_request_that_was_taken_passes():
    if not RECORDINGS.is_dir():
        pytest.skip("recordings of Bedrock are not beside the checkout")
    for path in sorted(RECORDINGS.glob("*.json")):
        for exchange in json.loads(path.read_text()):
            if exchange["status"] != 200 or not isinstance(exchange["request"], dict):  # one was cut while recorded
                continue
            request = resigned(exchange["request"])
            counted = request.get("input", {}).get("converse", request)
            caps = capabilities(unquote(exchange["path"].split("/")[2]))
            assert converse_fault(counted, caps) is None, path.name


LOOP = (user("hi"), assistant(use()), user(result()))


@pytest.mark.parametrize(
    ("request_body", "caps"),
    [
        (body(), NOVA),
        (body(assistant("hi"), user("you")), CLAUDE),
        (body(user("hi"), assistant("so")), CLAUDE),
        (body(*LOOP, **TOOLS), CLAUDE),
        (body(user("hi"), assistant(use("a"), use("b")), user(result("b"), result("a"), "and"), **TOOLS), CLAUDE),
        (body(user("hi"), assistant(thought(), use()), user(result()), **TOOLS, **THINK), CLAUDE),
        (body(*LOOP, **TOOLS, **extra(thinking={"type": "adaptive"})), NEWEST),
        (body(user("a", document("one"), document("two"), POINT)), CLAUDE),
        (body(user("a", document("one", "txt"), "\n", POINT)), CLAUDE),
        (body(user("a", POINT, "b", POINT), system=[text(), HOUR], toolConfig={"tools": [SPEC, HOUR]}), CLAUDE),
        (body(user("hi", image())), CLAUDE),
        (body(user("hi", POINT, image("png")), system=[text()], **tool(strict=True)), UNKNOWN),
        (body(user("hi"), {"role": "system", "content": [text()]}), capabilities("anthropic.claude-opus-4-8")),
        (body(**extra()), CLAUDE),
        (body(inferenceConfig={"temperature": 1, "maxTokens": 4000}, **THINK), CLAUDE),
    ],
)
def test_a_request_by_the_rules_passes(request_body, caps):
    assert converse_fault(request_body, caps) is None


@pytest.mark.parametrize(
    ("messages", "caps", "fault"),
    [
        ([], NOVA, "must start with a user message"),
        ([assistant("hi"), user("you")], NOVA, "must start with a user message"),
        ([user("a"), user("b")], CLAUDE, "must alternate between user and assistant roles"),
        ([user()], CLAUDE, "The content field in the Message object at messages.0 is empty"),
        ([user("a"), {"role": "system", "content": [text()]}], CLAUDE, 'Unexpected role "system"'),
        ([user("a"), assistant("b"), {"role": "system", "content": [text()]}, user("c")],
         capabilities("anthropic.claude-opus-4-8"), "a system message must follow a user message"),
        ([user("a", "")], CLAUDE, "The text field in the ContentBlock object at messages.0.content.1 is blank. Add text"),
        ([user(" ")], NOVA, "ContentBlock object at messages.0.content.0 is blank"),
        ([user("a", "\n", POINT)], CLAUDE, "is blank"),
        ([user("a"), assistant("so ")], CLAUDE, "final assistant content cannot end with trailing whitespace"),
        ([user("a"), assistant("so")], NEWEST, "does not support assistant message prefill"),
        ([user("a", document("a.b"))], CLAUDE, "file name at messages.0.content.1 can only contain"),
        ([user("a", document("a  b"))], CLAUDE, "more than one consecutive whitespace"),
        ([user("a", document("a\u3000b"))], CLAUDE, "can only contain"),
        ([user("a", document(), document())], CLAUDE, "duplicate document file names"),
        ([user(document())], CLAUDE, "Add a text block beside the document"),
        ([user("a", document())], capabilities("amazon.nova-micro-v1:0"), "doesn't support documents"),
        ([user("a", image())], capabilities("amazon.nova-micro-v1:0"), "doesn't support images"),
        ([user("a", image("jpeg"))], CLAUDE, "does not match the provided media type image/jpeg"),
        ([user("a"), assistant(image()), user("b")], CLAUDE, "not allowed in a message of the role assistant"),
        ([user("a"), assistant(thought("sig-x"), "b"), user("c")], CLAUDE,
         "The model returned the following errors: messages.1.content.0: Invalid `signature` in `thinking` block"),
        ([user("a"), assistant("b", thought()), user("c")], CLAUDE, "The final block in an assistant message"),
        ([user("a"), assistant({"reasoningContent": {"redactedContent": "QQ=="}}, "b"), user("c")], NOVA,
         "redactedContent is not supported"),
        ([user("a"), assistant({"reasoningContent": {"redactedContent": "/w=="}}, "b"), user("c")], CLAUDE,
         "Invalid `data` in `redacted_thinking` block"),
    ],
)  # fmt: skip
def test_a_turn_against_the_rules_is_refused(messages, caps, fault):
    assert fault in converse_fault({"messages": messages}, caps)


@pytest.mark.parametrize(
    ("messages", "caps", "fault"),
    [
        ([user("a"), assistant(use("a"), use("b")), user(result("a"))], CLAUDE,
         "Expected toolResult blocks at messages.2.content for the following Ids: b"),
        ([user("a"), assistant(use("a"), use("b")), user(result("a")), assistant("."), user(result("b"))], CLAUDE,
         "Expected toolResult blocks at messages.2.content for the following Ids: b"),
        ([user("a"), assistant(use("a"))], CLAUDE, "Expected toolResult blocks at messages.2.content"),
        ([user(result("a"))], CLAUDE, "at messages.0.content exceeds the number of toolUse blocks of previous turn"),
        ([user("a"), assistant(use()), user(result(), result())], CLAUDE, "exceeds the number of toolUse blocks"),
        ([user("a"), assistant(use(), use()), user(result(), result())], CLAUDE, "contain duplicate Ids: a"),
        ([user("a"), assistant(use(input="x")), user(result())], CLAUDE, "Provide a json object for the field"),
        ([user("a"), assistant(use()), user({"toolResult": {"toolUseId": "a", "content": []}})], CLAUDE,
         "The content field in the ToolResultBlock object at messages.2.content.0 is empty"),
        ([user("a"), assistant(use()), user(result("a", text(" ")))], CLAUDE, "ToolResultContentBlock object at"),
        ([user("a"), assistant(use()), user(result(), "more")], LLAMA, "cannot be provided in the same turn"),
        ([user("a"), assistant(use()), user(result(), "b", document())], CLAUDE, "cannot be provided in the same turn"),
        ([user("a"), assistant(use()), user(result(status="error"))], WRITER, "doesn't support the status field"),
        ([user("a"), assistant(use()), user(result("a", image()))], QWEN, "doesn't support the image"),
    ],
)  # fmt: skip
def test_a_tool_call_and_its_results_belong_together(messages, caps, fault):
    assert fault in converse_fault({"messages": messages, **TOOLS}, caps)


def test_tool_blocks_without_a_tool_config_are_refused():
    fault = "The toolConfig field must be defined when using toolUse and toolResult content blocks."
    assert converse_fault(body(*LOOP), CLAUDE) == fault


@pytest.mark.parametrize(
    ("more", "caps", "fault"),
    [
        ({"toolConfig": {"tools": [SPEC, SPEC]}}, CLAUDE, "Tool names must be unique"),
        (schema(), CLAUDE, "inputSchema.json.type must be one of: object"),
        (schema(type="object", anyOf=[]), CLAUDE, "does not support oneOf, allOf, or anyOf at the top level"),
        (schema(type="object", properties=None), CLAUDE, "properties: Input should be a valid dictionary"),
        (tool(strict=True), NEWEST, "tools.0.custom.strict: Extra inputs are not permitted"),
        (TOOLS, capabilities("deepseek.r1-v1:0"), "doesn't support tool use"),
        ({"toolConfig": {"tools": [SPEC], "toolChoice": {"any": {}}}}, LLAMA, "toolConfig.toolChoice.any"),
        ({"toolConfig": {"tools": [SPEC], "toolChoice": {"tool": {"name": "u"}}}}, CLAUDE, "Tool 'u' not found"),
        ({"toolConfig": {"tools": [SPEC], "toolChoice": {"auto": {}}}, **extra(tool_choice={"type": "none"})}, CLAUDE,
         "tool_choice.type conflicts"),
        ({"toolConfig": {"tools": [SPEC], "toolChoice": {"any": {}}}, **THINK}, CLAUDE, "forces tool use"),
        ({"system": [text(" ")]}, CLAUDE, "SystemContentBlock object at system.0 is blank"),
        ({"system": [text("a")]}, capabilities("amazon.titan-text-express-v1"), "doesn't support system messages"),
        ({"outputConfig": {"textFormat": {"type": "json_schema"}}}, NOVA, "outputConfig.textFormat"),
    ],
)  # fmt: skip
def test_tools_and_system_prompts_have_rules_too(more, caps, fault):
    assert fault in converse_fault(body(**more), caps)


@pytest.mark.parametrize(
    ("request_body", "caps", "fault"),
    [
        (body(user(POINT, "a")), CLAUDE, "messages.0.content.0 has nothing before it"),
        (body(user("a", POINT, POINT)), CLAUDE, "has nothing before it"),
        (body(user("a", document("b", "csv"), POINT)), CLAUDE, "has nothing before it"),
        (body(user("a"), assistant(thought(), POINT, "b"), user("c")), CLAUDE, "has nothing before it"),
        (body(user("a", POINT, "b", POINT, "c", POINT), system=[text(), POINT, text(), POINT]), CLAUDE, "Found 5."),
        (body(user("a", HOUR), system=[text(), POINT]), CLAUDE, "must not come after a ttl='5m'"),
        (body(user("a", HOUR)), capabilities("anthropic.claude-3-7-sonnet-20250219-v1:0"), "cachePoint.ttl"),
        (body(user("a", POINT)), LLAMA, "prompt caching"),
        (body(toolConfig={"tools": [SPEC, POINT]}), NOVA, "prompt caching"),
    ],
)
def test_a_cache_point_stands_behind_what_can_be_cached(request_body, caps, fault):
    assert fault in converse_fault(request_body, caps)


@pytest.mark.parametrize(
    ("config", "fields", "caps", "fault"),
    [
        ({"temperature": 0.5, "topP": 0.5}, {}, CLAUDE, "`temperature` and `top_p` cannot both be specified"),
        ({"temperature": 0.5}, {}, NEWEST, "`temperature` is deprecated for this model"),
        ({}, {"top_k": 5}, NEWEST, "`top_k` is deprecated for this model"),
        ({}, {"thinking": {"type": "enabled", "budget_tokens": 1000}}, CLAUDE, "greater than or equal to 1024"),
        ({}, {"thinking": {"type": "enabled"}}, CLAUDE, "budget_tokens: Field required"),
        ({"maxTokens": 2000}, THINK["additionalModelRequestFields"], CLAUDE, "`max_tokens` must be greater than"),
        ({"temperature": 0.5}, THINK["additionalModelRequestFields"], CLAUDE, "`temperature` may only be set to 1"),
        ({"topP": 0.5}, THINK["additionalModelRequestFields"], CLAUDE, "`top_p` must be greater than or equal to 0.95"),
        ({}, {**THINK["additionalModelRequestFields"], "top_k": 5}, CLAUDE, "`top_k` must be unset"),
        ({}, THINK["additionalModelRequestFields"], NEWEST, '"thinking.type.enabled" is not supported'),
        ({}, {"thinking": {"type": "adaptive"}}, CLAUDE, "adaptive thinking is not supported"),
        ({}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "huge"}}, NEWEST, "output_config.effort"),
        ({}, {"thinking": {"type": "adaptive"}}, NOVA, "thinking: Extra inputs are not permitted"),
        ({}, {"reasoning_effort": "high"}, CLAUDE, "reasoning_effort: Extra inputs are not permitted"),
        ({}, {"frequency_penalty": 1}, CLAUDE, "frequency_penalty: Extra inputs are not permitted"),
        ({}, {"anthropic_beta": ["claude-code-20250219"]}, CLAUDE, "invalid beta flag"),
        ({"maxTokens": 5}, {}, GPT, "max_tokens: Input should be greater than or equal to 16"),
        ({"stopSequences": ["x"]}, {}, GPT, "doesn't support the stopSequences field"),
        ({"stopSequences": [" "]}, {}, CLAUDE, "each stop sequence must contain non-whitespace"),
    ],
)
def test_settings_that_the_model_does_not_take_are_refused(config, fields, caps, fault):
    request = body(inferenceConfig=config, additionalModelRequestFields=fields)
    assert fault in converse_fault(request, caps)


def test_thinking_with_a_budget_wants_the_thinking_before_the_calls_back():
    assert "Expected `thinking` or `redacted_thinking`" in converse_fault(body(*LOOP, **TOOLS, **THINK), CLAUDE)


def test_unsigned_reasoning_comes_back_to_models_that_do_not_sign():
    unsigned = {"reasoningContent": {"reasoningText": {"text": "hm"}}}
    request = body(user("a"), assistant(unsigned, "b"), user("c"))
    assert converse_fault(request, capabilities("deepseek.r1-v1:0")) is None
    assert converse_fault(request, replace(CLAUDE, signed_reasoning=False)) is None
    assert "Invalid `signature`" in converse_fault(request, CLAUDE)
