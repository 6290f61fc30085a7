"""A look at the first event of a stream before the stream is returned, while another candidate could still serve the
call.

The stream's source is started here, and its first batch waits for the consumer of the stream. Events that come later
take the same way as without the look: the source gives them to the consumer in the read of their bytes.
"""

from __future__ import annotations

from contextlib import aclosing

from gateway.call.responses import Batch, Batches, Source, Take
from gateway.contract.errors import GatewayError


class Peeked:
    """A source that has been started already, and that begins with the batch that was read."""

    __slots__ = ("_batches", "_first", "_take")

    def __init__(self, source: Source) -> None:
        self._take: Take | None = None
        self._first: Batch | None = None
        self._batches = source.batches(self._pass_on)

    def _pass_on(self, batch: Batch) -> bool:
        """Give a batch to the consumer. Return False while there is none."""
        return self._take is not None and self._take(batch)

    async def failure(self) -> GatewayError | None:
        """Wait for the first batch. Return the error of a stream that failed before any event; None otherwise."""
        first = self._first = await anext(self._batches, None)
        return None if first is None or first.events else first.fault

    async def close(self) -> None:
        """Close the source."""
        await self._batches.aclose()

    async def batches(self, take: Take) -> Batches:
        """Yield the batch that was read, and then the others, as `Source.batches` says."""
        first, self._first = self._first, None
        if first is not None:
            yield first
        self._take = take
        async with aclosing(self._batches) as batches:
            async for batch in batches:
                yield batch
