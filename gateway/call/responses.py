"""The response to a call: a whole body, or a stream whose batches of events pass through stages.

- A stage, such as the translation, replaces each batch by another one. The middlewares of the chain add the stages, and
  `stages.py` runs them.
- Immutable objects that are made for each batch are msgspec structs, because making an instance of a dataclass or a
  named tuple takes three times as long.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from gateway.contract.errors import GatewayError
from gateway.contract.flag import Event


class Batch(msgspec.Struct, frozen=True):
    """All or some of the events from one read of the provider's reply. They are sent to the client in one write."""

    events: Sequence[Event]
    fault: GatewayError | None = None
    """The failure of the provider or a plugin after these events; None if there was none. A batch with a failure is the
    last batch."""
    costly: bool = False
    """Whether reading an event takes so long that a worker process does it (`upstream/process_pool.py`)."""


NO_EVENTS: Final = Batch(())

Batches = AsyncGenerator[Batch, None]
Take = Callable[[Batch], bool]
"""A function that passes a batch on at once. It returns False if it has not passed the batch on."""


class Source(Protocol):
    """The batches of a stream before the first stage."""

    def batches(self, take: Take) -> Batches:
        """Yield the batches of the stream.

        While the source waits for bytes, it gives a batch to `take` as soon as its bytes have come. It then yields the
        batch only if `take` returns False. An error is not raised: the last batch has it.
        """


class Stage:
    """One stage of a stream. A stage that needs to see no batch passes all of them on."""

    __slots__ = ()

    def feed(self, batch: Batch) -> Batch | None:
        """Return the batch that replaces `batch`.

        Return None if something must be awaited first. The caller then calls `feed_slowly` with the same batch. A
        returned batch without events and without a fault is passed to no further stage.
        """
        return batch

    async def feed_slowly(self, batch: Batch) -> Batches:
        """Yield the batches that replace `batch`, for which `feed` has returned None."""
        yield batch

    async def close(self) -> Sequence[Batch]:
        """Return the batches that follow the last batch of a complete stream. Raises `GatewayError` if it fails."""
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
    """The stages through which the batches pass, in this order."""

    def through(self, stage: Stage) -> Stream:
        """Return the stream with a further stage."""
        return msgspec.structs.replace(self, stages=(*self.stages, stage))


Response = Whole | Stream
