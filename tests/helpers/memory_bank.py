"""A quota bank in memory, which answers at once.

A bank keeps the balances of quotas, and grants parts of them to gateways for a time: the leases
(`gateway/money/quotas/leases.py`).
"""

from dataclasses import dataclass, field

from gateway.money.quotas.buckets import SECOND, LiveBucket
from gateway.money.quotas.leases import Lease, answer_to


@dataclass
class MemoryBank:
    """Keeps the balances of quota buckets, and leases: the parts of them that each gateway may spend.

    Times are integer nanoseconds.
    """

    lease_ns: int = 30 * SECOND
    buckets: dict = field(default_factory=dict)
    leases: dict = field(default_factory=dict)
    """Maps a bucket's name to a dict from a gateway's name to its lease."""
    ends: dict = field(default_factory=dict)
    """Maps a gateway's name to the time at which its leases end."""
    sent: dict = field(default_factory=dict)
    """The sum of the maximum costs of the calls in flight, by (gateway, bucket's name).

    A call counts from the time at which it is sent to a provider until its record has arrived.
    """
    requests: int = 0

    def exchange(self, gateway, asks, now):
        self.requests += 1
        self.ends[gateway] = now + self.lease_ns
        return [self._answer(gateway, ask, now) for ask in asks]

    def _answer(self, gateway, ask, now):
        bucket, leases = self._bucket(ask.bucket, ask.rule, now)
        bucket.accrue(now)
        own = leases.get(gateway, Lease())
        if ask.rule.kind != "money":
            # the records of calls have no charges of rate limits
            bucket.charge(ask.bucket, ask.spent - own.spent, now)
            own = own._replace(spent=ask.spent)
        elsewhere = sum(lease.held for other, lease in leases.items() if other != gateway)
        lease, answer = answer_to(ask, bucket, own, elsewhere, len(self.ends))
        if lease is None:
            leases.pop(gateway, None)
        else:
            leases[gateway] = lease
        return answer

    def _bucket(self, name, rule, now):
        bucket = self.buckets.setdefault(name, LiveBucket(rule, rule.capacity, 0, now))
        return bucket, self.leases.setdefault(name, {})

    def record(self, gateway, charges, now):
        """Charge a call whose record has arrived. `charges` is a dict from a bucket's name to an amount."""
        for name, amount in charges.items():
            self.buckets[name].charge(name, amount, now)
            lease = self.leases[name].get(gateway, Lease())
            self.leases[name][gateway] = lease._replace(spent=lease.spent + amount)

    def expire(self, now):
        """Take back the leases of gateways that have sent no request to the bank for `lease_ns`."""
        for gateway in [one for one, end in self.ends.items() if end <= now]:
            del self.ends[gateway]
            for name, leases in self.leases.items():
                if gateway in leases:
                    granted, spent = leases[gateway]
                    leases[gateway] = Lease(min(granted, spent + self.sent.get((gateway, name), 0)), spent)

    def refill(self, name, rule, amount, now):
        bucket, _ = self._bucket(name, rule, now)
        bucket.accrue(now)
        bucket.charge(name, -min(amount, rule.capacity - bucket.balance), now)
