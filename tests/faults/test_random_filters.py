"""Tests of rules that hold for every call, with random clients, random providers and random plugins.

- For each call, it is chosen at random what each method of two filters and of an observer does. A method changes the
  text, holds it back, waits, refuses, answers, fails or is missing.
- If the filter `strict` fails, the call is refused. If the filter `lax` fails, the call continues. `drawn_filters.py`
  has both.
"""

import gc
import json
import re
import time
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import initialize, precondition, rule

from gateway.testkit.scenarios import Canned, Scenario, Tool
from tests.helpers import drawn_filters
from tests.helpers.drawn_filters import CAPITALS, LETTERS, PLAN, PLAYED, REFUSALS, call_plans
from tests.helpers.examples import examples
from tests.helpers.fold import fold, read_stream
from tests.helpers.outcomes import damaged_events_of
from tests.helpers.random_calls import FAULTS, MOST_CALLS, RandomCalls
from tests.helpers.waiting import eventually
from tests.helpers.wires import WIRES

DRAWN = "drawn"
"""The name of a scenario. Simulated providers do not know it, so they send their default reply."""
TEXT = ("αβ", "γδεζ", "η αβ", "γ", " δε", "ζ.")
THINKING = "γβα, ζεδ?"
PLACE = {"where": "αδ", "n": 1.5}
REPLY = Scenario(Canned(TEXT, thinking=THINKING, tools=(Tool("look", PLACE),)))
PROMPT = "αβγδεζ"
BEFORE_SENT = ("filter.open", "filter.request", "filter.headers")
DAMAGING = ("corrupt", "insert")
"""Faults that damage the bytes of a reply. A filter may be unable to read a damaged text, and then does not change it.
"""
PING_SECONDS = 0.1
"""Seconds without an event after which the gateway sends a ping. They are so few that pings are sent while a filter
waits.
"""


class FilteredCalls(RandomCalls):
    def __init__(self):
        self.patch = pytest.MonkeyPatch()
        PLAYED.clear()
        super().__init__()
        for simulated in self.opened.simulated.values():
            simulated.default = REPLY
        self.replies = {}
        """Tuples (call, reply, whether the reply is right) by the call's id, for replies that were read to the end."""
        self.faults = []
        """The fault of each call's exchange with its provider."""

    def options(self):
        self.patch.setattr("gateway.call.filters.SECONDS", drawn_filters.SECONDS)
        self.patch.setattr("gateway.call.filters.THREAD_SECONDS", drawn_filters.THREAD_SECONDS)
        self.patch.setattr("gateway.call.filter_texts.SECONDS", drawn_filters.SECONDS)
        more = {"plugins": {"strict": {"on_error": "refuse"}, "lax": {"on_error": "pass"}}}
        plugins = drawn_filters.write(Path(self.folder.name) / "plugins")
        return {"plugins": plugins, "more": more, "ping_seconds": PING_SECONDS}

    @initialize(threads=st.booleans())
    def choose_threads(self, threads):
        """Choose whether the methods of filters run in threads. Usually, methods that are not `async` run in a thread
        only for large texts.
        """
        if threads:
            self.patch.setattr("gateway.call.filter_texts.LARGE_TEXT", 1)
            self.patch.setattr("gateway.call.filtered_requests.is_large", lambda _body: True)
            self.patch.setattr("gateway.call.middleware.filters.is_large", lambda _body: True)
            self.patch.setattr("gateway.call.middleware.filters.LARGE", 0)

    @precondition(lambda self: len(self.calls) < MOST_CALLS)
    @rule(
        wire=st.sampled_from(WIRES),
        stream=st.booleans(),
        scenario=st.sampled_from([*[DRAWN] * 6, "redacted", "unicode", "error", "error_in_stream", "no_end"]),
        fault=st.none() | st.none() | FAULTS,
        plan=call_plans(),
    )
    def start(self, wire, stream, scenario, fault, plan):
        PLAYED.plans[self.started] = plan
        self.faults.append(fault)
        headers = {PLAN: str(self.started)}
        prompt = f" {PROMPT} plan {self.started}."
        self._await(self._start(wire, scenario, fault, stream=stream, prompt=prompt, headers=headers))

    def teardown(self):
        try:
            super().teardown()
        finally:
            self.patch.undo()
        if list(PLAYED.alive):  # a filter whose client has left may still sleep in its thread
            time.sleep(drawn_filters.THREAD_SECONDS)
            gc.collect()
        assert not list(PLAYED.alive)

    def _check(self, call, reply, *, right):
        call_id = reply.headers["x-request-id"]
        self.replies[call_id] = call, reply, right
        if call.is_good and call.scenario == DRAWN and right and not PLAYED.has_answered(call_id):
            text, thinking, arguments = content_of(call, reply)
            assert capitals([text, arguments]) == capitals(["".join(TEXT), PLACE])
            assert capitals(thinking) in {capitals(THINKING), capitals("")}, "not every format has thinking"

    def _is_recorded_as_right(self, record):
        return failed_late(record) or super()._is_recorded_as_right(record)

    async def _check_records(self, records):
        await eventually(lambda: all(len(PLAYED.seen[call_id]) == 1 for call_id in records))
        failing = sum(PLAYED.observer_fault(call_id) not in {"", "nap"} for call_id in records)
        # the observer's thread reports a failure after the observer has seen the record
        await eventually(lambda: self.opened.gw.lines.data.count(b'"plugin":"watcher"') >= failing)
        await self.opened.gw.log_is_written()
        entries = self.opened.gw.lines.entries("plugin.failed")
        failed = {(entry["request_id"], entry["plugin"]) for entry in entries if entry["hook"] in BEFORE_SENT}
        for call_id, record in records.items():
            failures = [entry for entry in entries if entry["request_id"] == call_id]
            check_plugins(call_id, failures, is_read=call_id in self.replies)
            if call_id in self.replies:
                call, reply, right = self.replies[call_id]
                check_reply(record, failures, call, reply, right=right)
                assert right or self.any_left or not call.is_good or failures or PLAYED.faults(call_id), reply.body
        for simulated in self.opened.simulated.values():
            for request in simulated.requests:
                number = re.search(rb"plan ([0-9]+)", request.body)
                if number and getattr(self.faults[int(number[1])], "kind", "") not in DAMAGING:
                    check_request(request, int(number[1]), failed)


def check_plugins(call_id, failures, *, is_read):
    """Check what the plugins did in one call, and that each failure of a plugin was logged once.

    `failures` are the log lines about plugins that failed in this call. If the client did not read the whole reply
    (`is_read` is False), a plugin may have been cancelled before its failure was logged.
    """
    assert len(PLAYED.seen[call_id]) == 1
    for name in LETTERS:
        assert PLAYED.count(call_id, name, "done") == PLAYED.count(call_id, name, "opened")
    observer = PLAYED.observer_fault(call_id)
    failed = Counter([("watcher", "seen")] * (observer not in {"", "nap"}))
    for name, method, fault in PLAYED.faults(call_id):
        failed[name, f"filter.{method}"] += fault != "nap" and (fault not in REFUSALS or method == "done")
    assert [entry for entry in failures if not (entry["at"] and entry["cause"])] == []
    reported = Counter((entry["plugin"], entry["hook"]) for entry in failures)
    # on a very busy machine, a short wait may take too long
    late = Counter((entry["plugin"], entry["hook"]) for entry in failures if entry["cause"] == "TimeoutError")
    assert reported - late <= failed
    assert reported == Counter(reported.keys())
    assert not is_read or failed <= reported


def failed_late(record):
    """Return whether the call was streamed, and a filter failed or refused it after the client had got the whole
    stream.
    """
    failed = record["error_native"] == "strict.filter.replied" or PLAYED.has_refused_late(record["id"])
    return record["stream"] and failed


def check_reply(record, failures, call, reply, *, right):
    """Check the record and the reply of a call that the client has read to the end. `right` tells whether the reply is
    correct.
    """
    ended = [entry for entry in failures if entry["plugin"] == "strict" and entry["hook"] != "filter.done"]
    refusals = [note[2] for note in PLAYED.faults(record["id"]) if note[2] in REFUSALS and note[1] != "done"]
    if ended:
        assert (right, record["outcome"], record["error"]) == (failed_late(record), "failed", "plugin")
        assert record["error_native"] in {f"strict.{entry['hook']}" for entry in ended}
    elif refusals:
        assert right == failed_late(record)
        assert record["error"] in refusals
    else:
        assert record["error"] not in {"plugin", *REFUSALS}
    if getattr(call.fault, "kind", "") not in DAMAGING and not PLAYED.has_answered(record["id"]):
        failed = {entry["plugin"] for entry in failures if entry["hook"] != "filter.done"}
        assert small_letters(text_of(reply)).isdisjoint(changed_letters(record["id"], "text", failed)), reply.body


def check_request(request, number, failed):
    """Check the text and the headers of a request that reached a simulated provider.

    `failed` has pairs of a call's id and a filter that failed before the request was sent.
    """
    (call_id,) = (call_id for call_id, plan in PLAYED.ids.items() if plan == number)
    failing = {name for name in LETTERS if (call_id, name) in failed}
    text = json.dumps(request.json, ensure_ascii=False)
    assert small_letters(text).isdisjoint(changed_letters(call_id, "request", failing))
    for name in LETTERS.keys() - failing:
        added = PLAYED.used(call_id, name, "headers") == "add"
        assert request.headers.get(f"x-{name}") == (call_id if added else None)


def changed_letters(call_id, method, failed):
    """Return the lower-case letters that filters have replaced in their method `method`, so that no text may have them.

    Filters whose names are in `failed` are ignored.
    """
    changing = [name for name in LETTERS if PLAYED.used(call_id, name, method) in {"change", "hold"}]
    return set("".join(LETTERS[name] for name in changing if name not in failed))


def small_letters(text):
    return set(text) & set("".join(LETTERS.values()))


def text_of(reply):
    """Return all texts in a reply as one string, whether the reply is a stream or a body."""
    if reply.headers["content-type"].partition(";")[0].endswith(("event-stream", "eventstream")):
        return json.dumps(damaged_events_of(reply), ensure_ascii=False)
    return json.dumps(json.loads(reply.body), ensure_ascii=False)


def content_of(call, reply):
    """Return the text, the thinking and the arguments of the tool call in a correct reply."""
    wire = call.wire
    if call.stream:
        body = fold(wire.say.dialect, read_stream(reply.body, reply.headers["content-type"]))
    else:
        body = json.loads(reply.body)
    content = wire.say.read_reply(body)
    (tool,) = content.calls
    return [content.text, content.thinking, tool[2]]


def capitals(value):
    return json.dumps(value, ensure_ascii=False).translate(CAPITALS)


TestFilteredCalls = FilteredCalls.TestCase
TestFilteredCalls.settings = settings(
    max_examples=examples(6),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate],  # a plan comes from one number, so that a smaller one tells little
)
