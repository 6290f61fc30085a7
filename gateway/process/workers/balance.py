"""The number of connections of each worker, in memory that all workers and their parent process (the keeper) share.

- Each worker has a slot of `SLOT_BYTES` bytes, which is one line of a processor's cache.
- A slot begins with three numbers of eight bytes each, in the machine's byte order: the number of connections, the time
  of the last sign of life in nanoseconds of the monotonic clock, and the number of calls in flight.
- A worker writes only its own slot. A number is read and written in one step, so there are no locks.
- A slot is dead if its worker has given no sign of life for `DEAD_SECONDS`, because the worker hangs or has ended. The
  other workers do not wait for such a worker to accept connections.

`accepting.py` accepts connections according to these numbers.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from time import monotonic_ns
from typing import Final

SLOT_BYTES: Final = 64
BEAT_SECONDS: Final = 0.25
"""Seconds between two signs of life of a worker."""
DEAD_SECONDS: Final = 1.0
"""Seconds without a sign of life after which a worker counts as dead."""
_NUMBERS: Final = SLOT_BYTES // 8
_CONNECTIONS, _BEAT, _CALLS = range(3)
_NO_ROOM: Final = 2**32
"""The number that a worker writes as its number of connections while it cannot accept any. It is higher than any real
number of connections, so no other worker waits for this worker.
"""
_NANOSECONDS: Final = 1_000_000_000


class Slots:
    """The memory that all workers share, with one slot for each worker.

    `descriptor` is the file descriptor of this memory (memfd_create(2)), which workers inherit.
    """

    def __init__(self, descriptor: int, count: int) -> None:
        self.descriptor: Final = descriptor
        self.count: Final = count
        self._map = mmap.mmap(descriptor, count * SLOT_BYTES)
        self._numbers = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, count: int) -> Slots:
        """Return new memory for `count` workers, none of which has given a sign of life.

        Raises `OSError` if no memory can be allocated.
        """
        with ExitStack() as unless_kept:
            descriptor = os.memfd_create("irisgate-workers")
            unless_kept.callback(os.close, descriptor)
            os.ftruncate(descriptor, count * SLOT_BYTES)
            slots = cls(descriptor, count)
            unless_kept.pop_all()
        return slots

    def write(self, slot: int, connections: int, calls: int) -> None:
        """Write a worker's numbers of connections and calls into its slot of the memory. The time is also written, as a
        sign of life.
        """
        at = slot * _NUMBERS
        self._numbers[at + _CONNECTIONS] = connections
        self._numbers[at + _CALLS] = calls
        self._numbers[at + _BEAT] = monotonic_ns()

    def clear(self, slot: int) -> None:
        """Set all numbers in a worker's slot to 0, because the worker has ended or accepts no more connections."""
        at = slot * _NUMBERS
        self._numbers[at + _BEAT] = self._numbers[at + _CONNECTIONS] = self._numbers[at + _CALLS] = 0

    def alive(self) -> Iterable[int]:
        """Return the numbers of the slots whose workers have given a sign of life in the last `DEAD_SECONDS`. A slot is
        the part of the memory that one worker writes.
        """
        oldest = monotonic_ns() - int(DEAD_SECONDS * _NANOSECONDS)
        return [slot for slot in range(self.count) if self._numbers[slot * _NUMBERS + _BEAT] > oldest]

    def connections(self, slot: int) -> int:
        return self._numbers[slot * _NUMBERS + _CONNECTIONS]

    @property
    def calls(self) -> int:
        """The number of calls in flight in all live workers."""
        return sum(self._numbers[slot * _NUMBERS + _CALLS] for slot in self.alive())

    def close(self) -> None:
        self._numbers.release()
        self._map.close()
        os.close(self.descriptor)


class Balance:
    """Tells the other workers how many connections this worker has, and compares this number with theirs.

    All numbers are in shared memory (`slots`). `slot` is the number of this worker's slot. `calls` returns the number
    of calls in flight in this worker.
    """

    def __init__(self, slots: Slots, slot: int, calls: Callable[[], int]) -> None:
        self._slots = slots
        self._slot = slot
        self._calls = calls
        self._open = 0
        self._beginning = 0
        """Number of accepted connections that are not counted in `_open` yet."""
        self._timer: asyncio.TimerHandle | None = None
        """The timer of the next sign of life. It is None while the worker does not accept connections."""
        self.has_room = True
        """Whether the process can accept connections. If it cannot, other workers do not wait for it."""

    def start(self) -> None:
        """Give signs of life at regular intervals until `stop` is called.

        They show the other workers that this worker accepts connections.
        """
        if self._timer is None:
            self._beat()

    def stop(self) -> None:
        """Give no more signs of life, because this worker accepts no more connections."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._slots.clear(self._slot)

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)
        self._write()

    def opened(self, count: int) -> None:
        """Note the number of open connections. `Connections` calls this at every change."""
        self._open = count
        self._write()

    def accepted(self) -> None:
        """Count a connection that was just accepted. `Connections` counts it too, but only a moment later (`opened`).

        `begun` must be called directly before `opened`. It removes the first count, so that the connection is not
        counted twice.
        """
        self._beginning += 1
        self._write()

    def begun(self) -> None:
        self._beginning -= 1

    def ahead(self) -> int:
        """Return how many connections more this worker has than the live worker with the fewest.

        The number is 0 or less if no other worker has fewer connections, or if no other worker is alive.
        """
        others = [self._slots.connections(slot) for slot in self._slots.alive() if slot != self._slot]
        return self._open + self._beginning - min(others) if others else 0

    def _write(self) -> None:
        if self._timer is None:
            return
        connections = self._open + self._beginning if self.has_room else _NO_ROOM
        self._slots.write(self._slot, connections, self._calls())
