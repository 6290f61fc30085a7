"""Decodes the streams of InvokeModel (InvokeModelWithResponseStream)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from gateway.contract import json_api
from gateway.contract.errors import BadFrame, Truncated, UpstreamFailed
from gateway.contract.flag import COUNT_TOKENS, OPAQUE, Event, Frame
from gateway_plugins.dialects.anthropic_messages import facts as messages_facts
from gateway_plugins.dialects.anthropic_messages import text as messages_text
from gateway_plugins.dialects.anthropic_messages.usage import NO_BILL, Reports
from gateway_plugins.dialects.bedrock import claude_on_bedrock, counting, opaque_facts, runtime_api
from gateway_plugins.shared import lenient

CHUNK: Final = "chunk"
"""Event type of the frames in InvokeModel's streams.

Events of an opaque reply (one that is not interpreted) have this kind too."""
_TYPE: Final = re.compile(rb'\s*\{\s*"type"\s*:\s*"([a-z_]+)"')


class InvokeDecoder(runtime_api.EventStreamReader):
    """Decodes the chunks of an InvokeModel stream to the events inside them.

    - Anthropic's clients read all token counts from `message_delta`. But in GovCloud, only the metrics in the last
      event have the counts of cache tokens (litellm). So `message_delta` is held back until the next event, and the
      counts in the metrics of that event are added.
    - The gateway's own usage reader gets the number of output tokens without this delay, in an extra event that no
      client receives.
    - A chunk after `message_stop` is no error, and is not passed on to the client.
    - An opaque stream (one that is not interpreted) is complete with the metrics. A stream without metrics, such as
      that of an imported model, is complete if it ends after a stop reason (strands-agents/harness-sdk#1217).
    """

    def __init__(self, operation: str, dialect: str, billed: Mapping[str, int] = NO_BILL) -> None:
        super().__init__()
        self._operation = operation
        self._claude = dialect != OPAQUE
        self._reports = Reports(billed)
        self._waiting: Event | None = None
        self._has_stopped = False

    def events(self, frame: Frame) -> Iterator[Event]:
        return self._event(_inner(frame.payload), b"" if self.done else frame.raw)

    def feed(self, data: bytes) -> Iterator[Event]:
        try:
            yield from super().feed(data)
        except UpstreamFailed:
            yield from self._release({})
            if not self.done:
                raise

    def close(self) -> Iterator[Event]:
        yield from self._release({})
        if not self.done and not self._has_stopped:
            raise Truncated

    def whole(self, body: bytes) -> bytes:
        if self._operation == COUNT_TOKENS:
            return orjson.dumps(counting.neutral_count(body))
        return self._with_counts(messages_text.checked(body)) if self._claude else opaque_facts.checked(body)

    def _with_counts(self, body: bytes) -> bytes:
        """Return the body of a complete reply after adding the token counts that only the reply's headers have."""
        members = json_api.json_members(body)
        usage = lenient.mapping(json_api.reply_member(members, "usage"))
        self._reports.add(usage)
        complete = {**usage, **self._reports.top()}
        return body if complete == usage else members.spliced({"usage": orjson.dumps(complete)})

    def _event(self, inner: bytes, raw: bytes) -> Iterator[Event]:
        metrics: dict[str, Any] = {}
        if messages_facts.INVOCATION_METRICS.encode() in inner:
            members = json_api.json_members(inner)
            metrics = lenient.mapping(json_api.reply_member(members, messages_facts.INVOCATION_METRICS))
            inner = members.spliced({messages_facts.INVOCATION_METRICS: None})
        event = Event(_kind(inner) if self._claude else CHUNK, inner, raw)
        yield from self._release(metrics)
        if metrics:
            yield Event(messages_facts.INVOCATION_METRICS, orjson.dumps(metrics), b"")
        if event.kind == "message_start":
            message = lenient.mapping(lenient.mapping(event.data).get("message"))
            self._reports.begin(message.get("usage"))
        self._has_stopped = self._has_stopped or (not self._claude and opaque_facts.has_stop(inner))
        self.done = self.done or event.kind == "message_stop" or (not self._claude and bool(metrics))
        if event.kind == "message_delta":
            self._waiting = event
            # the output must be counted now: a client that disconnects before the last event has received all output
            yield Event(messages_facts.INVOCATION_METRICS, orjson.dumps(_output_metrics(event)), b"")
        else:
            yield event

    def _release(self, metrics: dict[str, Any]) -> Iterator[Event]:
        delta, self._waiting = self._waiting, None
        if delta is not None:
            before = self._reports.lifetimes()
            self._reports.add(lenient.mapping(delta.data).get("usage"))
            self._reports.add_metrics(metrics)
            # zeros tell the meter that this event has discarded the lifetimes of `message_start`
            lifetimes = self._reports.lifetimes() or dict.fromkeys(before, 0)
            yield claude_on_bedrock.with_counts(delta, self._reports.top(), lifetimes)


def _output_metrics(delta: Event) -> dict[str, Any]:
    """Return the number of output tokens in a `message_delta`, in the form of Bedrock's invocation metrics."""
    return {"outputTokenCount": lenient.mapping(lenient.mapping(delta.data).get("usage")).get("output_tokens")}


def _inner(payload: bytes) -> bytes:
    try:
        return base64.b64decode(orjson.loads(payload)["bytes"], validate=True)
    except (orjson.JSONDecodeError, KeyError, TypeError, binascii.Error):
        raise BadFrame("the provider's stream has a chunk without its bytes") from None


def _kind(inner: bytes) -> str:
    if match := _TYPE.match(inner):
        return match[1].decode()
    return lenient.text(lenient.mapping(Event("", inner).data).get("type"))
