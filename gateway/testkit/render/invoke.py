"""Renders a canned reply in the format of InvokeModel, which depends on the family of the model.

Claude replies in Anthropic's dialect. Two other formats are simulated: Nova replies with an object `usage`, and Llama
with token counts beside the text.
"""

from __future__ import annotations

from typing import Any

from gateway.contract.capabilities import Caps
from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.render import converse as render_converse
from gateway.testkit.scenarios import Canned

Json = dict[str, Any]


def whole(caps: Caps, model: str, reply: Canned, prompt_tokens: int) -> Json:
    if _is_claude(caps):
        return render_anthropic.message(reply, _own_name(model), prompt_tokens)
    usage = render_anthropic.usage(reply, prompt_tokens)
    if _is_nova(caps):
        return {
            "output": {"message": {"role": "assistant", "content": [{"text": reply.whole_text}]}},
            "stopReason": reply.stop_reason,
            "usage": {
                "inputTokens": usage["input_tokens"],
                "outputTokens": usage["output_tokens"],
                "totalTokens": usage["input_tokens"] + usage["output_tokens"],
                "cacheReadInputTokenCount": usage["cache_read_input_tokens"],
                "cacheWriteInputTokenCount": usage["cache_creation_input_tokens"],
            },
        }
    return {
        "generation": reply.whole_text,
        "prompt_token_count": usage["input_tokens"],
        "generation_token_count": usage["output_tokens"],
        "stop_reason": "stop",
    }


def events(caps: Caps, model: str, reply: Canned, prompt_tokens: int) -> list[Json]:
    """Return the payloads of a stream's chunks. The last one also has Bedrock's metrics of the call."""
    if _is_claude(caps):
        payloads = render_anthropic.events(reply, _own_name(model), prompt_tokens)
    elif _is_nova(caps):
        payloads = [{kind: data} for kind, data in render_converse.events(reply, prompt_tokens)]
    else:
        payloads = [{"generation": part, "stop_reason": None} for part in reply.text]
        payloads.append({"generation": "", "stop_reason": "stop"})
    metrics = _metrics(render_anthropic.usage(reply, prompt_tokens))
    return [*payloads[:-1], {**payloads[-1], "amazon-bedrock-invocationMetrics": metrics}]


def headers(reply: Canned, prompt_tokens: int) -> dict[str, str]:
    """Return the token counts and the latency as headers of a reply that is not streamed."""
    usage = render_anthropic.usage(reply, prompt_tokens)
    return {
        "x-amzn-bedrock-input-token-count": str(usage["input_tokens"]),
        "x-amzn-bedrock-output-token-count": str(usage["output_tokens"]),
        "x-amzn-bedrock-cache-read-input-token-count": str(usage["cache_read_input_tokens"]),
        "x-amzn-bedrock-cache-write-input-token-count": str(usage["cache_creation_input_tokens"]),
        "x-amzn-bedrock-invocation-latency": "321",
    }


def _is_claude(caps: Caps) -> bool:
    return caps.native_dialect == "anthropic_messages"


def _is_nova(caps: Caps) -> bool:
    return caps.family == "nova"


def _own_name(model: str) -> str:
    """Return the model's name in Claude's replies: `claude-...`, without Bedrock's prefixes and version."""
    return model.rpartition("anthropic.")[2].partition("-v1")[0]


def _metrics(usage: Json) -> dict[str, int]:
    metrics = {
        "inputTokenCount": usage["input_tokens"],
        "outputTokenCount": usage["output_tokens"],
        "invocationLatency": 321,
        "firstByteLatency": 123,
    }
    if usage["cache_read_input_tokens"] or usage["cache_creation_input_tokens"]:
        metrics["cacheReadInputTokenCount"] = usage["cache_read_input_tokens"]
        metrics["cacheWriteInputTokenCount"] = usage["cache_creation_input_tokens"]
    return metrics
