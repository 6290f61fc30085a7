"""Writers of replies in the Responses dialect (`shared/reply_events.py`): the events of a stream, or one body.

- Both writers use the same code. So the last event of a stream has the same response as a reply that is not streamed.
- The values of `output_index` and of `sequence_number` begin at 0 and have no gaps.

Single items are written in `items.py`, and the fields that repeat the request in `echo.py`. Sources: OpenAI's API
reference (Responses, Streaming events) and the openai SDK's types.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Final, TypeVar

import orjson

from gateway.contract.flag import ClientRequest, Drop, Event, Usage, event
from gateway_plugins.dialects.openai_chat.emit import openai_tier
from gateway_plugins.dialects.openai_responses.echo import blank
from gateway_plugins.dialects.openai_responses.items import COMPLETED, INCOMPLETE, Call, Item, Json, Message, Reasoning
from gateway_plugins.dialects.openai_responses.names import FUNCTION, Origin, Origins
from gateway_plugins.shared import reply_events
from gateway_plugins.shared.reply_events import Citation, Stop
from gateway_plugins.shared.reply_ids import reply_id as own_id

T = TypeVar("T", bound=Item)

FAILED: Final = "failed"
_LIMIT: Final = "max_output_tokens"
_INCOMPLETE: Final[Mapping[str, str]] = {
    reply_events.MAX_TOKENS: _LIMIT,
    reply_events.CONTEXT: _LIMIT,
    reply_events.REFUSAL: "content_filter",
}


def usage_dict(usage: Usage) -> Json:
    """Return OpenAI's `usage`. Its input tokens include the tokens read from a cache or written to it."""
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
    """Writer of a reply that is not streamed (`reply_events.WholeWriter`)."""

    def __init__(self, request: ClientRequest, origins: Origins, drop: Drop, dropped: Collection[str] = ()) -> None:
        self._response = blank(request, dropped)
        self._origins = origins
        self._drop = drop
        self._item: Item | None = None
        """The item that is being written. It is None between items."""
        self._started = self._finished = self._declined = False

    def whole(self) -> bytes:
        return orjson.dumps(self._response)

    def start(self, reply_id: str = "") -> None:
        if not self._started:
            self._started = True
            self._response["id"] = own_id("resp_", reply_id)
            self._send("response.created", {"response": self._response})
            self._send("response.in_progress", {"response": self._response})

    def text(self, piece: str) -> None:
        if piece:
            self._message().text(piece)

    def refusal(self, piece: str) -> None:
        if piece:
            self._declined = True
            self._message().refusal(piece)

    def citation(self, citation: Citation) -> None:
        """Add a citation of a URL. Report any other citation as dropped, because the dialect has no form for it."""
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
        self._open(Call(tool_id, self._origins.get(name) or Origin(FUNCTION, name), self._send_of_item))

    def arguments(self, fragment: str) -> None:
        if isinstance(self._item, Call):
            self._item.arguments(fragment)

    def block_end(self) -> None:
        """End the block. The item of a tool call ends too, so that the client can run the call at once.

        A message or reasoning item stays open, because the next block may belong to the same item.
        """
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
            message = f"the model's reply is neither an answer nor a call ({stop.native})"
            response |= {"status": FAILED, "error": {"code": "server_error", "message": message}}
        elif reason:
            response |= {"status": INCOMPLETE, "incomplete_details": {"reason": reason}}
        else:
            response |= {"status": COMPLETED, "completed_at": int(time.time())}

    def _message(self) -> Message:
        return self._item if isinstance(self._item, Message) else self._open(Message(self._send_of_item))

    def _reasoning(self) -> Reasoning:
        return self._item if isinstance(self._item, Reasoning) else self._open(Reasoning(self._send_of_item))

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

    def _send_of_item(self, kind: str, members: Json) -> None:
        """Send an event of the open item. `output_index` in the event is the number of items before the open item."""
        self._send(kind, {"output_index": len(self._response["output"]), **members})

    def _send(self, kind: str, members: Json) -> None:
        """Do nothing. Only a stream has events (see the subclass `Stream`)."""


class Stream(Whole):
    """Writer of one streamed reply (`reply_events.StreamWriter`)."""

    def __init__(self, request: ClientRequest, origins: Origins, drop: Drop, dropped: Collection[str] = ()) -> None:
        super().__init__(request, origins, drop, dropped)
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
        """Write the last event, once and only after `finish`.

        This method is called for each report of usage, and at the end of the stream. Usage that comes before `finish`
        does not end the reply, because some servers report usage with every chunk.
        """
        if self._finished and not self._over:
            self._over = True
            self._send(f"response.{self._response['status']}", {"response": self._response})

    def _send(self, kind: str, members: Json) -> None:
        self._events.append(event(kind, {"type": kind, "sequence_number": self._sequence, **members}))
        self._sequence += 1
