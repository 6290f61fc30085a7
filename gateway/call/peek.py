"""Waits for the first events of a provider's stream before the response is returned.

If the stream fails before it has an event for the client, another candidate (model of a provider) can still serve the
call. To know this, the stages of the stream, such as a translation, must run here: a translation may make no event from
the provider's first events.

The first batch of events is kept until the stream is consumed. Later batches are passed directly to the consumer.
"""

from __future__ import annotations

from contextlib import aclosing

from gateway.call.responses import Batch, Batches, Stream, Take
from gateway.call.stages import Staged
from gateway.contract.errors import GatewayError


class Peeked:
    """The source of a stream whose first batch can be read early. `failure` reads that batch, and `batches` later
    yields it first.
    """

    __slots__ = ("_first", "_staged")

    def __init__(self, stream: Stream) -> None:
        self._staged = Staged(stream)
        self._first: Batch | None = None

    async def failure(self) -> GatewayError | None:
        """Wait for the first batch of events. Return the error if the stream failed before any event, and None
        otherwise.
        """
        try:
            first = self._first = await anext(self._staged.batches, None)
        except GatewayError as error:
            return error
        return None if first is None or first.events else first.fault

    async def close(self) -> None:
        """Close the stream: its stages, and the source that reads the provider's reply."""
        await self._staged.batches.aclose()

    async def batches(self, take: Take) -> Batches:
        """Yield the first batch and then the other batches, except those that `take` passes on (see
        `Source.batches`).
        """
        first, self._first = self._first, None
        if first is not None:
            yield first
        self._staged.sink = take
        try:
            async with aclosing(self._staged.batches) as batches:
                async for batch in batches:
                    yield batch
        except GatewayError as error:
            yield Batch((), error)
