"""Lends slices (parts of the balances of buckets) to the workers of a gateway.

The lender is the keeper: the process of the gateway that keeps the balances and stores the records of calls.

- The unspent part of a worker's slice is not free for other processes (`LiveBucket.leased`).
- A charge is subtracted from the bucket and from the worker's slice when the keeper reads the record of the call.
- The sums of a worker's charges are kept until the worker ends or gives the lease back, also if the worker registers
  again or another process becomes the keeper. So a record that is read later is counted once.
- If a worker's slice is too small for a call, the other workers are asked to give back what they do not need (a
  recall). When all of them have answered, the first worker may ask for a larger slice again. So a call is refused only
  if no process has anything left for it.
- If several gateways share a bucket, the lender lends from its gateway's slice of the bucket, and never more than this
  slice has. `lacking` returns what must be requested from the bank first. Workers may use the lent slices of money only
  as long as the gateway's own leases last (`Loan.until`).

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

The function returns True if the worker will answer or has just ended, and False if the message cannot be sent."""


class LeaseState(msgspec.Struct, frozen=True):
    """The state of a worker's lease of one bucket, that is, of the part of the bucket's balance that the worker may
    spend.

    The keeper (the process that keeps the balances) hands this state over to the process that replaces the keeper. The
    state includes the bucket's rule, because a bucket that is full again may have been removed from memory.
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
    balances) of money. None means that the worker may spend them until its own lease ends.
    """


class _Recall(msgspec.Struct):
    """A request to workers to give back what they do not need of a bucket's balance, because other workers need it.

    `awaited` contains the workers that have not answered yet. `waiting` contains the workers that wait for the answers.
    """

    awaited: set[str] = msgspec.field(default_factory=set)
    waiting: set[str] = msgspec.field(default_factory=set)
    awaits_gateways: bool = False
    """Whether other gateways may still give back what they do not need of the bucket."""

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
        """Return whether a worker may have slices (parts of balances): `open` or `adopt` was called for it, and `end`
        was not.
        """
        return worker in self._leases

    def open(self, worker: str) -> None:
        """Begin to lend slices (parts of balances) to a worker.

        If the worker registers again, its slices are taken back. The sums of its charges are kept, here and in the
        worker. So a record of the worker that is read later is still counted once. In its next requests, the worker
        asks again for the amounts that its calls have reserved.
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
        """Yield the amounts that this gateway must request from the quota bank before it answers the requests `asks` of
        a worker.

        If this gateway's slice of a bucket (its part of the balance) has expired, an amount of 0 is yielded, because
        any request renews the slice.
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
        """Return the sum of the slices (parts of the bucket's balance) that workers hold, without the slice `own`."""
        return bucket.leased - own.held

    def spend(self, worker: str, bucket: Bucket, amount: int) -> None:
        """Subtract the charge for a worker's call from the worker's slice (its part of the bucket's balance).

        The bucket itself is already charged.
        """
        leases, charged = self._leases.get(worker), self._quotas.bucket(bucket)
        if leases is not None and charged is not None:
            granted, spent = self._lease(worker, bucket)
            leases[bucket] = LeaseState(bucket, charged.rule, granted, spent + amount)
            self._update(bucket)

    def end(self, worker: str) -> None:
        """Take back the slices (parts of balances) of a worker that has ended.

        Call this after the charges of all of the worker's calls have been subtracted.
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
        """Continue with the leases (parts of balances) that the replaced process had granted to a worker."""
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
        """Ask the other workers to give back what they do not need of the bucket `key`, because the slice of `worker`
        is too small for a call.

        If several gateways share the bucket, the quota bank has already asked the other gateways.
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
        """Stop waiting for the other gateways, which have had enough time to give back what they do not need of a
        bucket.

        If all workers have answered too, tell the workers that wait for the bucket to ask again.
        """
        recall = self._recalls.get(bucket)
        if recall is not None and recall.awaits_gateways:
            recall.awaits_gateways = False
            self._released(bucket)

    def _answered(self, worker: str, key: Bucket) -> None:
        """Record that `worker` has answered, if it was asked to give back a part of the bucket `key`.

        When all workers that were asked have answered, tell the waiting workers to ask again.
        """
        if (recall := self._recalls.get(key)) is None:
            return
        if worker in recall.awaited:
            recall.awaited.remove(worker)
            self._released(key)

    def _released(self, key: Bucket) -> None:
        """Tell the workers that wait for the bucket to ask again. Do nothing while any worker or gateway that was asked
        to give a part back has not answered.
        """
        recall = self._recalls.get(key)
        if recall is not None and recall.is_answered:
            del self._recalls[key]
            for worker in recall.waiting:
                self.free(worker, key)
