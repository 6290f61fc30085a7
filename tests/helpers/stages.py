"""Helpers that pass batches of events through one stage in the processing of a stream, such as a translation."""

from collections.abc import Iterable

from gateway.call.responses import Stream
from gateway.call.stages import Staged


class Given:
    """A source of batches. `batches` is an iterable or an asynchronous generator."""

    def __init__(self, batches):
        self._batches = batches

    async def batches(self, _take):
        if isinstance(self._batches, Iterable):
            for batch in self._batches:
                yield batch
        else:
            async for batch in self._batches:
                yield batch


def through(stage, batches):
    """Pass batches of events through one stage of a stream's processing. Return an asynchronous generator of the
    results.
    """
    return Staged(Stream(200, {}, Given(batches), (stage,))).batches
