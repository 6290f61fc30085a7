"""Writes replies in the Messages dialect (`shared/reply_events.py`): the events of a stream, or the whole message.

- Clients read all token counts, also those of the cache, from `message_delta` (GoModel#726, new-api#2881). Most
  providers report the counts after the stop reason. So the stop reason waits for the counts, and one `message_delta`
  has both.
- Blocks are numbered from 0 without gaps. Each block is closed before the next one begins.

The plugin's encoder adds pings and the framing of events. Source: Anthropic's API reference (Messages, Streaming,
Citations).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from gateway.contract import lenient_json
from gateway.contract.flag import ClientRequest, Event, Usage, event
from gateway.money.quotas.estimate import BYTES_PER_TOKEN, input_tokens
from gateway_plugins.dialects.anthropic_messages.billing import billed_parts
from gateway_plugins.shared import checks, reply_events
from gateway_plugins.shared.reply_events import Citation, Stop
from gateway_plugins.shared.reply_ids import reply_id as own_id

Block = dict[str, Any]

_REASONS: Final[Mapping[str, str]] = {
    reply_events.END_TURN: "end_turn",
    reply_events.TOOL_USE: "tool_use",
    reply_events.MAX_TOKENS: "max_tokens",
    reply_events.STOP_SEQUENCE: "stop_sequence",
    reply_events.REFUSAL: "refusal",
    reply_events.CONTEXT: "model_context_window_exceeded",
    reply_events.MALFORMED: "end_turn",
}
_TIERS: Final[Mapping[str, str]] = {
    "default": "standard",
    "standard": "standard",
    "priority": "priority",
    "batch": "batch",
}
"""Anthropic's service tier for each tier that a provider may report. Any other tier is left out of the reply."""
_ANSWERS: Final = frozenset({"text", "tool_use"})
_AT_START: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
"""Names of the counts in `message_start`. SDKs later overwrite them with the counts in `message_delta`."""
_PROMPT: Final = ("tools", "system", "messages")
_NOT_TEXT: Final = (b'"image"', b'"document"', b'"web_search', b'"web_fetch', b"\\u00")
"""Byte strings for a quick search: every prompt with an image, a document or a web tool contains one of them.

If a prompt contains none of them, its tokens are estimated from its length alone. So the prompt need not be decoded,
which would take a millisecond for 100 kB."""
_PLACES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    # kind of a citation: (its type in the API, names of its fields for index, start and end)
    "char": ("char_location", "document_index", "start_char_index", "end_char_index"),
    "page": ("page_location", "document_index", "start_page_number", "end_page_number"),
    "block": ("content_block_location", "document_index", "start_block_index", "end_block_index"),
    "search_result": ("search_result_location", "search_result_index", "start_block_index", "end_block_index"),
}


def prompt_estimate(request: ClientRequest) -> int:
    """Return an estimate of the prompt's input tokens for a stream, and 0 for a request without a stream."""
    if not request.stream:
        return 0
    members = (b'"%b":%b' % (name.encode(), request.top[name]) for name in _PROMPT if name in request.top)
    prompt = b"{%b}" % b",".join(members)
    if any(mark in prompt for mark in _NOT_TEXT):
        return input_tokens(prompt, billed_parts)
    return max(1, len(prompt) // BYTES_PER_TOKEN)


def usage_dict(usage: Usage, tier: str = "") -> dict[str, Any]:
    """Return usage in Anthropic's form. Its `input_tokens` exclude the tokens read from the cache or written to it.

    `tier` is the service tier that the provider reports, or "".
    """
    counts: dict[str, Any] = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
    }
    if usage.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if tier in _TIERS:
        counts["service_tier"] = _TIERS[tier]
    return counts


def citation_of(citation: Citation) -> Block:
    quoted = {"cited_text": citation.cited}
    title = citation.title or None
    if citation.kind == "web":
        return {
            "type": "web_search_result_location", **quoted,
            "url": citation.source, "title": title, "encrypted_index": "",
        }  # fmt: skip
    kind, *members = _PLACES[citation.kind]
    numbers = dict(zip(members, (citation.index, citation.start, citation.end), strict=True))
    if citation.kind == "search_result":
        return {"type": kind, **quoted, "source": citation.source, "title": title, **numbers}
    return {"type": kind, **quoted, "document_title": title, **numbers, "file_id": None}


def _message(model: str, reply_id: str, estimate: int = 0) -> Block:
    return {
        "id": own_id("msg_", reply_id),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**dict.fromkeys(_AT_START, 0), "input_tokens": estimate},
    }


def _stop_members(stop: Stop) -> Block:
    return {"stop_reason": _REASONS[stop.reason], "stop_sequence": stop.sequence or None}


def _tool_use(tool_id: str, name: str) -> Block:
    return {"type": "tool_use", "id": tool_id or f"toolu_{uuid.uuid4().hex}", "name": name, "input": {}}


class Stream:
    """Writes the events of one streamed reply (`reply_events.StreamWriter`).

    `message_start` has `estimate` as the number of input tokens, because most providers report counts only at the end.
    Claude Code shows this first number as the size of its context (CLIProxyAPI#1700). The counts in `message_delta`
    replace the estimate.
    """

    def __init__(self, model: str, estimate: int = 0) -> None:
        self._model = model
        self._estimate = estimate
        self._events: list[Event] = []
        self._started = False
        self._index = 0
        """Index of the open block, or of the next block if none is open."""
        self._open = ""
        """Type of the open block. It is "" if none is open."""
        self._has_input = False
        self._answered = False
        """True if text or a tool call has been written."""
        self._usage: Usage | None = None
        self._tier = ""
        self._stop: Stop | None = None
        """The stop reason. It is None before `finish`. It is written when the counts are known."""
        self._ended = False

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def start(self, reply_id: str = "") -> None:
        if not self._started:
            self._started = True
            self._put("message_start", message=_message(self._model, reply_id, self._estimate))

    def text(self, piece: str) -> None:
        if piece:
            self._answered = True
            self._ensure_open("text", text="")
            self._delta("text_delta", text=piece)

    def refusal(self, piece: str) -> None:
        self.text(piece)

    def citation(self, citation: Citation) -> None:
        self._ensure_open("text", text="")
        self._delta("citations_delta", citation=citation_of(citation))

    def thinking(self, piece: str) -> None:
        if piece:
            self._ensure_open("thinking", thinking="", signature="")
            self._delta("thinking_delta", thinking=piece)

    def signature(self, value: str) -> None:
        self._ensure_open("thinking", thinking="", signature="")
        self._delta("signature_delta", signature=value)

    def redacted(self, data: str) -> None:
        self._begin({"type": "redacted_thinking", "data": data})
        self.block_end()

    def tool(self, tool_id: str, name: str) -> None:
        self._begin(_tool_use(tool_id, name))
        self._answered = True
        self._has_input = False

    def arguments(self, fragment: str) -> None:
        if fragment and self._open == "tool_use":
            self._has_input = True
            self._delta("input_json_delta", partial_json=fragment)

    def block_end(self) -> None:
        if not self._open:
            return
        if self._open == "tool_use" and not self._has_input:  # clients parse the input, and "" is no JSON
            self._delta("input_json_delta", partial_json="{}")
        self._put("content_block_stop", index=self._index)
        self._index += 1
        self._open = ""

    def usage(self, usage: Usage, tier: str = "") -> None:
        self._usage, self._tier = usage, tier
        self.close()

    def finish(self, stop: Stop) -> None:
        reply_events.check_answer(stop, answered=self._answered)
        self.start()
        self.block_end()
        self._stop = self._stop or stop

    def close(self) -> None:
        """Write `message_delta` with the counts so far, and `message_stop`.

        Do nothing if `finish` was not called, or if these events are written already.
        """
        if self._stop is None or self._ended:
            return
        self.block_end()
        # if no usage was reported, the estimate in `message_start` is not replaced
        counts = {"output_tokens": 0} if self._usage is None else usage_dict(self._usage, self._tier)
        self._put("message_delta", delta=_stop_members(self._stop), usage=counts)
        self._put("message_stop")
        self._ended = True

    def _ensure_open(self, kind: str, **empty: str) -> None:
        """Begin a block of type `kind`, unless the open block is of this type.

        `empty` has the other fields of a new block.
        """
        if self._open != kind:
            self._begin({"type": kind, **empty})

    def _begin(self, block: Block) -> None:
        self.start()
        self.block_end()
        self._open = block["type"]
        self._put("content_block_start", index=self._index, content_block=block)

    def _delta(self, kind: str, **members: Any) -> None:
        self._put("content_block_delta", index=self._index, delta={"type": kind, **members})

    def _put(self, kind: str, **members: Any) -> None:
        if not self._ended:
            self._events.append(event(kind, {"type": kind, **members}))


class Whole:
    """Writes one reply that is not streamed (`reply_events.WholeWriter`)."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._reply_id = ""
        self._content: list[Block] = []
        self._open: Block = {}
        """The open block, which is the last one in the content. It is {} if none is open."""
        self._input: list[str] = []
        """Pieces of JSON with the input of the open tool call."""
        self._usage = Usage()
        self._tier = ""
        self._stop = Stop(reply_events.END_TURN)

    def start(self, reply_id: str = "") -> None:
        self._reply_id = reply_id

    def text(self, piece: str) -> None:
        if piece:
            self._ensure_open("text")["text"] += piece

    def refusal(self, piece: str) -> None:
        self.text(piece)

    def citation(self, citation: Citation) -> None:
        block = self._ensure_open("text")
        block["citations"] = [*block.get("citations", ()), citation_of(citation)]

    def thinking(self, piece: str) -> None:
        if piece:
            self._ensure_open("thinking")["thinking"] += piece

    def signature(self, value: str) -> None:
        self._ensure_open("thinking")["signature"] = value

    def redacted(self, data: str) -> None:
        self._begin({"type": "redacted_thinking", "data": data})
        self.block_end()

    def tool(self, tool_id: str, name: str) -> None:
        self._begin(_tool_use(tool_id, name))

    def arguments(self, fragment: str) -> None:
        self._input.append(fragment)

    def block_end(self) -> None:
        if self._open.get("type") == "tool_use":
            self._open["input"] = checks.arguments("".join(self._input))
        self._open, self._input = {}, []

    def usage(self, usage: Usage, tier: str = "") -> None:
        self._usage, self._tier = usage, tier

    def finish(self, stop: Stop) -> None:
        self.block_end()
        reply_events.check_answer(stop, answered=any(block["type"] in _ANSWERS for block in self._content))
        self._stop = stop

    def whole(self) -> bytes:
        body = _message(self._model, self._reply_id) | {"content": self._content} | _stop_members(self._stop)
        return lenient_json.dumps(body | {"usage": usage_dict(self._usage, self._tier)})

    def _ensure_open(self, kind: str) -> Block:
        if self._open.get("type") != kind:
            empty: dict[str, Block] = {
                # no `citations` before the first citation, because clients refuse null
                "text": {"text": ""},
                "thinking": {"thinking": "", "signature": ""},
            }
            self._begin({"type": kind, **empty[kind]})
        return self._open

    def _begin(self, block: Block) -> None:
        self.block_end()
        self._open = block
        self._content.append(block)
