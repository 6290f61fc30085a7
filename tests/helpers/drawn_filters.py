"""Filters and an observer whose behaviour is random for each call, and the folder in which the gateway finds them.

- A call names its plan in the header `PLAN`. The plan says what each method of each plugin does.
- If the filter `strict` fails, the call is refused. If the filter `lax` fails, the call continues without this filter.
- Each filter replaces its own small letters by capitals. So a small letter that reaches a client or a provider has not
  passed the filter.
- `PLAYED` has the methods that were called, and the faults that happened in them.
"""

import asyncio
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from weakref import WeakSet

import hypothesis.strategies as st

from gateway.contract.filter import Hold, Reply, blocked, limited

PLAN = "x-plan"
"""Name of the request header that has the number of the call's plan."""
LETTERS = {"strict": "αβγ", "lax": "δεζ"}
"""The small letters that each filter replaces by capitals."""
CAPITALS = str.maketrans({letter: letter.upper() for letters in LETTERS.values() for letter in letters})
SECONDS = 0.15
"""Time limit of an `async` method of a filter in these tests."""
THREAD_SECONDS = 0.4
"""Time limit in seconds of a filter's method that is not `async` and therefore runs in a thread."""
NAP_SECONDS = 0.002
METHODS = ("open", "request", "headers", "text", "replied", "done")
SOURCE = """
from tests.helpers.drawn_filters import opened

api = 1


def open(call, settings):
    return opened("{name}", call)
"""
OBSERVER = """
from tests.helpers.drawn_filters import seen

api = 1
"""


class Awaitable:
    """An awaitable. As a fault, a filter's method returns it in place of a result."""

    def __await__(self):
        yield from ()


def refusal(code):
    return blocked("drawn", "a filter blocks") if code == "blocked" else limited("drawn", "a filter limits", 1)


class Empty:
    """An object that has none of the methods of a filter."""


ERRORS = {
    "exception": ValueError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "cancelled": asyncio.CancelledError,
    "generator": GeneratorExit,
    "stop": StopIteration,
}
"""Exceptions that a filter raises as a fault, by the name of the fault. The gateway accepts none of them from a filter.
"""
REFUSALS = ("blocked", "rate_limit")
"""Error codes with which a filter may refuse a call. The call's record has the code."""
WAITS = ("nap", "hang")
"""Faults in which a filter's method waits: for less than its time limit ("nap"), or for longer ("hang")."""
USUAL = {
    "open": (*["pass"] * 7, "none"),
    "request": ("pass", "same", *["change"] * 6, "answer", "wrong answer"),
    "headers": ("pass", *["add"] * 6, "forbidden"),
    "text": ("pass", "change", "hold", "hold"),
    "replied": ("pass",),
    "done": ("pass",),
}  # fmt: skip
"""The behaviours of a filter's method without a planned fault. For each call, one of them is chosen at random.

Some behaviours, such as `wrong answer`, are mistakes that the gateway must handle.
"""
FAULTS = {
    **dict.fromkeys(("open", "request", "headers"), (*ERRORS, *REFUSALS, *WAITS, "type")),
    "text": (*ERRORS, *REFUSALS, *WAITS, "type", "invent"),
    **dict.fromkeys(("replied", "done"), (*ERRORS, *REFUSALS, *WAITS)),
}  # fmt: skip


@dataclass(frozen=True)
class FilterPlan:
    """The behaviour of one filter during one call."""

    usual: dict
    """The behaviour of each method. A method that is missing here is missing in the filter too."""
    faults: dict
    """Maps a method's name to the fault that the method has in this call."""
    at: int
    """Index of the call of `text` that fails, if a fault of `text` is planned. No index is needed for the other
    methods, which are called only once.
    """
    is_async: bool
    held: int
    """Number of characters that the filter holds back."""


@dataclass(frozen=True)
class CallPlan:
    """The behaviour of all plugins during one call."""

    filters: dict
    observer: str


def call_plans():
    """Return a hypothesis strategy that draws plans. A plan is made from one drawn number, because hypothesis limits
    the size of an example.
    """
    return st.integers(0, 2**32 - 1).map(lambda seed: _call_plan(Random(seed)))


def _call_plan(random):
    observer = random.choice(["", "", "exception", "exit", "awaitable", "nap"])
    return CallPlan({name: _filter_plan(random) for name in LETTERS}, observer)


def _filter_plan(random):
    usual = {name: random.choice(ways) for name, ways in USUAL.items()}
    failing = random.choices(METHODS, [1, 1, 1, 4, 2, 2], k=random.choice([0, 0, 0, 1, 1, 2]))
    faults = {name: random.choice(FAULTS[name]) for name in failing}
    for name in METHODS[1:-1]:
        if name not in faults and random.random() < 0.2:
            del usual[name]
    held = random.randint(1, 5)
    return FilterPlan(usual, faults, at=random.randint(0, 4), is_async=random.random() < 0.5, held=held)


@dataclass
class Played:
    """The plans for the calls of one test (what the plugins must do), and a record of what the plugins did."""

    plans: dict = field(default_factory=dict)
    """Maps a number to the plan of one call. The call has this number in the header `PLAN`."""
    ids: dict = field(default_factory=dict)
    """Maps the id of a call to the number of the call's plan."""
    methods: dict = field(default_factory=lambda: defaultdict(list))
    """The methods that were called: a list of (filter, method, fault), by the id of the call.

    `fault` is "" if the method did not fail.
    """
    seen: dict = field(default_factory=lambda: defaultdict(list))
    """The records that the observer got, by the id of the call."""
    replies: dict = field(default_factory=dict)
    """The replies that a filter may give in place of the provider. The key is (compatibility flag, whether the call is
    streamed).
    """
    alive: WeakSet = field(default_factory=WeakSet)
    """The filters that are still in memory. `clear` does not change this set."""

    def clear(self):
        for each in (self.plans, self.ids, self.methods, self.seen, self.replies):
            each.clear()

    def count(self, call_id, name, method):
        """Return how often a filter's method was called for the client's call with this id."""
        return Counter(note[:2] for note in self.methods[call_id])[name, method]

    def used(self, call_id, name, method):
        """Return what a filter's method does in a call if it has no fault (`FilterPlan.usual`).

        Return "" if the method was not called.
        """
        if not self.count(call_id, name, method):
            return ""
        return self.plans[self.ids[call_id]].filters[name].usual[method]

    def has_answered(self, call_id):
        return any(method == "answered" for _, method, _ in self.methods[call_id])

    def has_refused_late(self, call_id):
        """Return whether a filter refused a complete reply."""
        return any(method == "replied" and fault in REFUSALS for _, method, fault in self.methods[call_id])

    def observer_fault(self, call_id):
        """Return the fault of the observer, or "" for none.

        The result is also "" if the client left before a filter was opened.
        """
        number = self.ids.get(call_id)
        return "" if number is None else self.plans[number].observer

    def faults(self, call_id):
        """Return the faults that happened during a call: (filter, method, fault)."""
        return [note for note in self.methods[call_id] if note[2]]


PLAYED = Played()


class _Script:
    """A filter for one call. Its methods do what the plan of this call says."""

    def __init__(self, name, call, plan):
        self.name = name
        self.call = call
        self.plan = plan
        self.texts = 0

    def fault(self, method, piece=None):
        """Record a call of `method`, and return the fault that is planned for it, or "" for none.

        For the method `text`, `piece` is the text that it gets.
        """
        fault = self.plan.faults.get(method, "")
        if method == "text":
            self.texts += 1
            if fault == "invent":
                fault = "" if piece else fault
            elif self.texts - 1 != self.plan.at:
                fault = ""
        usual = self.plan.usual[method]
        if fault in {"", "nap"} and usual in {"wrong answer", "forbidden"}:
            fault = usual
        PLAYED.methods[self.call.id].append((self.name, method, fault))
        return fault

    def play(self, method, *args):
        """Do what the call's plan says for a method that is not `async`, and return the method's result."""
        fault = self.fault(method, args[1] if method == "text" else None)
        if fault == "nap":
            time.sleep(NAP_SECONDS)
        elif fault == "hang":
            if threading.current_thread() is not threading.main_thread():
                time.sleep(THREAD_SECONDS + SECONDS)
            elif method == "text":
                raise ValueError("nothing else can end this method")
            else:
                return asyncio.sleep(3600)
        return self.outcome(method, fault, *args)

    async def play_async(self, method, *args):
        fault = self.fault(method, args[1] if method == "text" else None)
        if fault in WAITS:
            await asyncio.sleep(NAP_SECONDS if fault == "nap" else 3600)
        return self.outcome(method, fault, *args)

    def outcome(self, method, fault, *args):
        if fault in ERRORS:
            raise ERRORS[fault]
        if fault in REFUSALS:
            raise refusal(fault)
        if fault == "type":
            return Empty()
        return getattr(self, f"_{method}")(self.plan.usual[method], *args)

    def _open(self, usual):
        if usual == "none":
            return None
        made = (_Async if self.plan.is_async else _Plain)(self)
        PLAYED.alive.add(made)
        PLAYED.methods[self.call.id].append((self.name, "opened", ""))
        return made

    def _request(self, usual, asked):
        stream = asked.request.stream
        match usual:
            case "same":
                return asked
            case "change":
                return asked.with_texts([self._capitals(text.text) for text in asked.texts])
            case "answer":
                answer = PLAYED.replies.get((self.call.flag, stream))
                if answer is not None:
                    PLAYED.methods[self.call.id].append((self.name, "answered", ""))
                return answer
            case "wrong answer":
                return Reply(body=b"{}") if stream else Reply(events=("no event",))
        return None

    def _headers(self, usual):
        return {"pass": {}, "add": {f"x-{self.name}": self.call.id}, "forbidden": {"content-length": "1"}}[usual]

    def _text(self, usual, kind, piece, last):
        if self.plan.faults.get("text") == "invent" and not piece:
            return "invented"
        if usual == "pass":
            return piece
        held = 0 if last or usual == "change" else self.plan.held
        end = max(len(piece) - held, 0)
        return Hold(self._capitals(piece[:end]), piece[end:]) if held else self._capitals(piece)

    def _replied(self, usual, reply):
        assert reply.events or reply.body
        PLAYED.replies[self.call.flag, self.call.request.stream] = reply

    def _done(self, usual, record):
        assert record["id"] == self.call.id

    def _capitals(self, text):
        return text.translate({ord(letter): letter.upper() for letter in LETTERS[self.name]})


class _Filter:
    def __init__(self, script):
        self._script = script
        for method in METHODS[1:]:
            if method not in script.plan.usual:
                setattr(self, method, None)


class _Plain(_Filter):
    def request(self, asked):
        return self._script.play("request", asked)

    def headers(self):
        return self._script.play("headers")

    def text(self, kind, piece, last):
        return self._script.play("text", kind, piece, last)

    def replied(self, reply):
        return self._script.play("replied", reply)

    def done(self, record):
        return self._script.play("done", record)


class _Async(_Filter):
    async def request(self, asked):
        return await self._script.play_async("request", asked)

    async def headers(self):
        return await self._script.play_async("headers")

    async def text(self, kind, piece, last):
        return await self._script.play_async("text", kind, piece, last)

    async def replied(self, reply):
        return await self._script.play_async("replied", reply)

    async def done(self, record):
        return await self._script.play_async("done", record)


def opened(name, call):
    """Do what the call's plan says for the hook `open`, and return its result. Both filters call this function."""
    number = int(call.request.headers[PLAN])
    PLAYED.ids[call.id] = number
    plan = PLAYED.plans[number].filters[name]
    script = _Script(name, call, plan)
    return script.play_async("open") if plan.is_async else script.play("open")


def seen(record):
    """Store the record of a call in `PLAYED`, and fail if the call's plan says so. This is the hook of the observer
    plugin.
    """
    PLAYED.seen[record["id"]].append(record)
    fault = PLAYED.observer_fault(record["id"])
    if fault == "nap":
        time.sleep(NAP_SECONDS)
    elif fault in ERRORS:
        raise ERRORS[fault]
    return Awaitable() if fault == "awaitable" else None


def write(folder):
    """Write the plugins into a new folder, and return it."""
    folder.mkdir()
    for name in LETTERS:
        (folder / f"{name}.py").write_text(SOURCE.format(name=name))
    (folder / "watcher.py").write_text(OBSERVER)
    return folder
