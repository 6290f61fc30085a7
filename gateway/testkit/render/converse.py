"""Renders a canned reply in the format of Converse: as one body, and as the events of a stream.

The events have the order of recorded traffic.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import orjson

from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.scenarios import Canned

Json = dict[str, Any]


def whole(reply: Canned, prompt_tokens: int) -> Json:
    return {
        "metrics": {"latencyMs": 321},
        "output": {"message": {"content": [_whole(block) for block in _blocks(reply)], "role": "assistant"}},
        "stopReason": reply.stop_reason,
        "usage": usage(reply, prompt_tokens),
    }


def events(reply: Canned, prompt_tokens: int) -> list[tuple[str, Json]]:
    """Return the events of a Converse stream, each as a pair (event type, payload). The last event is `metadata`.

    Only tool calls have the event `contentBlockStart`. Texts and reasoning have none.
    """
    stream: list[tuple[str, Json]] = [("messageStart", {"role": "assistant"})]
    for index, block in enumerate(_blocks(reply)):
        stream += [(kind, {"contentBlockIndex": index, **data}) for kind, data in _block_events(block)]
    stream.append(("messageStop", {"stopReason": reply.stop_reason}))
    stream.append(("metadata", {"metrics": {"latencyMs": 321}, "usage": usage(reply, prompt_tokens)}))
    return stream


def usage(reply: Canned, prompt_tokens: int) -> Json:
    counts = render_anthropic.usage(reply, prompt_tokens)
    read, written = counts["cache_read_input_tokens"], counts["cache_creation_input_tokens"]
    report: Json = {
        "inputTokens": counts["input_tokens"],
        "outputTokens": counts["output_tokens"],
        "totalTokens": counts["input_tokens"] + counts["output_tokens"] + read + written,
        "serverToolUsage": {},
    }
    if read or written:
        report |= {"cacheReadInputTokens": read, "cacheReadInputTokenCount": read}
        report |= {"cacheWriteInputTokens": written, "cacheWriteInputTokenCount": written}
    if written:
        ttls = {"5m": reply.tokens.cache_write_5m, "1h": reply.tokens.cache_write_1h}
        report["cacheDetails"] = [{"ttl": ttl, "inputTokens": count} for ttl, count in ttls.items() if count]
    return report


def _blocks(reply: Canned) -> list[Json]:
    """Return the content blocks of a reply in Converse's form. They are converted from the blocks of the Anthropic
    renderer.
    """
    return [_block(block) for block in render_anthropic.blocks(reply)]


def _block(block: Json) -> Json:
    if block["type"] == "text":
        return {"text": block["text"], "deltas": block["deltas"]}
    if block["type"] == "thinking":
        reasoning = {"text": block["thinking"], "signature": block["signature"]}
        return {"reasoningContent": {"reasoningText": reasoning}}
    if block["type"] == "redacted_thinking":
        # Converse encodes Anthropic's base64 text in base64 once more (recorded traffic)
        return {"reasoningContent": {"redactedContent": base64.b64encode(block["data"].encode()).decode()}}
    tool = {"toolUseId": f"tooluse_{uuid4().hex[:22]}", "name": block["name"], "input": block["input"]}
    return {"toolUse": tool, "silent": block["silent"]}


def _whole(block: Json) -> Json:
    return {name: value for name, value in block.items() if name not in {"deltas", "silent"}}


def _block_events(block: Json) -> Iterator[tuple[str, Json]]:
    deltas: list[Json] = []
    if "text" in block:
        deltas = [{"text": part} for part in block["deltas"]]
    elif "toolUse" in block:
        tool = block["toolUse"]
        yield "contentBlockStart", {"start": {"toolUse": {"toolUseId": tool["toolUseId"], "name": tool["name"]}}}
        if not block["silent"]:
            parts = render_anthropic.halves(orjson.dumps(tool["input"]).decode())
            deltas = [{"toolUse": {"input": part}} for part in parts]
    elif "redactedContent" in block["reasoningContent"]:
        deltas = [{"reasoningContent": block["reasoningContent"]}]
    else:
        reasoning = block["reasoningContent"]["reasoningText"]
        deltas = [{"reasoningContent": {"text": part}} for part in render_anthropic.halves(reasoning["text"])]
        deltas.append({"reasoningContent": {"signature": reasoning["signature"]}})
    for delta in deltas:
        yield "contentBlockDelta", {"delta": delta}
    yield "contentBlockStop", {}
