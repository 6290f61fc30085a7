"""Tests of automatic cache marks: how long a session's last call is remembered, and which settings switch marks on."""

from types import SimpleNamespace

import pytest

from gateway.call.auto_caching import is_on, is_priced, lifetime_at
from gateway.call.middleware import auto_cache
from gateway.call.middleware.auto_cache import LastCalls
from gateway.call.middleware.quota import _with_cache
from gateway.config.model import Provider
from gateway.contract.flag import Caps, Usage
from gateway.money.quotas.estimate import Size


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def conversation(name):
    return "ada@example.com", name, "p", "m"


@pytest.mark.parametrize(("lifetime", "seconds"), [("5m", 300), ("1h", 3600)])
def test_a_call_is_recent_for_the_lifetime_of_an_entry(lifetime, seconds):
    clock = Clock()
    last = LastCalls(clock)
    assert not last.may_mark(conversation("a"), lifetime)
    last.put(conversation("a"), clock(), lifetime)
    clock.now += seconds - 1
    assert last.may_mark(conversation("a"), lifetime)
    assert not last.may_mark(conversation("b"), lifetime)
    clock.now += 1
    assert not last.may_mark(conversation("a"), lifetime)


def test_the_conversation_whose_last_call_is_oldest_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(auto_cache, "MAX_REMEMBERED", 2)
    last = LastCalls(Clock())
    for name in ("a", "b", "a", "c"):
        last.put(conversation(name), 1000.0, "5m")
    assert [last.may_mark(conversation(name), "5m") for name in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    ("setting", "has_marks", "expected"),
    [(False, False, False), (True, False, True), (True, True, False), ("all", False, True), ("all", True, True)],
)
def test_the_setting_decides_by_what_the_clients_api_can_say(setting, has_marks, expected):
    assert is_on(Provider("p", "https://p", auto_cache=setting), has_marks=has_marks) is expected


def price(**units):
    return SimpleNamespace(unit=units.get)


@pytest.mark.parametrize(
    ("priced", "expected"),
    [
        (None, True),
        (price(), True),
        (price(input=1, cache_read=1, cache_write_5m=1), True),
        (price(input=1, cache_read=1, cache_write_1h=1), False),
        (price(input=1, cache_write_5m=1), False),
    ],
)
def test_a_known_cost_must_stay_known(priced, expected):
    assert is_priced(priced, "5m") is expected


def test_an_hour_is_asked_for_only_where_the_model_has_it():
    hour = Provider("p", "https://p", auto_cache_ttl="1h")
    assert [lifetime_at(hour, Caps(cache_ttl=can)) for can in (True, False)] == ["1h", "5m"]


@pytest.mark.parametrize(
    ("ttl", "has_marks", "expected"), [("1h", False, True), ("1h", True, False), ("5m", False, False)]
)
def test_a_reservation_covers_writes_for_an_hour_if_marks_may_ask_for_them(ttl, has_marks, expected):
    provider = Provider("p", "https://p", auto_cache=True, auto_cache_ttl=ttl)
    offer = SimpleNamespace(provider=provider, caps=Caps(cache_points=True, cache_ttl=True))
    flag = SimpleNamespace(has_cache_marks=has_marks)
    call = SimpleNamespace(flag=flag, candidates=[SimpleNamespace(offer=offer)])
    assert _with_cache(call, Size(1, 1)).caches is expected
    assert _with_cache(call, Size(1, 1, caches=True)).caches is True


WRITES, READS = Usage(cache_write_5m=5000), Usage(cache_read=5000, cache_write_5m=500)


@pytest.mark.parametrize(
    ("usages", "expected"),
    [
        ([WRITES, WRITES], True),
        ([WRITES] * 3, False),
        ([WRITES, WRITES, READS, WRITES], True),
        ([WRITES, Usage(cache_read=500, cache_write_5m=5000), WRITES], False),  # only the tools are found again
        ([Usage(input=100)] * 4, True),
    ],
)
def test_marks_that_only_cost_money_end(usages, expected):
    clock = Clock()
    last = LastCalls(clock)
    for usage in usages:
        last.put(conversation("a"), clock(), "5m")
        last.learn(conversation("a"), usage, "5m")
    assert last.may_mark(conversation("a"), "5m") is expected
    clock.now += 300
    last.put(conversation("a"), clock(), "5m")  # after a pause, marks are tried again
    assert last.may_mark(conversation("a"), "5m")


def test_a_call_that_is_forgotten_teaches_nothing():
    last = LastCalls(Clock())
    last.learn(conversation("a"), WRITES, "5m")
    assert not last.may_mark(conversation("a"), "5m")
