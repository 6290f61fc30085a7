"""The laws (rules) for every observer: it must accept records and events of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

from gateway.contract.errors import PluginFailed
from gateway.contract.flag import Usage
from gateway.contract.hooks import Hook
from gateway.contract.plugin_hooks import OBSERVER_SECONDS
from gateway.contract.record import Record
from gateway.testkit.laws.law import Broken, Law, reason_of, require

OK: Final = Record(
    id="req_1",
    session_id="s1",
    at=1_795_435_200.0,
    identity="ada@example.com",
    provider="bedrock",
    model="us.anthropic.claude-haiku-4-5-20251001-v1:0",
    api="openai_chat",
    upstream_api="bedrock_converse",
    operation="generate",
    stream=True,
    status=200,
    outcome="ok",
    error="",
    error_native="",
    usage=Usage(input=100, output=20, cache_read=7, cache_write_5m=5, cache_write_1h=3, reasoning=2),
    reported=True,
    cost=1_234_567,
    cost_basis="bedrock/us.anthropic.claude-haiku-4-5",
    estimated=False,
    stop="end_turn",
    tools=("get_weather",),
    duration_ms=1500.0,
    first_event_ms=250.0,
    attempts=1,
    dropped=("/logit_bias",),
    agent="OpenAI/Python",
)
"""The record of a successful call."""
QUOTA_EVENT: Final = {
    "event": "quota.nearly_used", "at": 1_795_435_200.0, "bucket": "daily:ada@example.com", "definition": "daily",
    "capacity_usd": 5.0, "balance_usd": 0.9, "used": 0.82, "on_exceed": "reject", "full_at": 1_795_500_000.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ObserverSubject:
    """An observer's hooks by name: `seen`, and `seen_event` if the observer has it."""

    hooks: Mapping[str, Hook]


def records() -> dict[str, dict[str, Any]]:
    """Return records of calls. The key of each record describes what happened to the call."""
    ok = OK.as_dict()
    refused = {
        "outcome": "refused",
        "status": 403,
        "error": "permission",
        "provider": "",
        "model": "",
        "session_id": "",
    }
    unknown = {"cost_usd": None, "first_event_ms": None, "reported": False, "estimated": True}
    return {
        "a successful call": ok,
        "a call without tokens, a cost and a first event": ok | unknown,
        "a refused call": ok | unknown | refused | {"stream": False, "tools": [], "dropped": [], "parts": []},
        "a call of a newer gateway, with a member more": ok | {"new_member": {"a": [1]}},
    }


def every_record_is_taken(subject: ObserverSubject) -> None:
    for what, record in records().items():
        _take(subject.hooks["seen"], record, what)


def a_record_comes_twice(subject: ObserverSubject) -> None:
    for _ in range(2):
        _take(subject.hooks["seen"], OK.as_dict(), "the same record twice")


def every_event_is_taken(subject: ObserverSubject) -> None:
    if (hook := subject.hooks.get("seen_event")) is not None:
        _take(hook, dict(QUOTA_EVENT), "the event quota.nearly_used")
        _take(hook, {"event": "of.a.newer.gateway", "at": 1.0}, "an event of a newer gateway")


def _take(hook: Hook, given: dict[str, Any], what: str) -> None:
    began = perf_counter()
    try:
        hook.call(given)
    except PluginFailed as failed:
        raise Broken(reason_of(failed), what) from None
    seconds = perf_counter() - began
    require(seconds < OBSERVER_SECONDS, f"{hook.name} took {seconds:.1f} s, in which no other record is taken", what)


OBSERVER_LAWS: Final[tuple[Law[ObserverSubject], ...]] = (
    Law("a record of every kind of call is taken", every_record_is_taken),
    Law("the same record is taken twice", a_record_comes_twice),
    Law("an event of every kind is taken", every_event_is_taken),
)
