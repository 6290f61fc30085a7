"""Functions that process a provider's reply. For a large reply they run in a worker process.

- The body of a reply is decoded once. The meter (usage reader), the decoder and the translation share the result.
- The facts of a reply (usage, stop reason, ...) are read in the provider's dialect (API format), before the reply is
  translated.
- If the meter finds that a body is not a reply of the provider's dialect, the client gets an error. Tokens that the
  meter has found in the body are charged nevertheless.

Everything here can be pickled, and nothing here does I/O.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from itertools import chain
from typing import Final

import msgspec
from msgspec.structs import replace

from gateway.call.key_redaction import EventRedaction, Redaction
from gateway.contract.errors import BadFrame, GatewayError, Problem, Truncated, UpstreamFailed
from gateway.contract.flag import (
    ClientRequest,
    Decoder,
    Encoder,
    Event,
    Frame,
    FrameDecoder,
    Head,
    Meter,
    Target,
    Translation,
)
from gateway.contract.hooks import Hook
from gateway.contract.json_api import DecodedOnce
from gateway.contract.provider_errors import is_cut, not_a_reply


class Reading(msgspec.Struct, frozen=True):
    """The result of reading a reply that is not a stream."""

    body: bytes
    """The body with the gateway's keys removed."""
    meter: Meter
    problem: Problem | None = None
    """The error that the reply reports. It is None if it reports none."""
    is_stream: bool = False
    """True if the client asked for a stream and the body is one, although the reply's content type names another
    format.
    """
    decoded: bytes = b""
    """The decoded body: JSON in the provider's dialect (API format). It is b"" if no body was decoded."""
    fault: UpstreamFailed | None = None
    """The error for a body that is not a reply in the provider's dialect (API format). It is None if the body is such a
    reply.
    """
    delivered: int | None = None
    """The number of bytes that the provider has delivered: the size of the body, or only the bytes of the model's
    output if the body is a stream that was not requested.

    None if the body reports an error, is no reply, or is a requested stream.
    """
    is_whole: bool = False
    """Whether the reply is complete. If so, its report of usage is final."""


class WholeReader(msgspec.Struct, frozen=True):
    """Reads the reply to one request with the hooks of the provider's plugin."""

    hooks: Mapping[str, Hook]
    """Hooks of the provider's plugin, at least those in `READING_HOOKS`."""
    request: ClientRequest
    target: Target
    head: Head
    redaction: Redaction

    def read(self, meter: Meter, body: bytes) -> Reading:
        """Read a reply, and return the result. `meter` (the usage reader) then has the facts (usage, stop reason, ...)
        of the reply.

        Raises `PluginFailed` if a hook of the plugin fails.
        """
        body = self.redaction.bytes(body)
        problem = self.hooks["problem"].call(self.head, body)
        if problem is not None:
            return Reading(body, meter, problem)
        if not self.request.stream:
            return self._with_facts(meter, body)
        if is_stream(body):  # some servers name a wrong content type
            return Reading(body, meter, is_stream=True)
        fault = BadFrame("the provider answered a request for a stream with a body that is none")
        return replace(self._with_facts(meter, body), fault=not_a_reply(body, fault))

    def _decoder(self) -> Decoder:
        decoder: Decoder = self.hooks["decoder"].call(self.request, self.target, self.head)
        return decoder

    def _with_facts(self, meter: Meter, body: bytes) -> Reading:
        """Give the body to the meter (usage reader), and decode it. The result has JSON in the provider's dialect (API
        format), or an error.
        """
        shared = body if isinstance(body, DecodedOnce) else DecodedOnce(body)
        try:
            self.hooks["meter.whole"].run(meter.whole, shared)
            decoded = self.hooks["decoder.whole"].run(self._decoder().whole, shared)
        except BadFrame as fault:
            if is_stream(body):
                return self._unwanted_stream(meter, body)
            delivered = len(body) if is_cut(body) else None
            return Reading(body, meter, fault=not_a_reply(body, fault), delivered=delivered)
        # if the decoder changed nothing, use the original body, so that a worker process need not send a second one
        decoded = body if decoded is shared else decoded
        return Reading(body, meter, decoded=decoded, delivered=len(body), is_whole=True)

    def _unwanted_stream(self, meter: Meter, body: bytes) -> Reading:
        """Return an error for a reply that is a stream although the request asked for none.

        The events are given to the meter (usage reader) first, so that the call is charged.
        """
        decoder, feed = self._decoder(), self.hooks["meter.feed"]
        before = self.hooks["decoder.feed"].each(decoder.feed, body)
        delivered: int | None = None
        fault: UpstreamFailed = BadFrame("the provider answered with a stream, for which the request did not ask")
        try:
            for event in chain(before, self.hooks["decoder.close"].each(decoder.close)):
                feed.run(meter.feed, event)
                size, _, failure = self.hooks["output_bytes"].total((event,))
                if failure is not None:
                    raise failure
                delivered = (delivered or 0) + size
        except (BadFrame, Truncated):
            pass
        except UpstreamFailed as error:
            fault = UpstreamFailed(error.problem)
        return Reading(body, meter, fault=fault, delivered=delivered)


READING_HOOKS: Final = (
    "problem", "meter.whole", "meter.feed", "decoder", "decoder.whole", "decoder.feed", "decoder.close", "output_bytes",
)  # fmt: skip
"""Names of the hooks that read a reply. Only these hooks are sent to a worker process."""


def decode(
    hook: Hook,
    decoder: FrameDecoder,
    redacted: EventRedaction,
    _redaction: Redaction,
    headers: Mapping[str, str],
    payload: bytes,
    raw: bytes,
) -> tuple[FrameDecoder, EventRedaction, list[Event], GatewayError | None]:
    """Decode one frame. Return `decoder` and `redacted` in their new states, the events, and the error after them or
    None.

    `_redaction` is the object that `redacted` contains. It is an argument because a worker process does not send
    arguments back (`upstream/process_pool.py`), so that only the changed state of `redacted` is sent.
    """
    events: list[Event] = []
    fault = None
    try:
        events.extend(redacted.clean(hook.each(decoder.events, Frame(headers, payload, raw))))
    except GatewayError as error:
        fault = error
    return decoder, redacted, events, fault


def read_event(
    hooks: Mapping[str, Hook],
    meter: Meter,
    tolerated: type[GatewayError] | None,
    _request: ClientRequest,
    kind: str,
    payload: bytes,
) -> tuple[Meter, int, GatewayError | None]:
    """Give one event, made of `kind` and `payload`, to the meter (usage reader).

    Return the meter in its new state, the number of bytes of the model's output in the event, and an error or None. An
    exception of the type `tolerated` is ignored.
    """
    events = (Event(kind, payload),)
    _, fault = hooks["meter.feed"].feed(meter.feed, events, tolerated)
    if fault is not None:
        return meter, 0, fault
    size, _, fault = hooks["output_bytes"].total(events)
    return meter, size, fault


def translate(
    hook: Hook, translation: Translation, _request: ClientRequest, kind: str, payload: bytes
) -> tuple[Translation, list[bytes], GatewayError | None]:
    """Translate one event. Return the translation in its new state, the translated events before an error, and the
    error or None.

    Each item of the list is a pickled list of up to `PART_EVENTS` events. There are several items, because the
    translation of one event can be a million events.
    """
    events: list[Event] = []
    fault = None
    try:
        events.extend(hook.each(translation.feed, Event(kind, payload)))
    except GatewayError as error:
        fault = error
    parts = [events[at : at + PART_EVENTS] for at in range(0, len(events), PART_EVENTS)]
    return translation, [pickle.dumps(part, pickle.HIGHEST_PROTOCOL) for part in parts], fault


def unpacked(part: bytes) -> list[Event]:
    """Unpickle one part of the events that `translate` returned."""
    events: list[Event] = pickle.loads(part)  # noqa: S301 (written by a worker process of the gateway)
    return events


def encode(
    hook: Hook, encoder: Encoder, _request: ClientRequest, kind: str, payload: bytes
) -> tuple[Encoder, bytes, GatewayError | None]:
    """Encode one event, which has the given `kind` and `payload`.

    Return the encoder in its new state, the bytes for the client, and the encoder's error or None.
    """
    data, fault = hook.joined(encoder.feed, (Event(kind, payload),))
    return encoder, data, fault


PART_EVENTS: Final = 256
"""Maximum number of translated events that are pickled together. The number is small, because the event loop is blocked
while they are unpickled.
"""


def is_stream(body: bytes) -> bool:
    """Return whether a body begins like a stream of server-sent events."""
    return _SSE.match(body) is not None


_SSE: Final = re.compile(rb"\s*(?:data|event|id|retry)?: ?")
