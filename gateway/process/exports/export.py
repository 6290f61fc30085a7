"""Copies the calls of a store to a destination, object by object, each call exactly once.

- `store/exports.py` keeps the position of each export, and the name of the object that is being written.
- After a crash, this object is written again under the same name, unless it is complete. A complete object is left as
  it is, because some of its calls may have expired since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from time import sleep
from typing import Final, NamedTuple, Protocol

from gateway.config.exporters import Exporter
from gateway.process.exports.formats import ENCODERS, SUFFIXES
from gateway.store.captured import CapturedBodies
from gateway.store.exports import ROWS_AT_ONCE, ExportStore, Numbered, Position

MAX_BYTES: Final = 32 * 1024 * 1024
"""Number of bytes of encoded calls, before compression, after which an exported object (a file) is complete. This
limits the memory of an export.
"""
PAUSE_SECONDS: Final = 0.005
"""Seconds for which the thread that encodes calls pauses after each `ROWS_AT_ONCE` calls, so that it does not slow down
the event loop.
"""
SETTLE_SECONDS: Final = 2.0
"""Seconds for which an export with bodies waits after it has found the newest call, because the bodies of a call are
stored a moment after the call.
"""
DIGITS: Final = 12
"""Minimum number of digits of a number in an object's name."""

BodiesOf = Callable[[str], CapturedBodies | None]
"""A function that takes the id of a call and returns its stored bodies, or None if there are none. It may block."""


class ExportFailed(Exception):
    """The error for an object that could not be written. The message names the destination and the cause."""


class Target(Protocol):
    """A destination of exported objects, such as a folder or a bucket in S3."""

    async def put(self, name: str, data: bytes, *, again: bool) -> None:
        """Write an object. When this returns, the object is complete and durable.

        `again` is true if an object of this name may exist. An existing object is complete, and is left as it is.
        Raises `ExportFailed` if the object cannot be written.
        """

    async def close(self) -> None:
        """Close the connections to the destination."""


class Batch(NamedTuple):
    """One exported object (a file): its name, its content, and the number of calls in it."""

    name: str
    last: int
    """The number of the last call, or 0 if there are no calls."""
    calls: int
    data: bytes


class Export:
    """The export of a store's calls to one destination.

    `bodies_of` returns the stored bodies of a call. If bodies are not exported, `bodies_of` is None.
    """

    def __init__(self, exporter: Exporter, store: ExportStore, target: Target, bodies_of: BodiesOf | None) -> None:
        self._exporter = exporter
        self._store = store
        self._target = target
        self._bodies_of = bodies_of if exporter.bodies else None
        self.waiting = 0
        """Upper bound of the number of calls that were waiting to be exported when the last object was begun."""
        self._is_ended = False

    def end(self) -> None:
        """Ask the thread that encodes calls to stop before the end of its object. The next export encodes this object
        again, from its beginning.
        """
        self._is_ended = True

    async def all(self, exported: Callable[[int], None]) -> None:
        """Export all calls that are in the store now.

        The calls are written to objects (files). After each object, `exported` is called with the number of calls in
        it.

        Raises `ExportFailed` or `StoreFailed`.
        """
        newest = await self._store.newest()
        if self._bodies_of is not None:
            await asyncio.sleep(SETTLE_SECONDS)
        while calls := await self.step(newest):
            exported(calls)

    async def step(self, newest: int) -> int:
        """Write the next object of exported calls. Return the number of its calls, or 0 if no call is left to export.

        `newest` is the row number of the last call that may be exported.

        Raises `ExportFailed` or `StoreFailed`. After such an error, the next step continues with the same object.
        """
        name = self._exporter.name
        position = await self._store.position(name)
        self.waiting = max(0, newest - position.n)
        if position.object:
            return await self._again(position)
        batch = await self._batch(position.n, newest, self._exporter.limit, MAX_BYTES)
        if not batch.calls:
            return 0
        planned = await self._store.plan(name, position.n, batch.last, batch.name)
        if planned.object != batch.name:
            # another process has exported these calls, or exports them now
            return await self._again(planned) if planned.object else batch.calls
        await self._target.put(batch.name, batch.data, again=False)
        await self._store.complete(name, batch.name)
        return batch.calls

    async def _again(self, position: Position) -> int:
        """Finish the object that another process or an interrupted export has begun.

        If the object is already complete at the destination, it is left as it is. Return the number of calls in the
        object. If the object has no calls any more, return 1, because the caller takes 0 for the end of the export.
        """
        batch = await self._batch(position.n, position.until, position.until, None)
        if batch.calls:
            await self._target.put(position.object, batch.data, again=True)
        await self._store.complete(self._exporter.name, position.object)
        return max(1, batch.calls)

    async def _batch(self, after: int, until: int, limit: int, most_bytes: int | None) -> Batch:
        return await self._store.read(after, until, limit, partial(self.encode, most_bytes=most_bytes))

    def encode(self, calls: Iterable[Numbered], most_bytes: int | None) -> Batch:
        """Encode `calls` one by one until the object's size has reached `most_bytes`, and return the object.

        If `most_bytes` is None, all calls are encoded. Runs in a thread. Raises `ExportFailed` if `end` was called
        meanwhile.
        """
        encoder = ENCODERS[self._exporter.format]()
        count = first = last = 0
        ids = sha256()
        for number, record in calls:
            encoder.add(number, record, None if self._bodies_of is None else self._bodies_of(record.id))
            ids.update(record.id.encode("utf-8", "replace") + b"\0")
            first, last, count = first or number, number, count + 1
            if most_bytes is not None and encoder.size >= most_bytes:
                break
            if count % ROWS_AT_ONCE == 0:
                if self._is_ended:
                    raise ExportFailed("the export was ended")
                sleep(PAUSE_SECONDS)
        name = object_name(first, last, ids.hexdigest(), SUFFIXES[self._exporter.format])
        return Batch(name, last, count, encoder.finish() if count else b"")


def object_name(first: int, last: int, ids: str, suffix: str) -> str:
    """Return the name of an object: the number of its first call, the number of its last call, a hash, and a suffix.

    `ids` is the hash of the ids of all its calls. The hash is needed because the numbers are not unique: two gateways
    may have the same numbers, and numbers of deleted calls are used again.
    """
    return f"irisgate-export-{first:0{DIGITS}}-{last:0{DIGITS}}-{ids[:DIGITS]}{suffix}"
