"""The slices that the workers of a gateway hold of its buckets (`leases.py`). The gateway's keeper process lends them.

- What a worker holds and has not spent is not free (`LiveBucket.leased`).
- A charge reaches a bucket once: with the record of its call. Then it is spent from the worker's slice too.
- If a worker has too little while others hold slices, these are recalled. When all have answered, the worker may ask
  again. So a call is refused only if no process has anything left for it.

This module does no I/O. `gateway.process.workers` talks to the workers, and `gateway.call.spools` reads their records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from gateway.money.quotas.book import Quotas
from gateway.money.quotas.buckets import Bucket, Rule
from gateway.money.quotas.leases import Answer, Ask, Lease, NotOpen, answer_to

Tell = Callable[[str, Bucket], None]
"""A function that tells a worker something about a bucket. The worker is given by the name of its spool."""


class LeaseState(msgspec.Struct, frozen=True):
    """A lease of one worker, for the process that replaces the keeper."""

    bucket: Bucket
    rule: Rule
    granted: int
    spent: int


class _Recall(msgspec.Struct):
    """The workers from which a bucket is recalled and that have not answered, and the workers that wait for them."""

    awaited: set[str] = msgspec.field(default_factory=set)
    waiting: set[str] = msgspec.field(default_factory=set)


class Lender:
    """Lends amounts of the buckets of `quotas` to workers.

    `recall` tells a worker to give back what it does not need. `free` tells a worker that it may ask again.
    """

    def __init__(self, quotas: Quotas) -> None:
        self.recall: Tell = lambda _worker, _bucket: None
        self.free: Tell = lambda _worker, _bucket: None
        self._quotas = quotas
        self._leases: dict[str, dict[Bucket, Lease]] = {}
        self._recalls: dict[Bucket, _Recall] = {}

    def open(self, worker: str, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Begin to lend to a worker, and answer its first asks."""
        self._leases.setdefault(worker, {})
        return self.exchange(worker, asks)

    def exchange(self, worker: str, asks: Sequence[Ask]) -> Sequence[Answer]:
        """Answer a worker. Raises `NotOpen` if the worker must open first."""
        if worker not in self._leases:
            raise NotOpen
        return [self._answer(worker, ask) for ask in asks]

    def spend(self, worker: str, bucket: Bucket, amount: int) -> None:
        """Count what a call of a worker was charged. The amount has been taken from the bucket."""
        leases = self._leases.get(worker)
        if leases is not None:
            lease = leases.get(bucket, Lease())
            leases[bucket] = lease._replace(spent=lease.spent + amount)
            self._update(bucket)

    def end(self, worker: str) -> None:
        """Take back what a worker holds, because it has ended and all its records are applied."""
        for bucket in self._leases.pop(worker, {}):
            self._update(bucket)
            self._released(bucket)
        for bucket in [bucket for bucket, recall in self._recalls.items() if worker in recall.awaited | recall.waiting]:
            self._recalls[bucket].waiting.discard(worker)
            self._answered(worker, bucket)

    def states(self, worker: str) -> Sequence[LeaseState]:
        """Return the leases of a worker."""
        leases = self._leases.get(worker, {}).items()
        return [
            LeaseState(key, bucket.rule, *lease)
            for key, lease in leases
            if (bucket := self._quotas.bucket(key)) is not None
        ]

    def adopt(self, worker: str, states: Sequence[LeaseState]) -> None:
        """Continue with the leases that the replaced process had granted to a worker."""
        self._leases[worker] = {state.bucket: Lease(state.granted, state.spent) for state in states}
        for state in states:
            self._quotas.shared_bucket(state.bucket, state.rule)
            self._update(state.bucket)

    def _answer(self, worker: str, ask: Ask) -> Answer:
        key = ask.key
        bucket, leases = self._quotas.shared_bucket(key, ask.rule), self._leases[worker]
        before = leases.get(key, Lease())
        others = bucket.leased - before.held
        lease, answer = answer_to(ask, bucket, before, others + bucket.reserved, len(self._leases))
        if lease is None:
            leases.pop(key, None)
        else:
            leases[key] = lease
        self._update(key)
        if (lease or Lease()).held < before.held:
            self._released(key)
        self._answered(worker, key)
        if answer.is_refused:
            self._refused(worker, key)
        # the workers wait for other workers only
        return msgspec.structs.replace(answer, elsewhere=others)

    def _update(self, key: Bucket) -> None:
        """Count in the bucket what workers hold of it."""
        if (bucket := self._quotas.bucket(key)) is not None:
            bucket.leased = sum(leases[key].held for leases in self._leases.values() if key in leases)

    def _refused(self, worker: str, key: Bucket) -> None:
        """Recall the bucket from the other workers, for a worker that has too little."""
        holders = self._holders(key) - {worker}
        recall = self._recalls.setdefault(key, _Recall())
        recall.waiting.add(worker)
        for holder in holders - recall.awaited:
            recall.awaited.add(holder)
            self.recall(holder, key)

    def _holders(self, key: Bucket) -> set[str]:
        return {name for name, leases in self._leases.items() if key in leases and leases[key].held}

    def _answered(self, worker: str, key: Bucket) -> None:
        """Note that a worker has given back what it does not need. When all have, the waiting workers may ask again."""
        if (recall := self._recalls.get(key)) is None:
            return
        was_awaited = worker in recall.awaited
        recall.awaited.discard(worker)
        if was_awaited and not recall.awaited:
            self._released(key)

    def _released(self, key: Bucket) -> None:
        """Tell the workers that were refused that a part of the bucket is free."""
        recall = self._recalls.get(key)
        if recall is not None and not recall.awaited:
            del self._recalls[key]
            for worker in recall.waiting:
                self.free(worker, key)
