"""The response to a call: either a complete body, or a stream of events.

- The events of a stream come in batches, which pass through stages. A stage, such as the translation, replaces each
  batch by another one. The middlewares of the chain add the stages, and `stages.py` runs them.
- Immutable objects that are made for each batch are msgspec structs. Making a dataclass or a named tuple takes three
  times as long.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from gateway.contract.errors import GatewayError
from gateway.contract.flag import Event


class Batch(msgspec.Struct, frozen=True):
    """Events from one read of the provider's reply. They are sent to the client in one write."""

    events: Sequence[Event]
    fault: GatewayError | None = None
    """The failure of the provider or a plugin after these events. It is None if there was none. A batch with a failure
    is the last batch.
    """
    costly: bool = False
    """Whether an event takes so long to read that a worker process reads it (`upstream/process_pool.py`)."""


NO_EVENTS: Final = Batch(())

Batches = AsyncGenerator[Batch, None]
Take = Callable[[Batch], bool]
"""A function that passes a batch on to the client, if this is possible without waiting. It returns False if it has not
passed the batch on.
"""


class Source(Protocol):
    """The source of a stream, which makes the batches of events for the first stage."""

    def batches(self, take: Take) -> Batches:
        """Yield the batches of the stream, except those that `take` has passed on.

        While the source waits for bytes, it calls `take` with each new batch. It yields the batch if `take` returns
        False. Errors are not raised. In place of that, the last batch has the error.
        """


class Stage:
    """One stage of a stream, such as the translation. This base class passes all batches of events on unchanged."""

    __slots__ = ()

    def feed(self, batch: Batch) -> Batch | None:
        """Return the batch that replaces `batch`.

        Return None if something must be awaited first. The caller then calls `feed_slowly` with the same batch. If the
        returned batch has no events and no fault, the next stage does not get it.
        """
        return batch

    async def feed_slowly(self, batch: Batch) -> Batches:
        """Yield the batches that replace `batch`. This is called after `feed` has returned None."""
        yield batch

    async def close(self) -> Sequence[Batch]:
        """Return the last batches of this stage, at the end of a complete stream. Raises `GatewayError` if the stage
        fails.
        """
        return ()


class Whole(msgspec.Struct, frozen=True):
    """A response whose body is complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Stream(msgspec.Struct, frozen=True):
    """A response whose body is a stream of events."""

    status: int
    headers: Mapping[str, str]
    source: Source
    stages: tuple[Stage, ...] = ()
    """The stages, in the order in which the batches of events pass through them."""

    def through(self, stage: Stage) -> Stream:
        """Return the stream with one more stage at the end."""
        return msgspec.structs.replace(self, stages=(*self.stages, stage))


Response = Whole | Stream
