"""Runs the stages of a stream, from the provider's events to the events for the client.

- Usually a batch passes through all stages, and to the client, in one function call. The reader of the provider's bytes
  makes this call, so that no task has to be woken for it.
- Sometimes a batch has to wait for a worker process, an `async` filter, or a client that reads slowly. Then the task of
  the call passes it on. Until then, no further bytes are read.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from gateway.call.responses import Batch, Batches, Stream, Take


class Staged:
    """Passes the batches of one stream through all its stages."""

    __slots__ = ("_rest", "_source", "_stages", "batches", "sink")

    def __init__(self, stream: Stream) -> None:
        self._source = stream.source
        self._stages = stream.stages
        self._rest: tuple[int, Batch] | None = None
        """A pair: the index of the stage that has to wait, and the batch that it has not processed. It is None if
        nothing waits. If `sink`, which comes after the stages, has to wait, the index is the number of stages.
        """
        self.sink: Take | None = None
        """A function that writes a batch to the client at once. It is None until the response has begun."""
        self.batches: Final = self._batches()
        """The batches that `sink` did not write. If the stream fails, the last batch has the error."""

    async def _batches(self) -> Batches:
        async with aclosing(self._source.batches(self._take)) as batches:
            async for batch in batches:
                waiting, self._rest = self._rest, None
                rest = self._through(0, batch) if waiting is None else self._through(*waiting, waits=True)
                async with aclosing(rest):
                    async for each in rest:
                        yield each
                        if each.fault is not None:
                            return
        for at, stage in enumerate(self._stages, 1):
            for batch in await stage.close():
                async with aclosing(self._through(at, batch)) as rest:
                    async for each in rest:
                        yield each
                        if each.fault is not None:
                            return

    def _take(self, batch: Batch) -> bool:
        """Pass a batch of events through all stages of the stream, and then to `sink`, which writes it. Return False if
        a stage or `sink` has to wait.
        """
        sink = self.sink
        if sink is None:
            return False
        for at, stage in enumerate(self._stages):
            fed = stage.feed(batch)
            if fed is None:
                self._rest = at, batch
                return False
            if not fed.events and fed.fault is None:
                return True
            batch = fed
        if batch.fault is None and sink(batch):
            return True
        self._rest = len(self._stages), batch
        return False

    async def _through(self, at: int, batch: Batch, *, waits: bool = False) -> Batches:
        """Pass a batch through the stages from index `at` on, and yield the resulting batches.

        `waits` is true if the first of these stages has already returned None for the batch. Then its method
        `feed_slowly` is called.
        """
        for number in range(at, len(self._stages)):
            stage = self._stages[number]
            fed = None if waits else stage.feed(batch)
            waits = False
            if fed is None:
                async with aclosing(stage.feed_slowly(batch)) as parts:
                    async for part in parts:
                        async with aclosing(self._through(number + 1, part)) as rest:
                            async for each in rest:
                                yield each
                                if each.fault is not None:
                                    return
                return
            if not fed.events and fed.fault is None:
                return
            batch = fed
        yield batch
