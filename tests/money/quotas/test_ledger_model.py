"""Tests that compare quotas with a model in exact fractions, for random calls, changes of the configuration, reloads,
restarts and clock changes.
"""

from datetime import datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gateway.money.quotas.book import Quotas
from gateway.money.quotas.bucket_chains import Exceeded
from gateway.money.quotas.buckets import SECOND
from gateway.money.quotas.clock import SteadyClock
from gateway.money.quotas.definitions import Quota
from gateway.money.quotas.reservations import Claim
from gateway.money.quotas.windows import Window
from gateway.store.entries import Balance, Entry, decode, encode

HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND
NAMES = ("a:<user>", "b", "c")
BUCKETS = {"a:x": "a:<user>", "a:y": "a:<user>", "b": "b", "c": "c"}
START = 1_774_600_000 * SECOND
"""The time at which the tests begin: 27 March 2026, two days before daylight saving time begins in Berlin."""
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
QUOTAS = st.builds(
    Quota,
    st.none(),
    st.integers(0, 60),
    st.integers(0, 40),
    st.sampled_from([60, 3_600, 7 * 86_400]),
    st.just(""),
    st.sampled_from(["reject", "reject", "notify"]),
) | st.builds(
    lambda name, capacity, unit, zone: Quota(name, capacity, window=Window(unit, zone)),
    st.none(),
    st.integers(0, 60),
    st.sampled_from(["hour", "day", "week", "month"]),
    st.sampled_from(ZONES),
)
CHAINS = st.lists(
    st.lists(st.sampled_from(sorted(BUCKETS)), min_size=1, max_size=3, unique=True), min_size=1, max_size=3
)


def named(name, quota):
    return Quota(name, quota.capacity, quota.amount, quota.period_seconds, quota.rate, quota.on_exceed, quota.window)


def calendar(at, window):
    """Return a value that identifies the calendar window of a time: its date, week or month, or its hour.

    An hour's value has the offset from UTC, because an hour occurs twice when clocks are set back.
    """
    local = datetime.fromtimestamp(at // SECOND, ZoneInfo(window.zone))
    return {
        "hour": (local.date(), local.hour, local.utcoffset()),
        "day": local.date(),
        "week": local.isocalendar()[:2],
        "month": (local.year, local.month),
    }[window.unit]


class Oracle:
    """A model of one bucket, computed in exact fractions. The bucket refills steadily, or is filled when a calendar
    window begins.
    """

    def __init__(self, quota, now):
        self.quota, self.at, self.balance, self.reserved = quota, now, Fraction(quota.capacity), 0
        self.stored = None

    def accrue(self, now):
        if now > self.at:
            window = self.quota.window
            if window is None:
                self.balance += Fraction(self.quota.amount * (now - self.at), self.quota.period_seconds * SECOND)
            elif calendar(self.at, window) != calendar(now, window):
                self.balance = Fraction(self.quota.capacity)
            self.at = now
        self.balance = min(self.balance, Fraction(self.quota.capacity))
        return self.balance.__floor__()

    def changed(self, quota, now):
        self.accrue(now)
        old, self.quota = self.quota, quota
        if self.balance >= old.capacity:
            self.balance = Fraction(quota.capacity)
        elif (old.period_seconds, old.window) != (quota.period_seconds, quota.window) or quota.window:
            self.balance = Fraction(self.balance.__floor__())
        self.accrue(now)

    def store(self):
        self.stored = self.quota, self.balance, self.at

    def restart(self, now):
        """Continue from the stored state. A bucket that was never stored is full."""
        self.reserved = 0
        if self.stored is None:
            self.balance, self.at = Fraction(self.quota.capacity), now
        else:
            self.quota, self.balance, at = self.stored
            self.at = min(at, now + DAY)


class Machine(RuleBasedStateMachine):
    held = Bundle("held")

    def __init__(self):
        super().__init__()
        self.wall, self.steady, self.stored, self.reports, self.fresh = START, 0, {}, [], set()
        self.quotas = {name: Quota(name, 20, 5, 60) for name in NAMES}
        self.oracle = {name: Oracle(self.quotas[definition], START) for name, definition in BUCKETS.items()}
        self.process = 0
        self.start()

    def start(self):
        self.process += 1
        clock = SteadyClock(lambda: self.wall, lambda: self.steady)
        self.book = Quotas(clock, keep=self.keep, nearly_used=self.reports.append)
        self.book.configured(self.quotas)
        self.book.restore(list(self.stored.values()))
        self.now = self.book.clock()

    def keep(self, charges):
        if not charges:
            return
        line = encode(Entry(balances=tuple(Balance(*charge.left) for charge in charges)))
        (entry,), unreadable = decode([line])
        assert not unreadable
        self.stored |= {balance.bucket: balance for balance in entry.balances}
        self.fresh |= {balance.bucket for balance in entry.balances}

    def store(self):
        for name in self.fresh:
            self.oracle[name].store()
        self.fresh.clear()

    def time(self):
        now = self.book.clock()
        assert now >= self.now
        self.now = now
        return now

    @rule(amount=st.integers(0, 3 * HOUR) | st.sampled_from([DAY, 7 * DAY, 31 * DAY]))
    def time_passes(self, amount):
        self.wall += amount
        self.steady += amount

    @rule(amount=st.sampled_from([-40 * DAY, -DAY, -HOUR, -1, 1, HOUR, DAY]))
    def the_clock_is_set(self, amount):
        self.wall = max(START, self.wall + amount)

    @rule(target=held, chains=CHAINS, amount=st.integers(0, 30))
    def reserve(self, chains, amount):
        now = self.time()
        chains = [chain for chain in chains if all(BUCKETS[name] in self.quotas for name in chain)]
        chains = list({tuple(chain): chain for chain in chains}.values())
        claims = [
            Claim(first, self.book.rule_of(first), amount, [(name, self.book.rule_of(name)) for name in more])
            for first, *more in chains
        ]
        open_ = all(self.may_begin(chain, now) for chain in chains)
        try:
            held = self.book.reserve(claims)
        except Exceeded:
            assert not open_
            return None
        assert open_
        parts = self.split(chains, amount, now, unreserved=True)
        for name, part in parts.items():
            self.oracle[name].reserved += part
        return {"held": held, "chains": chains, "parts": parts, "process": self.process, "done": False}

    def may_begin(self, chain, now):
        buckets = [self.oracle[name] for name in chain]
        left = sum(bucket.accrue(now) - bucket.reserved for bucket in buckets)
        return left > 0 or any(bucket.quota.on_exceed == "notify" for bucket in buckets)

    def split(self, chains, amount, now, *, unreserved=False):
        parts = {}
        for chain in chains:
            left = amount
            for name in chain:
                bucket = self.oracle[name]
                cover = bucket.accrue(now) - (bucket.reserved if unreserved else 0)
                all_of_it = name == chain[-1] or bucket.quota.on_exceed == "notify"
                part = left if all_of_it else min(left, max(0, cover))
                parts[name] = max(parts.get(name, 0), part)
                left -= part
        return parts

    @rule(call=held, cost=st.integers(0, 40))
    def charge(self, call, cost):
        if call is None or call["done"] or call["process"] != self.process:
            return
        call["done"] = True
        if not all(BUCKETS[name] in self.quotas for name in call["parts"]):
            # the charge of a bucket without a quota is in test_ledger.py
            self.release(call)
            return
        now = self.time()
        for name, part in call["parts"].items():
            self.oracle[name].reserved -= part
        wanted = {name: part for name, part in self.split(call["chains"], cost, now).items() if part}
        charges = self.book._money.charge(call["held"]["money"], cost, now)
        assert {charge.bucket: charge.amount for charge in charges} == wanted
        for name, part in wanted.items():
            self.oracle[name].balance -= part
        self.keep(charges)
        self.store()

    def release(self, call):
        for name, part in call["parts"].items():
            self.oracle[name].reserved -= part
        self.book._money.release(call["held"]["money"], self.time())

    @rule(name=st.sampled_from(sorted(BUCKETS)), amount=st.integers(0, 30))
    def refill(self, name, amount):
        if BUCKETS[name] not in self.quotas:
            return
        bucket = self.oracle[name]
        now = self.time()
        added = max(0, min(amount, bucket.quota.capacity - bucket.accrue(now)))
        assert self.book.refill(name, amount).amount == -added
        bucket.balance += added
        bucket.accrue(now)
        self.store()

    @rule(quotas=st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, QUOTAS)), by_restart=st.booleans())
    def edit(self, quotas, by_restart):
        self.quotas = {name: named(name, quota) for name, quota in quotas.items()}
        if by_restart:
            self.restart()
        else:
            now = self.time()
            self.book.configured(self.quotas)
            self.apply(now)

    def apply(self, now):
        for name, bucket in self.oracle.items():
            quota = self.quotas.get(BUCKETS[name])
            if quota is not None:
                bucket.changed(quota, now)
        self.store()

    @rule()
    def restart(self):
        self.start()
        for bucket in self.oracle.values():
            bucket.restart(self.now)
        self.apply(self.now)

    @rule()
    def look(self):
        now = self.time()
        for level in self.book.levels():
            assert level.reserved or level.balance < level.rule.capacity
            assert level.full_at is None or level.full_at > now / SECOND - 1
        assert all(used >= 0 for used in self.book.used().values())

    @invariant()
    def every_balance_is_the_oracles(self):
        now = self.time()
        for name, definition in BUCKETS.items():
            if definition in self.quotas:
                level, bucket = self.book.level(name), self.oracle[name]
                assert (level.balance, level.reserved) == (bucket.accrue(now), bucket.reserved), name


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


class Spender(RuleBasedStateMachine):
    """Random calls that charge exactly the cost that they have reserved, to a bucket that refills steadily and one that
    is filled each day.

    In any period, the charges to a bucket must be less than its capacity, plus the refills in the period, plus the
    highest cost of one call.
    """

    held = Bundle("held")
    most = 30

    def __init__(self):
        super().__init__()
        self.wall, self.steady, self.passed = START, 0, {"a": [], "b": []}
        self.book = Quotas(SteadyClock(lambda: self.wall, lambda: self.steady))
        window = Window("day", "Europe/Berlin")
        self.book.configured({"a": Quota("a", 50, 7, 3_600), "b": Quota("b", 50, window=window)})

    @rule(amount=st.integers(0, 9 * HOUR))
    def time_passes(self, amount):
        self.wall += amount
        self.steady += amount

    @rule(amount=st.sampled_from([-DAY, -HOUR, 1]))
    def the_clock_is_set_back_and_put_right(self, amount):
        self.wall += amount
        self.book.used()
        self.wall -= amount

    @rule(target=held, bucket=st.sampled_from(["a", "b"]), cost=st.integers(1, most))
    def reserve(self, bucket, cost):
        try:
            return bucket, cost, self.book.reserve([Claim(bucket, self.book.rules[bucket], cost)])["money"], []
        except Exceeded:
            return None

    @rule(call=held)
    def charge(self, call):
        if call is not None and not call[3]:
            bucket, cost, reservation, done = call
            done.append(True)
            now = self.book.clock()
            self.book._money.charge(reservation, cost, now)
            self.passed[bucket].append((now, cost))

    @invariant()
    def no_more_passes_than_there_is(self):
        for first in range(len(self.passed["a"])):
            some = self.passed["a"][first:]
            refill = Fraction(7 * (some[-1][0] - some[0][0]), HOUR)
            assert sum(cost for _, cost in some) < 50 + refill + self.most
        days = {}
        for at, cost in self.passed["b"]:
            day = calendar(at, Window("day", "Europe/Berlin"))
            days[day] = days.get(day, 0) + cost
        assert all(total < 50 + self.most for total in days.values())


TestSpender = Spender.TestCase
TestSpender.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
