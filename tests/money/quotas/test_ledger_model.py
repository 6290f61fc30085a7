"""Reserve, settle, refill, reload, restart and time in any order, against a model in fractions."""

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gateway.money.quotas.ledger import SECOND, Charge, Claim, Exceeded, Ledger, Rule

NAMES = ("a", "b")
BUCKETS = ("a:x", "a:y", "b")
RULES = st.builds(
    Rule,
    st.none(),
    st.integers(0, 50),
    st.integers(0, 40),
    st.sampled_from([SECOND, 60 * SECOND, 7 * SECOND]),
    st.booleans(),
)


def named(name, rule):
    return Rule(name, rule.capacity, rule.amount, rule.period, rule.notify)


class Model:
    """One bucket, exactly: a fraction that grows with time."""

    def __init__(self, rule, now):
        self.rule, self.at = rule, now
        self.balance, self.reserved, self.held = Fraction(rule.capacity), 0, 0

    def accrue(self, now):
        self.balance += Fraction(self.rule.amount * (now - self.at), self.rule.period)
        self.at = now
        self.balance = min(self.balance, Fraction(self.rule.capacity))

    def changed(self, rule, now):
        self.accrue(now)
        if rule != self.rule and rule.period != self.rule.period:
            self.balance = Fraction(self.balance.__floor__())
        self.rule = rule
        self.accrue(now)


class Quotas(RuleBasedStateMachine):
    held = Bundle("held")

    def __init__(self):
        super().__init__()
        self.ledger, self.now, self.generation = Ledger(), 0, 0
        self.rules = {name: Rule(name, 20, 5, SECOND) for name in NAMES}
        self.model, self.gone, self.last, self.highest_cost = {}, {}, {}, 0

    def bucket(self, name):
        model = self.model.get(name)
        if model is None:
            model = self.model[name] = Model(self.rules[name[0]], self.now)
        model.accrue(self.now)
        return model

    @rule(milliseconds=st.integers(0, 20_000))
    def time_passes(self, milliseconds):
        self.now += milliseconds * SECOND // 1000

    @rule(target=held, names=st.sets(st.sampled_from(BUCKETS), min_size=1), amount=st.integers(0, 30))
    def reserve(self, names, amount):
        names = sorted(name for name in names if name[0] in self.rules)
        expected = [self.bucket(name) for name in names]
        open_ = all(model.balance.__floor__() - model.reserved > 0 or model.rule.notify for model in expected)
        try:
            held = self.ledger.reserve([Claim(name, self.rules[name[0]], amount) for name in names], self.now)
        except Exceeded:
            assert not open_
            return None
        assert open_
        for model in expected:
            model.reserved += amount
            model.held += 1
        return {"held": held, "parts": list(zip(names, expected, strict=True)), "amount": amount, "done": None}

    @rule(call=held, part=st.fractions(0, 1))
    def settle(self, call, part):
        if call is None:
            return
        cost = int(call["amount"] * part)
        charges = self.ledger.charge(call["held"], cost, self.now)
        if call["done"] is not None:
            assert charges == call["done"]
            return
        call["done"] = charges
        wanted = []
        for name, model in call["parts"]:
            model.reserved -= call["amount"]
            model.held -= 1
            if cost and (self.model.get(name) is model or self.gone.get(name) is model):
                model.accrue(self.now)
                model.balance -= cost
                self.highest_cost = max(self.highest_cost, cost)
                wanted.append((name, cost, model.balance.__floor__()))
        assert [charge[:3] for charge in charges] == wanted
        self.last |= {charge.bucket: charge for charge in charges}

    @rule(name=st.sampled_from(BUCKETS), amount=st.integers(0, 30))
    def refill(self, name, amount):
        if name[0] not in self.rules:
            return
        model = self.bucket(name)
        added = max(0, min(amount, model.rule.capacity - model.balance.__floor__()))
        charge = self.ledger.refill(name, self.rules[name[0]], amount, self.now)
        assert charge.amount == -added
        model.balance = min(model.balance + added, Fraction(model.rule.capacity))
        self.last[name] = charge

    @rule(definition=st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, RULES)))
    def reload(self, definition):
        self.rules = {name: named(name, rule) for name, rule in definition.items()}
        self.ledger.reload(self.rules, self.now)
        both, self.model, self.gone = self.gone | self.model, {}, {}
        for name, model in both.items():
            if name[0] in self.rules:
                self.model[name] = model
                model.changed(self.rules[name[0]], self.now)
                continue
            self.last.pop(name, None)
            model.accrue(self.now)
            if model.reserved or model.held or model.balance < model.rule.capacity:
                self.gone[name] = model

    @rule()
    def look(self):
        for level in self.ledger.levels(self.now):
            assert level.reserved >= 0
        assert all(used >= 0 for used in self.ledger.used(self.now).values())

    @rule()
    def restart(self):
        """Restore the last charges; reservations are lost."""
        stored = [Charge(name, 0, *self.left(name), self.now / SECOND) for name in self.model]
        self.ledger = Ledger()
        for charge in stored:
            self.ledger.restore(
                charge.bucket, self.rules[charge.bucket[0]], charge.balance, charge.remainder, charge.at
            )
        old, self.model, self.gone = self.model, {}, {}
        for name, model in old.items():
            fresh = self.model[name] = Model(model.rule, self.now)
            fresh.balance = model.balance

    def left(self, name):
        model = self.bucket(name)
        whole = model.balance.__floor__()
        return whole, int((model.balance - whole) * model.rule.period)

    @invariant()
    def the_ledger_has_what_the_model_has(self):
        live = {level.bucket: level for level in self.ledger.levels(self.now)}
        for name in BUCKETS:
            if name[0] not in self.rules:
                assert name not in live
                continue
            model = self.model.get(name)
            level = self.ledger.level(name, self.rules[name[0]], self.now)
            if model is None:
                assert level.balance == level.rule.capacity
                continue
            model.accrue(self.now)
            assert (level.balance, level.reserved) == (model.balance.__floor__(), model.reserved)
            if name not in live:
                # a full bucket that was forgotten is as good as new
                del self.model[name]


TestQuotas = Quotas.TestCase
TestQuotas.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
