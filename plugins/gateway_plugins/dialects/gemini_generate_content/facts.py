"""Names of fields and finish reasons, and a reader of a reply's usage, stop reason and called tools.

- A stream has chunks of one kind (`CHUNK`). Each chunk is a whole `GenerateContentResponse`.
- A stream has no terminal event. The stream is complete if every candidate has a finish reason, or if the prompt was
  blocked.
- A part is thinking if its `thought` is true. Any part may have a signature (`thoughtSignature`).

Sources: the Gemini API's reference (GenerateContentResponse, Candidate), and the google-genai SDK's types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.contract import json_api
from gateway.contract.flag import ClientRequest, Event, Facts
from gateway_plugins.dialects.gemini_generate_content.usage import Reports
from gateway_plugins.shared.lenient import encoded, mapping, sequence, text

CHUNK: Final = "chunk"
"""`Event.kind` of every event of a stream. Gemini's stream has only one kind of event."""

CANDIDATES: Final = "candidates"
CONTENT: Final = "content"
PARTS: Final = "parts"
FINISH_REASON: Final = "finishReason"
PROMPT_FEEDBACK: Final = "promptFeedback"
BLOCK_REASON: Final = "blockReason"
MODEL_VERSION: Final = "modelVersion"
RESPONSE_ID: Final = "responseId"
USAGE: Final = "usageMetadata"
THOUGHT: Final = "thought"
SIGNATURE: Final = "thoughtSignature"
CALL: Final = "functionCall"
RESULT: Final = "functionResponse"

UNSPECIFIED: Final = "FINISH_REASON_UNSPECIFIED"
STOP: Final = "STOP"
MAX_TOKENS: Final = "MAX_TOKENS"
SAFETY: Final = "SAFETY"
REFUSALS: Final = frozenset(
    {
        SAFETY, "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR", "JAILBREAK", "ESCALATION",
        "PUP_LIMITED_DISABLED",
    }
)  # fmt: skip
"""Finish reasons and block reasons that report a content filter."""
FAULTS: Final = frozenset(
    {
        "OTHER", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE", "NO_IMAGE", "IMAGE_OTHER",
    }
)  # fmt: skip
"""Finish reasons that report a failure of the model or the server."""
CONTINUATION: Final = "CONTINUATION"
"""Finish reason with the same meaning as `MAX_TOKENS`: the reply reached the maximum number of output tokens for one
request."""


def finish_reason(candidate: Mapping[str, Any]) -> str:
    """Return the finish reason of a candidate, or "" if the candidate has not ended."""
    reason = text(candidate.get(FINISH_REASON))
    return "" if reason == UNSPECIFIED else reason


def block_reason(data: Any) -> str:
    """Return the reason why the prompt was blocked, or "" if it was not. A reply to a blocked prompt has no
    candidates.
    """
    return text(mapping(mapping(data).get(PROMPT_FEEDBACK)).get(BLOCK_REASON))


def candidates(data: Any) -> list[dict[str, Any]]:
    return [mapping(candidate) for candidate in sequence(mapping(data).get(CANDIDATES))]


def parts_of(candidate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a candidate. A candidate without output has no `content`, or a content without parts."""
    return [mapping(part) for part in sequence(mapping(candidate.get(CONTENT)).get(PARTS))]


def is_reply(data: Mapping[str, Any]) -> bool:
    """Return whether a decoded body is a reply of this dialect."""
    return isinstance(data.get(CANDIDATES), list) or USAGE in data or bool(block_reason(data))


class Meter:
    """Reads usage, stop reason and called tools from an unstreamed reply, or from the chunks of a stream.

    `tier` is the service tier in the reply's headers.
    """

    def __init__(self, _request: ClientRequest | None = None, tier: str = "") -> None:
        self._facts = Facts()
        self._reports = Reports(tier)
        self._model = ""

    def feed(self, event: Event) -> None:
        if event.payload:
            self._read(mapping(event.data))

    def whole(self, body: bytes) -> None:
        self._read(json_api.json_object(body))

    def facts(self) -> Facts:
        facts, reports = self._facts, self._reports
        facts.parts = (reports.part(self._model),)
        facts.reported = reports.reported
        facts.inexact = not reports.is_exact
        return facts

    def _read(self, data: dict[str, Any]) -> None:
        facts = self._facts
        self._model = text(data.get(MODEL_VERSION)).removeprefix("models/") or self._model
        facts.stop = block_reason(data) or facts.stop
        for candidate in candidates(data):
            facts.stop = finish_reason(candidate) or facts.stop
            facts.tools += _called(candidate)
            self._reports.add_grounding(candidate)
        if USAGE in data:
            self._reports.add(mapping(data[USAGE]))


def _called(candidate: Mapping[str, Any]) -> Iterator[str]:
    """Yield the name of each called function. Only the first chunk of a streamed call has the name."""
    for part in parts_of(candidate):
        if CALL in part and (name := text(mapping(part[CALL]).get("name"))):
            yield name


def output_bytes(event: Event) -> int:
    """Return the number of bytes of text, thinking, code and call arguments in a chunk."""
    if not event.payload:
        return 0
    return sum(_part_bytes(part) for candidate in candidates(event.data) for part in parts_of(candidate))


def _part_bytes(part: Mapping[str, Any]) -> int:
    size = json_api.text_bytes(part.get("text"))
    if CALL in part:
        size += _arguments_bytes(mapping(part[CALL]))
    if "executableCode" in part:
        size += json_api.text_bytes(mapping(part["executableCode"]).get("code"))
    return size


def _arguments_bytes(call: Mapping[str, Any]) -> int:
    """Return the number of bytes of the arguments of a function call.

    The arguments are complete (`args`), or come as pieces of strings (`partialArgs`).
    """
    size = len(encoded(call["args"])) if call.get("args") else 0
    pieces = (mapping(piece).get("stringValue") for piece in sequence(call.get("partialArgs")))
    return size + json_api.text_bytes(*pieces)
