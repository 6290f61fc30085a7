"""Replies in the Responses dialect: the events of a stream, and the whole response object.

Source: OpenAI's API reference (Responses, Streaming events) and the openai SDK's types. Both writers run the same code,
so that the response in the terminal event of a stream is the one that a whole reply would be. Output indexes are dense
from 0 and sequence numbers rise by one. Framing belongs to the flag's encoder, single items to `items.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import orjson

from gateway.contract.errors import Refused
from gateway.contract.flag import ClientRequest, Drop, Event, Usage, event
from gateway_plugins.dialects.openai_chat.emit import openai_tier
from gateway_plugins.dialects.openai_responses.items import (
    COMPLETED,
    IN_PROGRESS,
    INCOMPLETE,
    Call,
    Item,
    Json,
    Message,
    Reasoning,
    new_id,
)
from gateway_plugins.dialects.openai_responses.names import FUNCTION, Origin, Origins
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.fields import is_deep
from gateway_plugins.shared.reply_events import Citation, Stop

T = TypeVar("T", bound=Item)

FAILED: Final = "failed"
_LIMIT: Final = "max_output_tokens"
_INCOMPLETE: Final[Mapping[str, str]] = {
    reply_events.MAX_TOKENS: _LIMIT,
    reply_events.CONTEXT: _LIMIT,
    reply_events.REFUSAL: "content_filter",
}
_ECHOED: Final[Mapping[str, Any]] = {
    # members of the request that the response repeats, and what stands there when the client said nothing
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": None,
    "tool_choice": "auto",
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}


def blank(ask: ClientRequest) -> Json:
    """The response before anything has come: what it repeats of the request, and nothing else."""
    echoed = {name: _given(ask, name, usual) for name, usual in _ECHOED.items()}
    reasoning, text, tools = (_given(ask, name) for name in ("reasoning", "text", "tools"))
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "status": IN_PROGRESS,
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": ask.model,
        "output": [],
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None, **(reasoning if isinstance(reasoning, dict) else {})},
        "store": False,
        "text": {"format": {"type": "text"}, **(text if isinstance(text, dict) else {})},
        "tools": [_told(tool) for tool in tools] if isinstance(tools, list) else [],
        "top_logprobs": 0,
        "usage": None,
        **echoed,
    }


def _given(ask: ClientRequest, name: str, usual: Any = None) -> Any:
    """A member of the request, as far as it can be read and written again: this must not fail in an error's midst."""
    with suppress(Refused):
        value = ask.top.decode(name)
        return usual if value is None or is_deep(value) else value
    return usual


def _told(tool: Any) -> Any:
    """A function with the members that OpenAI always tells."""
    is_function = isinstance(tool, dict) and tool.get("type") == FUNCTION
    return {"parameters": None, "strict": False, **tool} if is_function else tool


def usage_dict(usage: Usage) -> Json:
    """OpenAI's usage: input tokens include what was read from a cache and written to one."""
    written = usage.cache_write_5m + usage.cache_write_1h
    total = usage.input + usage.cache_read + written
    return {
        "input_tokens": total,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": written},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": total + usage.output,
    }


class Whole:
    """One whole reply (`replies.WholeWriter`)."""

    def __init__(self, ask: ClientRequest, origins: Origins, drop: Drop) -> None:
        self._response = blank(ask)
        self._origins = origins
        self._drop = drop
        self._item: Item | None = None
        """The one that is open."""
        self._started = self._finished = self._declined = False

    def whole(self) -> bytes:
        return orjson.dumps(self._response)

    def start(self, reply_id: str = "") -> None:
        if not self._started:
            self._started = True
            self._response["id"] = reply_id or self._response["id"]
            self._tell("response.created", {"response": self._response})
            self._tell("response.in_progress", {"response": self._response})

    def text(self, piece: str) -> None:
        if piece:
            self._message().text(piece)

    def refusal(self, piece: str) -> None:
        if piece:
            self._declined = True
            self._message().refusal(piece)

    def citation(self, citation: Citation) -> None:
        """Places in documents have no form here, only addresses have."""
        if citation.source.startswith(("http://", "https://")):
            self._message().citation(citation)
        else:
            self._drop("/reply/citation")

    def thinking(self, piece: str) -> None:
        if piece:
            self._reasoning().thinking(piece)

    def signature(self, value: str) -> None:
        self._reasoning().signature(value)

    def redacted(self, data: str) -> None:
        self._reasoning().redacted(data)

    def tool(self, tool_id: str, name: str) -> None:
        self._open(Call(tool_id, self._origins.get(name) or Origin(FUNCTION, name), self._say))

    def arguments(self, fragment: str) -> None:
        if isinstance(self._item, Call):
            self._item.arguments(fragment)

    def block_end(self) -> None:
        """A call is told at once, since clients begin with it; the others go on with a block of their kind."""
        if isinstance(self._item, Call):
            self._close(COMPLETED)
        elif self._item is not None:
            self._item.block_end()

    def usage(self, usage: Usage, tier: str = "") -> None:
        self._response["usage"] = usage_dict(usage)
        if tier:
            self._response["service_tier"] = openai_tier(tier)

    def finish(self, stop: Stop) -> None:
        if self._finished:
            return
        self.start()
        self._finished = True
        response = self._response
        reason = "" if self._declined and stop.reason == reply_events.REFUSAL else _INCOMPLETE.get(stop.reason, "")
        self._close(INCOMPLETE if reason else COMPLETED)
        if stop.reason == reply_events.MALFORMED:
            said = f"the model's reply is neither an answer nor a call ({stop.native})"
            response |= {"status": FAILED, "error": {"code": "server_error", "message": said}}
        elif reason:
            response |= {"status": INCOMPLETE, "incomplete_details": {"reason": reason}}
        else:
            response |= {"status": COMPLETED, "completed_at": int(time.time())}

    def _message(self) -> Message:
        return self._item if isinstance(self._item, Message) else self._open(Message(self._say))

    def _reasoning(self) -> Reasoning:
        return self._item if isinstance(self._item, Reasoning) else self._open(Reasoning(self._say))

    def _open(self, item: T) -> T:
        self.start()
        self._close(COMPLETED)
        self._item = item
        item.begin()
        return item

    def _close(self, status: str) -> None:
        if self._item is not None:
            self._item.end(status)
            self._response["output"].append(self._item.body)
            self._item = None

    def _say(self, kind: str, members: Json) -> None:
        """An event of the open item, which will stand behind those that are complete."""
        self._tell(kind, {"output_index": len(self._response["output"]), **members})

    def _tell(self, kind: str, members: Json) -> None:
        """An event; nobody hears of it when the reply is whole."""


class Stream(Whole):
    """The events of one streamed reply (`replies.StreamWriter`)."""

    def __init__(self, ask: ClientRequest, origins: Origins, drop: Drop) -> None:
        super().__init__(ask, origins, drop)
        self._events: list[Event] = []
        self._sequence = 0
        self._over = False

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def usage(self, usage: Usage, tier: str = "") -> None:
        super().usage(usage, tier)
        self._end()

    def close(self) -> None:
        self._end()

    def _end(self) -> None:
        """The terminal event, once all has been said: with the usage behind it, or without any at the stream's end.

        Usage that came before it may not be the last: some servers report it with every chunk.
        """
        if self._finished and not self._over:
            self._over = True
            self._tell(f"response.{self._response['status']}", {"response": self._response})

    def _tell(self, kind: str, members: Json) -> None:
        self._events.append(event(kind, {"type": kind, "sequence_number": self._sequence, **members}))
        self._sequence += 1
