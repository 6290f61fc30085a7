"""A bank in memory, which answers at once. A bank keeps the balances of quotas, and grants leases to gateways
(`gateway/money/quotas/leases.py`).
"""

from dataclasses import dataclass, field

from gateway.money.quotas.buckets import SECOND, LiveBucket
from gateway.money.quotas.leases import Lease, answer_to


@dataclass
class MemoryBank:
    """Keeps the buckets, and the leases of each gateway. Times are integer nanoseconds."""

    lease_ns: int = 30 * SECOND
    buckets: dict = field(default_factory=dict)
    leases: dict = field(default_factory=dict)
    """The leases of each bucket: by the bucket's name, and then by the gateway's."""
    ends: dict = field(default_factory=dict)
    """The time at which the leases of each gateway end."""
    sent: dict = field(default_factory=dict)
    """The sum of the maximum costs of the calls that a gateway has sent to providers and not yet recorded, by (gateway,
    bucket's name).
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
        """Take back the leases of gateways from which the bank has had no request for the duration of a lease
        (`lease_ns`).
        """
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
