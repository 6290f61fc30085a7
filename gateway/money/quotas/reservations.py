"""The amounts that a call asks for (`Claim`) and holds (`Reservation`) in the buckets of a ledger."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.money.quotas.bucket_chains import Links
from gateway.money.quotas.buckets import Charge, LiveBucket, Rule


class Claim(NamedTuple):
    """An amount that a call reserves in a bucket, or in a chain of buckets, before the call is sent."""

    bucket: str
    rule: Rule
    """The rule of a new bucket. An existing bucket keeps its own rule until the next `Ledger.reload`."""
    amount: int
    overdraft: Sequence[tuple[str, Rule]] = ()
    """The buckets of the chain after `bucket`, in the order in which they are charged. Each pays what the bucket before
    it cannot pay. A claim for a single bucket has none.
    """

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of the buckets in which the claim reserves its amount, in the order in which they are charged."""
        return self.bucket, *(name for name, _ in self.overdraft)


@dataclass(slots=True)
class Reservation:
    """The amounts that one call has reserved in the buckets of one ledger, until they are charged or released."""

    parts: Sequence[tuple[str, LiveBucket, int]] = field(repr=False)
    """The reserved amount of each bucket. Each bucket occurs once."""
    chains: Sequence[Links] = field(repr=False, default=())
    notices: tuple[tuple[str, int], ...] = ()
    """Pairs (name, used percentage) of the buckets that were nearly used up when the call began."""
    charges: tuple[Charge, ...] | None = None
    """The charges of the call. The value is None until the reservation is charged or released."""


class Part(NamedTuple):
    """An amount that a call has used and that is charged to some of its buckets, such as the tokens of one attempt."""

    amount: int
    only: Container[tuple[str, ...]]
    """The chains of buckets to charge, each as a tuple of bucket names. A single bucket is a chain of one."""
    estimated: bool = False
