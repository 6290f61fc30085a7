"""Renders a canned reply in the format of OpenAI's Chat Completions: as one body, and as the chunks of a stream."""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

import orjson

from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.scenarios import Canned

Json = dict[str, Any]

_FINISH: Final = {"end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "stop_sequence": "stop"}


def completion(reply: Canned, model: str, prompt_tokens: int) -> Json:
    message: Json = {"role": "assistant", "content": reply.whole_text or None, "refusal": None}
    if reply.tools:
        message["tool_calls"] = _calls(reply)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
    return {**_head("chat.completion", model), "choices": [choice], "usage": usage(reply, prompt_tokens)}


def chunks(reply: Canned, model: str, prompt_tokens: int, *, include_usage: bool) -> list[Json]:
    head = _head("chat.completion.chunk", model)
    deltas: list[Json] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": part} for part in reply.text]
    for index, call in enumerate(_calls(reply)):
        function = call["function"]
        start = {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
        deltas.append({"tool_calls": [start]})
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": part}}]}
            for part in render_anthropic.halves(function["arguments"])
        ]
    stream: list[Json] = [{**head, "choices": [_choice(delta, None)]} for delta in deltas]
    stream.append({**head, "choices": [_choice({}, _finish(reply))]})
    if include_usage:
        stream = [{**chunk, "usage": None} for chunk in stream]
        stream.append({**head, "choices": [], "usage": usage(reply, prompt_tokens)})
    return stream


def usage(reply: Canned, prompt_tokens: int) -> Json:
    """Return the usage of a reply. As at OpenAI, the count of prompt tokens includes cached tokens."""
    counts = render_anthropic.usage(reply, prompt_tokens)
    read = counts["cache_read_input_tokens"]
    prompt = counts["input_tokens"] + read + counts["cache_creation_input_tokens"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": counts["output_tokens"],
        "total_tokens": prompt + counts["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _head(kind: str, model: str) -> Json:
    return {"id": f"chatcmpl-{uuid4().hex[:24]}", "object": kind, "created": 1700000000, "model": model}


def _choice(delta: Json, finish: str | None) -> Json:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _finish(reply: Canned) -> str:
    return _FINISH.get(reply.stop_reason, "stop")


def _calls(reply: Canned) -> list[Json]:
    return [
        {
            "id": tool.id or f"call_{number}{uuid4().hex[:20]}",
            "type": "function",
            "function": {"name": tool.name, "arguments": orjson.dumps(dict(tool.arguments or {})).decode()},
        }
        for number, tool in enumerate(reply.tools)
    ]
