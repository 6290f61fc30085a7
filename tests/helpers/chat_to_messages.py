"""Requests for tests of the translation from Chat to Messages, and a check of the translated requests.

The check uses the types of Anthropic's SDK, which are TypedDicts: Pydantic checks the values, and the annotations give
the allowed fields.
"""

from __future__ import annotations

from functools import cache
from typing import Any, get_type_hints

from anthropic import types
from pydantic import TypeAdapter

from gateway.contract.flag import Caps
from tests.helpers.translation import Translator

CLAUDE = Caps(
    family="claude", max_output=32_000, sampling="one", reasoning="budget", signed_reasoning=True,
    portable_signatures="claude", redacted_reasoning=True, cache_points=True, tool_cache_points=True, cache_ttl=True,
)  # fmt: skip

HISTORY = [
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "a", "content": "ok"},
]

_BLOCKS = {
    "text": types.TextBlockParam,
    "image": types.ImageBlockParam,
    "document": types.DocumentBlockParam,
    "thinking": types.ThinkingBlockParam,
    "redacted_thinking": types.RedactedThinkingBlockParam,
    "tool_use": types.ToolUseBlockParam,
    "tool_result": types.ToolResultBlockParam,
}
_CHOICES = {
    "auto": types.ToolChoiceAutoParam,
    "any": types.ToolChoiceAnyParam,
    "tool": types.ToolChoiceToolParam,
    "none": types.ToolChoiceNoneParam,
}
_THINKING = {
    "enabled": types.ThinkingConfigEnabledParam,
    "adaptive": types.ThinkingConfigAdaptiveParam,
    "disabled": types.ThinkingConfigDisabledParam,
}
_MEMBERS = {
    "model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "stop_sequences",
    "temperature", "top_p", "top_k", "stream", "service_tier",
}  # fmt: skip


def judge(body: dict[str, Any], caps: Caps = CLAUDE, *, stream: bool = False) -> None:
    """Check a request against the types of Anthropic's SDK, and check the order of its messages (`judge_turns`)."""
    assert body.keys() <= _MEMBERS
    assert body["max_tokens"] >= 1
    for block in body.get("system", []):
        _valid(types.TextBlockParam, block)
    for tool in body.get("tools", []):
        _valid(types.ToolParam, tool)
        assert tool["input_schema"]["type"] == "object"
    if "tool_choice" in body:
        assert body["tools"]
        _valid(_CHOICES[body["tool_choice"]["type"]], body["tool_choice"])
    if "thinking" in body:
        _valid(_THINKING[body["thinking"]["type"]], body["thinking"])
        assert 1024 <= body["thinking"].get("budget_tokens", 1024) < max(body["max_tokens"], 1025)
    if "output_config" in body:
        _valid(types.OutputConfigParam, body["output_config"])
    judge_turns(body["messages"])


def judge_turns(messages: list[dict[str, Any]]) -> None:
    """Check that roles alternate, the user is first, tool results directly follow their calls, and no text is blank."""
    assert messages[0]["role"] == "user"
    ids: list[str] = []
    waiting: list[str] = []
    before = "assistant"
    for message in messages:
        role, content = message["role"], message["content"]
        assert content
        assert (before, role) in {
            ("assistant", "user"), ("user", "assistant"), ("user", "system"), ("system", "assistant"),
        }  # fmt: skip
        before = role
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        if role == "user":
            assert sorted(results) == sorted(waiting)
            assert [block["type"] for block in content[: len(results)]] == ["tool_result"] * len(results)
        else:
            assert not results
        waiting = [block["id"] for block in content if block["type"] == "tool_use"] if role == "assistant" else []
        if role == "assistant":
            assert content[-1]["type"] not in {"thinking", "redacted_thinking"}
        ids += waiting
        for block in content:
            _judge_block(block)
    assert not waiting
    assert len(set(ids)) == len(ids)


def _judge_block(block: dict[str, Any]) -> None:
    _valid(_BLOCKS[block["type"]], block)
    if block["type"] == "text":
        assert block["text"].strip()
    if block["type"] == "tool_result":
        assert block["content"]
        for inner in block["content"]:
            _judge_block(inner)


def _valid(kind: Any, value: dict[str, Any]) -> None:
    assert value.keys() <= get_type_hints(kind).keys()
    _adapter(kind).validate_python(value)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


TRANSLATOR = Translator(
    "openai_chat",
    "anthropic_messages",
    {"model": "claude", "messages": [{"role": "user", "content": "Hi"}]},
    CLAUDE,
    unnamed_model="anthropic.claude-x",
    flag="bedrock_model_invoke",
    checks=judge,
)
ask, target = TRANSLATOR.request, TRANSLATOR.target
opened, sent, dropped, refusal = TRANSLATOR.open, TRANSLATOR.sent, TRANSLATOR.dropped, TRANSLATOR.refusal
