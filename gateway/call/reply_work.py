"""Work on a provider's reply, in pieces that run in a worker process if the reply is large.

- A whole body is decoded once for the meter, the decoder and the translation.
- The facts of a reply (usage, stop reason, ...) are read in the provider's dialect, before it is translated.
- A whole body that the meter cannot read is no reply of the dialect, so every client gets an error. The tokens that it
  reports are kept.

Everything here can be pickled, and nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from gateway.call.key_redaction import Redaction
from gateway.contract.errors import BadFrame, Problem, Truncated, UpstreamFailed
from gateway.contract.flag import ClientRequest, Decoder, Event, Head, Meter, Target
from gateway.contract.json_api import DecodedOnce
from gateway.contract.provider_errors import is_cut, not_a_reply


@dataclass(frozen=True, slots=True)
class Reading:
    """A whole reply that has been read."""

    body: bytes
    """The body without the gateway's keys."""
    meter: Meter
    problem: Problem | None = None
    """The problem that the reply reports; None if it reports none."""
    is_stream: bool = False
    """Whether the request was for a stream, and the body is one although its content type is another."""
    decoded: bytes = b""
    """The body as JSON of the target's dialect."""
    fault: UpstreamFailed | None = None
    """The error for a body that is no reply of the provider's dialect; None if it is one."""
    delivered: int | None = None
    """The number of bytes that the model has written; None if it has written nothing."""
    is_whole: bool = False
    """Whether the reply is complete, so that its report of usage is final."""


@dataclass(frozen=True, slots=True)
class WholeReader:
    """The members of the provider's flag that read a reply to one request."""

    find_problem: Callable[[Head, bytes], Problem | None]
    decoder: Callable[[ClientRequest, Target, Head], Decoder]
    output_bytes: Callable[[Event], int]
    request: ClientRequest
    target: Target
    head: Head
    redaction: Redaction

    def read(self, meter: Meter, body: bytes) -> Reading:
        """Read a reply. The result has the meter, with the facts of the reply."""
        body = self.redaction.bytes(body)
        reading = Reading(body, meter, self.find_problem(self.head, body))
        if reading.problem is not None:
            return reading
        if not self.request.stream:
            return self._with_facts(reading)
        if is_stream(body):  # some servers name a wrong content type
            return replace(reading, is_stream=True)
        fault = BadFrame("the provider answered a request for a stream with a body that is none")
        return replace(self._with_facts(reading), fault=not_a_reply(body, fault))

    def _with_facts(self, reading: Reading) -> Reading:
        """Read the facts of a reply, and decode it to the target's dialect."""
        body = reading.body
        shared = body if isinstance(body, DecodedOnce) else DecodedOnce(body)
        try:
            reading.meter.whole(shared)
            decoded = self.decoder(self.request, self.target, self.head).whole(shared)
        except BadFrame as fault:
            if is_stream(body):
                return self._unwanted_stream(reading)
            return replace(reading, fault=not_a_reply(body, fault), delivered=len(body) if is_cut(body) else None)
        # an unchanged body is not sent back from a worker process
        decoded = body if decoded is shared else decoded
        return replace(reading, decoded=decoded, delivered=len(body), is_whole=True)

    def _unwanted_stream(self, reading: Reading) -> Reading:
        """Read the facts of a stream that came in place of a whole reply."""
        decoder = self.decoder(self.request, self.target, self.head)
        delivered: int | None = None
        fault: UpstreamFailed = BadFrame("the provider answered with a stream, for which the request did not ask")
        try:
            for event in (*decoder.feed(reading.body), *decoder.close()):
                reading.meter.feed(event)
                delivered = (delivered or 0) + written(self.output_bytes, (event,))
        except (BadFrame, Truncated):
            pass
        except UpstreamFailed as error:
            fault = UpstreamFailed(error.problem)
        return replace(reading, fault=fault, delivered=delivered)


def written(output_bytes: Callable[[Event], int], events: Iterable[Event]) -> int:
    """Return the number of bytes that the model wrote in `events`. An event that cannot be read has none."""
    size = 0
    for event in events:
        try:
            size += output_bytes(event)
        except BadFrame:
            continue
    return size


def is_stream(body: bytes) -> bool:
    """Return whether a body begins as server-sent events."""
    return _SSE.match(body) is not None


_SSE: Final = re.compile(rb"\s*(?:data|event|id|retry)?: ?")
