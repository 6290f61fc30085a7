"""Lends slices (parts of the balances of buckets) to the workers of a gateway.

The lender is the keeper: the process of the gateway that keeps the balances and stores the records of calls.

- What a worker has not spent of its slice is not free for other processes (`LiveBucket.leased`).
- When the keeper reads the record of a worker's call, it subtracts the charge from the bucket and from the worker's
  slice.
- The sum of a worker's charges is kept until the worker ends or gives the slice back. It is kept if the worker
  registers again, and if another process becomes the keeper. So a record that is read late is still counted once.
- If a worker's slice is too small for a call, the other workers are asked to give back what they do not need (a
  recall). When all of them have answered, the first worker may ask again. So a call is refused only if no process has
  anything left for it.
- If several gateways share a bucket, the keeper lends only from its own gateway's slice. `lacking` returns what it must
  first request from the bank. Workers may spend slices of money only until the gateway's own leases end (`Loan.until`).

This module does no I/O. `gateway.process.workers` talks to the workers, and `gateway.call.spools` reads their records.
`gateway.call.keeper` asks the bank of several gateways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.money.quotas.book import Quotas
from gateway.money.quotas.buckets import Bucket, LiveBucket, Rule
from gateway.money.quotas.leases import Answer, Ask, Lease, NotOpen, answer_to, answered
from gateway.money.quotas.slices import Want

Tell = Callable[[str, Bucket], bool]
"""A function that sends a worker a message about a bucket. The first argument is the name of the worker's spool (the
journal of its calls).

It returns True if an answer will come, or if the worker has just ended. It returns False if the message cannot be sent.
"""


class LeaseState(msgspec.Struct, frozen=True):
    """The state of a worker's slice of one bucket: the part of the bucket's balance that only this worker may spend.

    When another process becomes the keeper (which keeps the balances), it gets this state. The bucket's rule is
    included, because the new keeper may not have the bucket in memory.
    """

    bucket: Bucket
    rule: Rule
    granted: int
    spent: int

    @property
    def lease(self) -> Lease:
        return Lease(self.granted, self.spent)


class Loan(NamedTuple):
    """The answers to a worker's requests for slices (parts of balances)."""

    answers: Sequence[Answer]
    until: float | None = None
    """The time, by the machine's monotonic clock in seconds, until which the worker may spend its slices (parts of
    balances) of money.

    None if no such time applies, and only the worker's own lease limits the time.
    """


class _Recall(msgspec.Struct):
    """A recall: workers are asked to give back what they do not need of a bucket's balance, because other workers need
    it.

    `awaited` contains the workers that were asked and have not answered. `waiting` contains the workers that need more.
    """

    awaited: set[str] = msgspec.field(default_factory=set)
    waiting: set[str] = msgspec.field(default_factory=set)
    awaits_gateways: bool = False
    """Whether other gateways were asked too, and may still give back parts of the bucket's balance."""

    @property
    def is_answered(self) -> bool:
        return not self.awaited and not self.awaits_gateways


class Lender:
    """Lends parts of the balances of quotas' buckets to worker processes.

    `recall` tells a worker to give back the part that it does not need. `free` tells a worker that it may ask again.
    """

    def __init__(self, quotas: Quotas) -> None:
        self.recall: Tell = lambda _worker, _bucket: False
        self.free: Tell = lambda _worker, _bucket: False
        self._quotas = quotas
        self._leases: dict[str, dict[Bucket, LeaseState]] = {}
        self._recalls: dict[Bucket, _Recall] = {}

    def lends_to(self, worker: str) -> bool:
        """Return whether a worker may get slices (parts of balances): it was registered with `open` or `adopt`, and has
        not ended.
        """
        return worker in self._leases

    def open(self, worker: str) -> None:
        """Register a worker, so that it may get slices (parts of balances).

        If the worker was registered before, its slices are taken back, and it asks again for what its calls have
        reserved. The sums of its charges are kept. So a record that is read later is still counted once.
        """
        leases = self._leases.setdefault(worker, {})
        for key, state in leases.items():
            leases[key] = msgspec.structs.replace(state, granted=min(state.granted, state.spent))
            self._update(key)
            self._released(key)

    def exchange(self, worker: str, asks: Sequence[Ask]) -> Loan:
        """Return the answers to a worker's requests. Raises `NotOpen` if `open` was not called for the worker."""
        if worker not in self._leases:
            raise NotOpen
        slices = self._quotas.slices
        until = None if slices is None or slices.goes_on else slices.until
        return Loan([self._answer(worker, ask) for ask in asks], until)

    def lacking(self, worker: str, asks: Sequence[Ask]) -> Iterator[tuple[Bucket, Want]]:
        """Yield the amounts that this gateway must request from the quota bank, so that it can answer the requests
        `asks` of a worker.

        If the lease of this gateway's slice (its part of a balance) has ended, an amount of 0 is yielded, because any
        request to the bank renews the lease.
        """
        for ask in asks:
            bucket = self._quotas.shared_bucket(ask.key, ask.rule)
            own = self._lease(worker, ask.key)
            _, is_refused = answered(ask, bucket, own, self._others(bucket, own) + bucket.reserved, 1)
            if is_refused and bucket.can_ask:
                for need in ask.needs:
                    yield ask.key, Want(need.amount + need.beside, need.beside, need.is_partial)
            elif bucket.is_expired:
                # any request renews the leases, and with them what the worker has
                yield ask.key, Want(0, 0, is_partial=False)

    def _lease(self, worker: str, key: Bucket) -> Lease:
        state = self._leases.get(worker, {}).get(key)
        return Lease() if state is None else state.lease

    def _others(self, bucket: LiveBucket, own: Lease) -> int:
        """Return the amount that all other workers hold in slices (parts of the bucket's balance). `own` is the lease
        of the worker to leave out.
        """
        return bucket.leased - own.held

    def spend(self, worker: str, bucket: Bucket, amount: int) -> None:
        """Subtract the charge for a worker's call from the worker's slice (its part of the bucket's balance). The
        caller has already charged the bucket.
        """
        leases, charged = self._leases.get(worker), self._quotas.bucket(bucket)
        if leases is not None and charged is not None:
            granted, spent = self._lease(worker, bucket)
            leases[bucket] = LeaseState(bucket, charged.rule, granted, spent + amount)
            self._update(bucket)

    def end(self, worker: str) -> None:
        """Take back the slices (parts of balances) of a worker that has ended.

        Call this only when the charges of all calls of the worker have been subtracted.
        """
        for bucket in self._leases.pop(worker, {}):
            self._update(bucket)
            self._released(bucket)
        for bucket in [bucket for bucket, recall in self._recalls.items() if worker in recall.awaited | recall.waiting]:
            self._recalls[bucket].waiting.discard(worker)
            self._answered(worker, bucket)

    def recall_all(self, bucket: Bucket) -> None:
        """Ask all workers to give back what they do not need of a bucket, because another gateway has too little."""
        for worker in self._holders(bucket):
            self.recall(worker, bucket)

    def refilled(self, bucket: Bucket) -> None:
        """Tell all workers that a bucket was refilled."""
        for worker in self._leases:
            self.free(worker, bucket)

    def states(self, worker: str) -> Sequence[LeaseState]:
        """Return the leases of a worker (its parts of balances), for the process that replaces this one."""
        return list(self._leases.get(worker, {}).values())

    def adopt(self, worker: str, states: Sequence[LeaseState]) -> None:
        """Take over a worker from the replaced process. `states` has the worker's slices (parts of balances)."""
        self._leases[worker] = {state.bucket: state for state in states}
        for state in states:
            self._quotas.shared_bucket(state.bucket, state.rule)
            self._update(state.bucket)

    def _answer(self, worker: str, ask: Ask) -> Answer:
        key = ask.key
        bucket, leases = self._quotas.shared_bucket(key, ask.rule), self._leases[worker]
        before = self._lease(worker, key)
        others = self._others(bucket, before)
        lease, answer = answer_to(ask, bucket, before, others + bucket.reserved, len(self._leases))
        if lease is None:
            leases.pop(key, None)
        else:
            leases[key] = LeaseState(key, bucket.rule, *lease)
        self._update(key)
        if (lease or Lease()).held < before.held:
            self._released(key)
        self._answered(worker, key)
        if answer.is_refused:
            self._refused(worker, key, bucket)
        # without the reservations of this process, for which a worker need not wait
        return msgspec.structs.replace(answer, elsewhere=others + bucket.elsewhere)

    def _update(self, key: Bucket) -> None:
        """Set the bucket's `leased` to the sum of the slices (parts of its balance) that workers hold."""
        if (bucket := self._quotas.bucket(key)) is not None:
            bucket.lend(key.name, sum(self._lease(worker, key).held for worker in self._leases))

    def _refused(self, worker: str, key: Bucket, bucket: LiveBucket) -> None:
        """Ask the other workers to give back what they do not need of the bucket `key`, because `worker` needs more
        than it could get.

        If other gateways hold parts of the bucket, also wait for them. The quota bank has asked them already.
        """
        holders = self._holders(key) - {worker}
        recall = self._recalls.setdefault(key, _Recall())
        recall.waiting.add(worker)
        if bucket.elsewhere:
            recall.awaits_gateways = True
        for holder in holders - recall.awaited:
            if self.recall(holder, key):
                recall.awaited.add(holder)

    def _holders(self, key: Bucket) -> set[str]:
        return {worker for worker in self._leases if self._lease(worker, key).held}

    def gateways_answered(self, bucket: Bucket) -> None:
        """Record that the time is over in which other gateways may give back parts of a bucket's balance.

        The workers that need more are told to ask again, unless an answer of a worker is still missing.
        """
        recall = self._recalls.get(bucket)
        if recall is not None and recall.awaits_gateways:
            recall.awaits_gateways = False
            self._released(bucket)

    def _answered(self, worker: str, key: Bucket) -> None:
        """Record that `worker` has answered, if it was asked to give back a part of the bucket `key`.

        After the last answer, the workers that need more are told to ask again.
        """
        if (recall := self._recalls.get(key)) is None:
            return
        if worker in recall.awaited:
            recall.awaited.remove(worker)
            self._released(key)

    def _released(self, key: Bucket) -> None:
        """Tell the workers that need more of the bucket to ask again. Do nothing if an answer of a worker or a gateway
        is still missing.
        """
        recall = self._recalls.get(key)
        if recall is not None and recall.is_answered:
            del self._recalls[key]
            for worker in recall.waiting:
                self.free(worker, key)
