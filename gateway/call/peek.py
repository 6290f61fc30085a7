"""Waits for the first event of a provider's stream before the response is returned.

If the stream fails before its first event, another candidate (model of a provider) can still serve the call. The first
batch of events is kept until the stream is consumed. Later batches are passed directly to the consumer.
"""

from __future__ import annotations

from contextlib import aclosing

from gateway.call.responses import Batch, Batches, Source, Take
from gateway.contract.errors import GatewayError


class Peeked:
    """The source of a stream whose first batch has already been read. It yields this batch first."""

    __slots__ = ("_batches", "_first", "_take")

    def __init__(self, source: Source) -> None:
        self._take: Take | None = None
        self._first: Batch | None = None
        self._batches = source.batches(self._pass_on)

    def _pass_on(self, batch: Batch) -> bool:
        """Give a batch to the consumer of the stream. Return False if there is no consumer yet."""
        return self._take is not None and self._take(batch)

    async def failure(self) -> GatewayError | None:
        """Wait for the first batch. Return the error if the stream failed before any event; None otherwise."""
        first = self._first = await anext(self._batches, None)
        return None if first is None or first.events else first.fault

    async def close(self) -> None:
        """Close the source."""
        await self._batches.aclose()

    async def batches(self, take: Take) -> Batches:
        """Yield the first batch, and then the other batches (see `Source.batches`)."""
        first, self._first = self._first, None
        if first is not None:
            yield first
        self._take = take
        async with aclosing(self._batches) as batches:
            async for batch in batches:
                yield batch
