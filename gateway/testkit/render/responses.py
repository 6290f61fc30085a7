"""Renders a canned reply in the format of OpenAI's Responses API: the whole response, and the events of its stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import orjson

from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.render import chat as render_chat
from gateway.testkit.rules.responses import ENCRYPTED
from gateway.testkit.scenarios import Canned

Json = dict[str, Any]

_INCOMPLETE: Final = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}


def response(reply: Canned, model: str, prompt_tokens: int) -> Json:
    reason = _INCOMPLETE.get(reply.stop_reason)
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": 1700000000,
        "status": "incomplete" if reason else "completed",
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": list(_items(reply)),
        "parallel_tool_calls": True,
        "service_tier": "default",
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": _usage(reply, prompt_tokens),
    }


def events(reply: Canned, model: str, prompt_tokens: int) -> list[Json]:
    whole = response(reply, model, prompt_tokens)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    stream: list[Json] = [{"type": f"response.{name}", "response": begun} for name in ("created", "in_progress")]
    for index, item in enumerate(whole["output"]):
        stream.append({"type": "response.output_item.added", "output_index": index, "item": _empty(item)})
        stream += [{**event, "output_index": index, "item_id": item["id"]} for event in _item_events(item, reply)]
        stream.append({"type": "response.output_item.done", "output_index": index, "item": item})
    stream.append({"type": f"response.{whole['status']}", "response": whole})
    return [{**event, "sequence_number": number} for number, event in enumerate(stream)]


def failure(message: str, number: int) -> list[Json]:
    """Return the last two events of a failed stream: the error, and then the failed response.

    `number` is the sequence number of the first event.
    """
    error: Json = {
        "type": "error",
        "code": "server_error",
        "message": message,
        "param": None,
        "sequence_number": number,
    }
    failed: Json = {"id": f"resp_{uuid4().hex}", "object": "response", "status": "failed", "output": []}
    failed |= {"error": {"code": "server_error", "message": message}}
    return [error, {"type": "response.failed", "response": failed, "sequence_number": number + 1}]


def _items(reply: Canned) -> Iterator[Json]:
    if reply.thinking or reply.redacted:
        summary = [{"type": "summary_text", "text": reply.thinking}] if reply.thinking else []
        encrypted = f"{ENCRYPTED}{len(reply.thinking)}"
        yield {"id": f"rs_{uuid4().hex}", "type": "reasoning", "summary": summary, "encrypted_content": encrypted}
    if reply.text:
        part = {"type": "output_text", "text": reply.whole_text, "annotations": [], "logprobs": []}
        made = {"id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "status": "completed"}
        yield {**made, "content": [part]}
    for number, tool in enumerate(reply.tools):
        yield {
            "id": f"fc_{uuid4().hex}",
            "type": "function_call",
            "status": "completed",
            "call_id": tool.id or f"call_{number}{uuid4().hex[:20]}",
            "name": tool.name,
            "arguments": orjson.dumps(dict(tool.arguments or {})).decode(),
        }


def _empty(item: Json) -> Json:
    """Return an output item without its content, as the event `response.output_item.added` has it."""
    blank = {"content": [], "summary": [], "arguments": "", "status": "in_progress"}
    return {name: blank.get(name, value) for name, value in item.items() if name != "encrypted_content"}


def _item_events(item: Json, reply: Canned) -> Iterator[Json]:
    if item["type"] == "message":
        part: Json = item["content"][0]
        at: Json = {"content_index": 0}
        yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
        for delta in reply.text:
            yield {"type": "response.output_text.delta", **at, "delta": delta, "logprobs": []}
        yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **at, "part": part}
    elif item["type"] == "function_call":
        name = "response.function_call_arguments"
        for delta in render_anthropic.halves(item["arguments"]):
            yield {"type": f"{name}.delta", "delta": delta}
        yield {"type": f"{name}.done", "arguments": item["arguments"], "name": item["name"]}
    for index, part in enumerate(item.get("summary", ())):
        at = {"summary_index": index}
        yield {"type": "response.reasoning_summary_part.added", **at, "part": {**part, "text": ""}}
        for delta in render_anthropic.halves(part["text"]):
            yield {"type": "response.reasoning_summary_text.delta", **at, "delta": delta}
        yield {"type": "response.reasoning_summary_text.done", **at, "text": part["text"]}
        yield {"type": "response.reasoning_summary_part.done", **at, "part": part}


def _usage(reply: Canned, prompt_tokens: int) -> Json:
    counts = render_chat.usage(reply, prompt_tokens)
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": counts["prompt_tokens_details"]["cached_tokens"],
            "cache_write_tokens": 0,
        },
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts["total_tokens"],
    }
