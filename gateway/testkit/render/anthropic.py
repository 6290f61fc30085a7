"""Renders a canned reply in Anthropic's dialect: the whole message, and the events of its stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import orjson

from gateway.testkit.prompts import tokens
from gateway.testkit.scenarios import SIGNATURE, Canned, Tool

Json = dict[str, Any]


def message(reply: Canned, model: str, prompt_tokens: int) -> Json:
    return {
        "id": f"msg_bdrk_{uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [_whole(block) for block in blocks(reply)],
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "usage": usage(reply, prompt_tokens),
    }


def events(reply: Canned, model: str, prompt_tokens: int) -> list[Json]:
    full = message(reply, model, prompt_tokens)
    start = {**full, "content": [], "stop_reason": None, "usage": {**full["usage"], "output_tokens": 1}}
    stream: list[Json] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(blocks(reply)):
        stream += [{**event, "index": index} for event in _block_events(block)]
    delta = {"stop_reason": reply.stop_reason, "stop_sequence": None}
    # in this event Bedrock repeats only the count of output tokens (new-api#2881); a gateway adds the other counts
    stream.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": full["usage"]["output_tokens"]}})
    stream.append({"type": "message_stop"})
    return stream


def usage(reply: Canned, prompt_tokens: int) -> Json:
    given = reply.tokens
    written = given.cache_write_5m + given.cache_write_1h
    spoken = reply.whole_text + reply.thinking + "".join(str(tool.arguments) for tool in reply.tools)
    report: Json = {
        "input_tokens": prompt_tokens if given.input is None else given.input,
        "output_tokens": tokens(spoken) if given.output is None else given.output,
        "cache_read_input_tokens": given.cache_read,
        "cache_creation_input_tokens": written,
    }
    if written:
        report["cache_creation"] = {
            "ephemeral_5m_input_tokens": given.cache_write_5m,
            "ephemeral_1h_input_tokens": given.cache_write_1h,
        }
    return report


def blocks(reply: Canned) -> list[Json]:
    """Return the content blocks of a reply.

    The renderers of streams need two further keys, which are not sent: `deltas` in a text block, and `silent` in a tool
    call.
    """
    content: list[Json] = []
    if reply.thinking:
        content.append(
            {"type": "thinking", "thinking": reply.thinking, "signature": f"{SIGNATURE}{len(reply.thinking)}"}
        )
    if reply.redacted:
        content.append({"type": "redacted_thinking", "data": reply.redacted})
    if reply.text:
        content.append({"type": "text", "text": reply.whole_text, "deltas": reply.text})
    for number, tool in enumerate(reply.tools):
        content.append(_tool(tool, number))
    return content


def _tool(tool: Tool, number: int) -> Json:
    return {
        "type": "tool_use",
        "id": tool.id or f"toolu_bdrk_{number}{uuid4().hex[:22]}",
        "name": tool.name,
        "input": dict(tool.arguments or {}),
        "silent": tool.arguments is None,
    }


_FOR_STREAMS = {"deltas", "silent"}


def _whole(block: Json) -> Json:
    return {name: value for name, value in block.items() if name not in _FOR_STREAMS}


def _block_events(block: Json) -> Iterator[Json]:
    start = _whole(block)
    deltas: list[Json] = []
    if block["type"] == "text":
        start |= {"text": ""}
        deltas = [{"type": "text_delta", "text": part} for part in block["deltas"]]
    elif block["type"] == "thinking":
        start |= {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": part} for part in halves(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif block["type"] == "tool_use":
        start |= {"input": {}}
        if not block["silent"]:
            parts = halves(orjson.dumps(block["input"]).decode())
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", *parts)]
    yield {"type": "content_block_start", "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "delta": delta}
    yield {"type": "content_block_stop"}


def halves(text: str) -> tuple[str, str]:
    """Divide a text into two halves. A simulated stream sends each half as one delta."""
    middle = len(text) // 2
    return text[:middle], text[middle:]
