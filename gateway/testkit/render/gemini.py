"""Renders a canned reply in the format of Gemini's generateContent: as one body, and as the chunks of a stream.

Each chunk reports the tokens so far. The last chunk has the finish reason and an empty text, as at Google.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from gateway.testkit.render import anthropic as render_anthropic
from gateway.testkit.scenarios import Canned

Json = dict[str, Any]

_FINISH: Final = {"max_tokens": "MAX_TOKENS"}
"""Gemini's finish reason for each stop reason of a canned reply. A stop reason that is not a key here, such as
`tool_use`, becomes `STOP`."""


def response(reply: Canned, model: str, prompt_tokens: int) -> Json:
    texts = {"text": reply.whole_text} if reply.text else None
    parts = [*_thoughts(reply), *([texts] if texts else []), *_calls(reply)]
    return {
        "candidates": [_candidate(parts, _finish(reply))],
        "usageMetadata": usage(reply, prompt_tokens),
        **_head(model, uuid4().hex[:22]),
    }


def chunks(reply: Canned, model: str, prompt_tokens: int) -> list[Json]:
    head = _head(model, uuid4().hex[:22])
    counts = usage(reply, prompt_tokens)
    begun = {"promptTokenCount": counts["promptTokenCount"], "totalTokenCount": counts["promptTokenCount"]}
    parts = [*_thoughts(reply), *({"text": part} for part in reply.text), *_calls(reply)]
    stream = [{"candidates": [_candidate([part])], "usageMetadata": begun, **head} for part in parts]
    last = _candidate([{"text": ""}], _finish(reply))
    return [*stream, {"candidates": [last], "usageMetadata": counts, **head}]


def usage(reply: Canned, prompt_tokens: int) -> Json:
    """Return the usage of a reply. The prompt count includes cached tokens. Gemini reports no cache writes."""
    counts = render_anthropic.usage(reply, prompt_tokens)
    read = counts["cache_read_input_tokens"]
    prompt = counts["input_tokens"] + read + counts["cache_creation_input_tokens"]
    report: Json = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": counts["output_tokens"],
        "totalTokenCount": prompt + counts["output_tokens"],
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
    }
    if read:
        report |= {"cachedContentTokenCount": read, "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": read}]}
    return report


def _head(model: str, reply_id: str) -> Json:
    return {"modelVersion": model, "responseId": reply_id}


def _candidate(parts: list[Json], finish: str = "") -> Json:
    candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
    return {**candidate, "finishReason": finish} if finish else candidate


def _finish(reply: Canned) -> str:
    return _FINISH.get(reply.stop_reason, "STOP")


def _thoughts(reply: Canned) -> list[Json]:
    thoughts: list[Json] = []
    if reply.thinking:
        thoughts += [{"text": part, "thought": True} for part in render_anthropic.halves(reply.thinking)]
    if reply.redacted:
        thoughts.append({"text": "", "thoughtSignature": reply.redacted})
    return thoughts


def _calls(reply: Canned) -> list[Json]:
    """Return the parts with tool calls. Only the first of them has a signature, as in Gemini 3."""
    return [
        {"functionCall": _call(tool.name, tool.arguments, tool.id), **(_SIGNED if number == 0 else {})}
        for number, tool in enumerate(reply.tools)
    ]


_SIGNED: Final = {"thoughtSignature": "c2lnLXNpbS1nZW1pbmk="}


def _call(name: str, arguments: Mapping[str, Any] | None, call_id: str) -> Json:
    return {"name": name, "args": dict(arguments or {}), "id": call_id or uuid4().hex[:8]}
