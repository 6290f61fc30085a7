"""Reads the facts (model, usage, ...) of a reply whose API is known, while the bytes of the reply are passed on.

- The plugin of the API gets a copy of the bytes. The client gets the reply unchanged, even if the plugin fails.
- If the plugin cannot read the reply, or the reply is too large, its facts stay unknown. The cost is then an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from gateway.call.chain import Attempt, Call, Metering
from gateway.call.reply_work import READING_HOOKS, Reading, WholeReader
from gateway.contract.errors import BadFrame, GatewayError, UpstreamFailed
from gateway.contract.flag import Decoder
from gateway.contract.json_api import DecodedOnce
from gateway.upstream.process_pool import DropRelay, ProcessPool, is_costly

MAX_WHOLE: Final = 8 * 1024 * 1024
"""Maximum number of bytes of a reply that is kept to read its usage. Replies of models are smaller, unless they have
images."""
MAX_OPEN: Final = 256 * 1024
"""Maximum number of bytes of an event that is decoded. After a longer event, no usage is read from the stream, because
decoding that event would block the event loop.
"""


class Tap:
    """Gets the bytes of one reply while they are passed on. This base class ignores them. Its subclasses read facts
    (model, usage, ...).
    """

    def feed(self, data: bytes) -> None:
        """Read the next bytes."""

    async def close(self) -> None:
        """Read the usage from the bytes that `feed` has kept. Call this at the end of a complete reply."""


def tap_of(call: Call, attempt: Attempt, pool: ProcessPool) -> Tap:
    """Return the `Tap` for the reply to an attempt. The headers of the reply must already have come."""
    head, flag = attempt.head, attempt.candidate.flag
    assert head is not None
    if flag is call.flag:
        return Tap()
    request, target = attempt.request, attempt.candidate.target
    try:
        attempt.metering = Metering(flag.meter(request, target, head), flag.hooks["meter.facts"])
        if request.stream and head.headers.get("content-type", "").lower().startswith(flag.stream_type(request)):
            return _StreamTap(attempt, flag.decoder(request, target, head))
    except GatewayError:
        attempt.metering = None
        return Tap()
    return _WholeTap(call, attempt, pool)


@dataclass(slots=True)
class _StreamTap(Tap):
    """Reads the events of a stream."""

    attempt: Attempt
    decoder: Decoder
    _is_blind: bool = False
    """True if the events of the stream cannot be read any more. All further bytes then count as output, so that the
    cost is not too low.
    """
    _open: int = 0
    """The number of bytes that have come since the last complete event."""

    def feed(self, data: bytes) -> None:
        self._open += len(data)
        if self._is_blind or self._open > MAX_OPEN:
            self._is_blind = True
            self.attempt.delivered = (self.attempt.delivered or 0) + len(data)
            return
        metering, hooks = self.attempt.metering, self.attempt.candidate.flag.hooks
        assert metering is not None
        events, fault = hooks["decoder.feed"].listed(self.decoder.feed, (data,))
        if events:
            self._open = 0
            metering.stale = True
            _, failure = hooks["meter.feed"].feed(metering.meter.feed, events, BadFrame)
            size, _, wrong = hooks["output_bytes"].total(events)
            self.attempt.delivered = (self.attempt.delivered or 0) + size
            fault = fault or failure or wrong
        self._is_blind = fault is not None


@dataclass(slots=True)
class _WholeTap(Tap):
    """Keeps the bytes of a reply that is not a stream, and reads them when the reply has ended."""

    call: Call
    attempt: Attempt
    pool: ProcessPool
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0
    """The number of bytes of the reply so far."""
    _is_blind: bool = False
    """Whether the reply is not kept, because it is too large or the memory budget is used up."""

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        self.attempt.delivered = self._size
        if self._is_blind:
            return
        self._parts.append(data)
        try:
            if self._size <= MAX_WHOLE:
                self.call.hold_reply(self._size)
                return
        except UpstreamFailed:  # the memory budget is used up; the client's reply needs none of it
            pass
        self._is_blind = True
        self._parts.clear()
        self.call.hold_reply(0)

    async def close(self) -> None:
        if not self._parts:
            return
        body, attempt = b"".join(self._parts), self.attempt
        self._parts.clear()
        flag, head, metering = attempt.candidate.flag, attempt.head, attempt.metering
        assert head is not None
        assert metering is not None
        hooks = {name: flag.hooks[name] for name in READING_HOOKS}
        reader = WholeReader(hooks, attempt.request, attempt.candidate.target, head, attempt.redaction)
        try:
            if is_costly(body):
                work = WholeReader.read, reader, metering.meter, body
                reading: Reading = await self.pool.run_reply(body, DropRelay(attempt.drop), *work)
            else:
                reading = reader.read(metering.meter, DecodedOnce(body))
        except GatewayError:
            return
        finally:
            self.call.hold_reply(0)
        if reading.problem is None:
            metering.meter, metering.stale = reading.meter, True
            attempt.whole = reading.is_whole
