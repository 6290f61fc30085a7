"""Tests of Anthropic's rules for requests, on its own API and on Bedrock. Claude Code's requests are accepted, and
usual mistakes are refused.
"""

import pytest

from gateway.contract.capabilities import capabilities
from gateway.testkit.rules.claude import claude_fault
from gateway.testkit.rules.common import SIGNATURE

CLAUDE = capabilities("anthropic.claude-sonnet-4-5-20250929-v1:0")
CODE = capabilities("us.anthropic.claude-opus-4-6-v1")
NEWEST = capabilities("anthropic.claude-opus-4-8")
OLD = capabilities("anthropic.claude-sonnet-4-20250514-v1:0")
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
TOOL = {"name": "t", "input_schema": {"type": "object"}}
THINK = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}


def text(words="hello", **more):
    return {"type": "text", "text": words, **more}


def user(*blocks):
    return {"role": "user", "content": [text(block) if isinstance(block, str) else block for block in blocks]}


def assistant(*blocks):
    return {**user(*blocks), "role": "assistant"}


def use(made="a", **more):
    return {"type": "tool_use", "id": made, "name": "t", "input": {}, **more}


def result(made="a", **more):
    return {"type": "tool_result", "tool_use_id": made, "content": "42", **more}


def thought(signature=SIGNATURE + "1"):
    return {"type": "thinking", "thinking": "hm", "signature": signature}


def image(**source):
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG, **source}}


def body(*messages, **more):
    first = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100}
    return {**first, "messages": list(messages or [user("hello")]), **more}


def native(*messages, **more):
    return {"model": "claude-x", "max_tokens": 100, "messages": list(messages or [user("hello")]), **more}


LOOP = (user("hi"), assistant(use()), user(result()))


def test_a_request_of_claude_code_passes_on_bedrock():
    request = body(
        {"role": "user", "content": [text("<system-reminder>"), text("hi", **MARK)]},
        assistant(thought(), use("a", caller={"type": "direct"}), use("b")),
        user(result("b", is_error=True), result("a", content=[text(), image(), {"type": "tool_reference", "x": 1}])),
        user("and"),
        max_tokens=32000,
        thinking={"type": "adaptive", "display": "summarized"},
        output_config={"effort": "high"},
        anthropic_beta=["interleaved-thinking-2025-05-14", "tool-search-tool-2025-10-19"],
        metadata={"user_id": "{}"},
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
        system=[text("You are", **MARK), text("Claude", **HOUR | MARK)],
        tools=[
            {**TOOL, "description": "d", "defer_loading": True, "eager_input_streaming": True, "type": "custom"},
            {**TOOL, "name": "mcp__a__b", "input_examples": [{}], "strict": True},
            {"type": "tool_search_tool_regex_20251119", "name": "tool_search"},
            {"type": "computer_20250124", "name": "computer", "display_width_px": 1},
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
            {"type": "memory_20250818", "name": "memory"},
        ],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
    )
    assert claude_fault(request, CODE, bedrock=True) is None


def test_a_request_of_claude_code_passes_at_anthropic():
    request = native(
        stream=True,
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        system=[text("You are", cache_control={"type": "ephemeral", "scope": "global", "ttl": "1h"})],
        tools=[{"type": "web_search_20250305", "name": "web_search"}],
        thinking={"type": "enabled", "budget_tokens": 31999},
        max_tokens=32000,
        service_tier="auto",
    )
    assert claude_fault(request, capabilities("claude-sonnet-4-5"), bedrock=False) is None


@pytest.mark.parametrize(
    "request_body",
    [
        body({"role": "user", "content": "hi"}, {"role": "user", "content": "you"}),
        body(user("a"), assistant("so")),
        body(user("a"), {"role": "assistant", "content": ""}),
        body(*LOOP, tools=[TOOL]),
        body(user("a"), assistant(thought(), use()), user(result()), tools=[TOOL], **THINK),
        body(user("a"), assistant(thought(), "b", use()), user(result()), user("c")),
        body(
            user(
                "a", image(), {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "b"}}
            )
        ),
        body(system="be brief", stop_sequences=["x"], temperature=0.5, top_k=5),
        body(thinking={"type": "enabled", "budget_tokens": 9000}, anthropic_beta=["interleaved-thinking-2025-05-14"]),
    ],
)
def test_a_request_by_the_rules_passes(request_body):
    assert claude_fault(request_body, CLAUDE, bedrock=True) is None


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"model": "m"}, "model: Extra inputs are not permitted"),
        ({"stream": True}, "stream: Extra inputs are not permitted"),
        ({"mcp_servers": []}, "mcp_servers: Extra inputs are not permitted"),
        ({"anthropic_version": "2026-10-21"}, "anthropic_version: Input should be 'bedrock-2023-05-31'"),
        ({"anthropic_beta": ["prompt-caching-scope-2026-01-05"]}, "invalid beta flag"),
        ({"anthropic_beta": "effort-2025-11-24"}, "anthropic_beta: Input should be a valid list"),
        ({"system": [text(cache_control={"type": "ephemeral", "scope": "global"})]},
         "system.0.cache_control.ephemeral.scope: Extra inputs are not permitted"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "Input tag 'web_search_20250305' found"),
        ({"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}, "Input tag 'clear_thinking_20251015'"),
        ({"messages": [user(image(type="url", url="https://a.example/b.png"))]}, "Input tag 'url' found"),
        ({"messages": [user("a"), assistant({"type": "web_search_tool_result"}), user("b")]}, "web_search_tool_result"),
    ],
)  # fmt: skip
def test_what_only_anthropics_own_api_takes_is_refused_on_bedrock(more, fault):
    assert fault in claude_fault(body(**more), CLAUDE, bedrock=True)


@pytest.mark.parametrize(
    ("request_body", "fault"),
    [
        (body(), "model: Field required"),
        (native(anthropic_version="2023-06-01"), "anthropic_version: Extra inputs are not permitted"),
        (native(anthropic_beta=[]), "anthropic_beta: Extra inputs are not permitted"),
        (native(surprise=1), "surprise: Extra inputs are not permitted"),
    ],
)
def test_what_only_bedrock_takes_is_refused_at_anthropic(request_body, fault):
    assert claude_fault(request_body, CLAUDE, bedrock=False) == fault


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": "5"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
        ({"stop_sequences": [" "]}, "each stop sequence must contain non-whitespace"),
        ({"metadata": {"session": "x"}}, "metadata.session: Extra inputs are not permitted"),
        ({"temperature": 0.5, "top_p": 0.5}, "cannot both be specified"),
        ({"temperature": 1.5}, "temperature: range: 0..1"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "`max_tokens` must be greater than"),
        ({**THINK, "temperature": 0.5}, "`temperature` may only be set to 1"),
        ({**THINK, "tools": [TOOL], "tool_choice": {"type": "any"}}, "forces tool use"),
        ({"thinking": {"type": "adaptive"}}, "adaptive thinking is not supported"),
        ({"thinking": {"type": "disabled", "other": 1}}, "thinking.disabled.other: Extra inputs"),
        ({"system": [text(" ")]}, "system: text content blocks must contain non-whitespace text"),
        ({"system": [image()]}, "system.0.text: Field required"),
        ({"tool_choice": {"type": "auto"}}, "only be specified while providing tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "required"}}, "Input tag 'required' found"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "u"}}, "Tool 'u' not found"),
        ({"tools": [TOOL], "tool_choice": "auto"}, "tool_choice: Input should be a valid dictionary"),
        ({"tools": [TOOL, TOOL]}, "Tool names must be unique"),
        ({"tools": [{**TOOL, "name": "a.b"}]}, "tools.0.custom.name: String should match pattern"),
        ({"tools": [{**TOOL, "custom": {}}]}, "tools.0.custom.custom: Extra inputs are not permitted"),
        ({"tools": [{"name": "t", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
        ({"tools": [{"name": "t", "input_schema": {"type": "custom"}}]}, "Input should be 'object'"),
        ({"tools": [{"type": "function", "function": {"name": "t"}}]}, "Input tag 'function' found"),
    ],
)
def test_a_wrong_setting_is_refused(more, fault):
    assert fault in claude_fault(body(**more), CLAUDE, bedrock=True)


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "at least one message is required"),
        ([assistant("hi"), user("you")], 'first message must use the "user" role'),
        ([{"role": "tool", "content": "a"}], "messages.0.role: Input should be 'user' or 'assistant'"),
        ([{"role": "user", "content": "a", "name": "x"}], "messages.0.name: Extra inputs are not permitted"),
        ([{"role": "user", "content": {}}], "messages.0.content: Input should be a valid string"),
        ([user("a"), {"role": "system", "content": "b"}], 'Unexpected role "system"'),
        ([{"role": "user", "content": ""}], "messages.0: all messages must have non-empty content"),
        ([user()], "messages.0: all messages must have non-empty content"),
        ([user("")], "text content blocks must be non-empty"),
        ([user(" ")], "text content blocks must contain non-whitespace text"),
        ([user({"text": "a"})], "messages.0.content.0: Input tag '' found"),
        ([user({"type": "image_url", "image_url": {}})], "Input tag 'image_url' found"),
        ([user({**text(), "index": 0})], "messages.0.content.0.text.index: Extra inputs are not permitted"),
        ([user(image(media_type="image/svg+xml"))], "media_type: Input should be 'image/jpeg'"),
        ([user(image(media_type="image/jpeg"))], "does not match the provided media type image/jpeg"),
        ([user(image(data="no!"))], "Input should be a valid base64 string"),
        ([user(use())], "`tool_use` blocks can only be in `assistant` messages"),
        ([user("a"), assistant(use(input="")), user(result())], "tool_use.input: Input should be a valid dictionary"),
        ([user("a"), assistant("so ")], "cannot end with trailing whitespace"),
        ([user("a"), assistant({"type": "thinking", "thinking": "hm"}, "b"), user("c")],
         "messages.1.content.0.thinking.signature: Field required"),
        ([user("a"), assistant(thought("other"), "b"), user("c")],
         "messages.1.content.0: Invalid `signature` in `thinking` block"),
        ([user("a"), assistant("b", thought(), use()), user(result())], "Expected `thinking` or `redacted_thinking`"),
        ([user("a"), assistant(thought()), user("b")], "The final block in an assistant message cannot be `thinking`"),
        ([user("a"), assistant({"type": "redacted_thinking", "data": "%"}, "b"), user("c")], "Invalid `data`"),
        ([user("a"), assistant({**thought(), **MARK}, "b"), user("c")], "thinking.cache_control: Extra inputs"),
    ],
)  # fmt: skip
def test_a_message_against_the_rules_is_refused(messages, fault):
    assert fault in claude_fault({**body(), "messages": messages}, CLAUDE, bedrock=True)


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([user("a"), assistant(use("a"), use("b")), user(result("a"))],
         "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: b."),
        ([user("a"), assistant(use())], "messages.1: `tool_use` ids were found without"),
        ([user("a"), assistant(use()), user("b", result())], "immediately after: a."),
        ([user(result())], "unexpected `tool_use_id` found in `tool_result` blocks: a."),
        ([user("a"), assistant(use()), user(result(), result())], "each tool_use must have a single result"),
        ([user("a"), assistant(use(), use()), user(result())], "`tool_use` ids must be unique"),
        ([user("a"), assistant(use()), user(result(content=[], is_error=True))], "content cannot be empty if `is_error`"),
        ([user("a"), assistant(use()), user(result(content=[text("")]))], "text content blocks must be non-empty"),
        ([user("a"), assistant(use()), user(result(content=[use()]))], "Input tag 'tool_use' found"),
    ],
)  # fmt: skip
def test_a_tool_call_and_its_results_belong_together(messages, fault):
    assert fault in claude_fault(body(*messages, tools=[TOOL]), CLAUDE, bedrock=True)


def test_results_in_consecutive_messages_are_one_turn():
    messages = [user("a"), assistant(use("a"), use("b")), user(result("a")), user(result("b"))]
    assert claude_fault(body(*messages, tools=[TOOL]), CLAUDE, bedrock=True) is None


def test_a_budget_demands_earlier_thinking_unless_interleaved():
    """Check that a request with a thinking budget is refused if a tool call in its history has no thinking before it.

    With the beta for interleaved thinking, the request is accepted.
    """
    request = body(user("a"), assistant(use()), user(result()), tools=[TOOL], **THINK)
    assert "Expected `thinking` or `redacted_thinking`" in claude_fault(request, CLAUDE, bedrock=True)
    interleaved = {**request, "anthropic_beta": ["interleaved-thinking-2025-05-14"]}
    assert claude_fault(interleaved, CLAUDE, bedrock=True) is None


def test_there_are_four_cache_marks_at_most_wherever_they_stand():
    marked = body(user(text("a", **MARK), text("b", **MARK)), system=[text(**MARK)], tools=[{**TOOL, **MARK}])
    assert claude_fault(marked, CLAUDE, bedrock=True) is None
    five = {**marked, "messages": [*marked["messages"], user(text("c", **MARK))]}
    assert "A maximum of 4 blocks" in claude_fault(five, CLAUDE, bedrock=True)


def test_a_longer_lifetime_does_not_come_behind_a_shorter_one():
    request = body(user(text("a", **HOUR)), system=[text(**MARK)])
    assert "must not come after a ttl='5m'" in claude_fault(request, CLAUDE, bedrock=True)


@pytest.mark.parametrize(
    ("more", "caps", "fault"),
    [
        ({"messages": [user("a"), assistant("so")]}, CODE, "does not support assistant message prefill"),
        ({"temperature": 0.5}, NEWEST, "`temperature` is deprecated for this model"),
        ({**THINK}, NEWEST, '"thinking.type.enabled" is not supported'),
        ({"output_config": {"effort": "xhigh"}}, CODE, "output_config.effort: Input should be 'low', 'medium'"),
        ({"output_config": {"format": {"type": "json_schema"}}}, OLD, "output_config.format: Extra inputs"),
        ({"output_format": {"type": "json_schema"}}, OLD, "output_format: Extra inputs"),
        ({"system": [text(**HOUR)]}, OLD, "cache_control.ephemeral.ttl: Extra inputs are not permitted"),
    ],
)
def test_what_a_model_does_not_take_is_refused(more, caps, fault):
    assert fault in claude_fault(body(**more), caps, bedrock=True)


def test_a_system_message_between_turns_passes_where_the_model_takes_it():
    request = body(user("a"), {"role": "system", "content": "b"})
    assert claude_fault(request, NEWEST, bedrock=True) is None


@pytest.mark.parametrize("wrong", [[], None, "text"])
def test_a_body_that_is_no_object_is_refused(wrong):
    assert claude_fault(wrong, CLAUDE, bedrock=True) == "body: Input should be a valid dictionary"


@pytest.mark.parametrize(("top_p", "refused"), [(0.949, True), (0.95, False), (1, False)])
def test_beside_thinking_top_p_begins_at_095(top_p, refused):
    fault = claude_fault(native(**{**THINK, "top_p": top_p}), CLAUDE, bedrock=False) or ""
    assert ("`top_p` must be greater than or equal to 0.95" in fault) is refused
    assert refused or not fault
