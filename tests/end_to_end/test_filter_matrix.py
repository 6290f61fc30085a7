"""Tests of every method of a filter, on every conversion, streamed and not, for every way in which a call can end.

The filter under test records the calls of its methods, and changes texts to capital letters. It also holds back the
last characters of each piece of a text. All conversions share a gateway.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from gateway.testkit.scenarios import Canned, Raw, Scenario, Tokens, Tool
from tests.helpers.fold import fold, read_stream
from tests.helpers.gateway import CAP, KEY, gate
from tests.helpers.outcomes import events_of, is_error, terminal_events
from tests.helpers.waiting import eventually
from tests.helpers.wires import PROVIDERS, WIRES

PROBE = """
from gateway.contract import filter
from gateway.contract.filter import Reply, blocked, hold

api = 1
NOTES = []


class Settings(filter.Settings):
    fails: str = ""


def open(call, settings):
    NOTES.append((call.id, "open", call))
    check(settings, "open")
    return Probe(call.id, settings)


def check(settings, method):
    if settings.fails == method:
        raise ValueError("a filter may fail")


class Probe:
    def __init__(self, call_id, settings):
        self.call_id = call_id
        self.settings = settings

    def note(self, method, *values):
        NOTES.append((self.call_id, method, *values))
        check(self.settings, method)

    def request(self, asked):
        self.note("request", asked.texts)
        return asked.with_texts([text.text.replace("Hi", "Ho") for text in asked.texts])

    async def headers(self):
        self.note("headers")
        return {"x-probe": self.call_id}

    def text(self, kind, piece, last):
        self.note("text", kind, piece, last)
        return hold(piece.upper() if kind == "text" else piece, 3, last)

    async def replied(self, reply):
        self.note("replied", reply)

    def done(self, record):
        self.note("done", record)
"""
CACHE = """
api = 1
REPLIES = {}


def open(call, settings):
    return Cached((call.flag, call.provider, call.request.stream))


class Cached:
    def __init__(self, key):
        self.key = key

    def request(self, asked):
        return REPLIES.get(self.key)

    def text(self, kind, piece, last):
        return piece

    def replied(self, reply):
        REPLIES[self.key] = reply
"""
SLOW = """
import asyncio

api = 1
blocks = True


def open(call, settings):
    return Slow()


class Slow:
    async def text(self, kind, piece, last):
        await asyncio.sleep(3600)
        return piece
"""
METHODS = ("open", "request", "headers", "text", "replied", "done")
TEXT = ("Let m", "e se", "e. ", "Wei", "ß is lo", "nger in capitals.")
REPLY = Canned(TEXT, tools=(Tool("look", {"where": "here", "n": 1.5}),), tokens=Tokens(5, 6))
MODES = [(wire, stream) for wire in WIRES for stream in (False, True)]
GRANTS = [
    {
        "src": ["*"],
        "app": {CAP: [{"role": "admin"}, {"models": "**", "quotas": [{"bucket": "all"}]}, {"read_metrics": True}]},
    }
]


class Matrix:
    """A gateway with a provider of each API, and the notes that the filter under test has made."""

    def __init__(self, gw, simulated, notes):
        self.gw = gw
        self.simulated = simulated
        self.notes = notes
        self.runtime = gw.running.gateway.runtime

    def request(self, wire, *, stream):
        say = wire.say
        body = say.body(say.user(say.text("Hi")))
        if "model" in body:
            body = {**body, "model": wire.model, "stream": stream}
        if stream and wire.client == "openai_chat":
            body["stream_options"] = {"include_usage": True}
        return say.path(wire.model, stream=stream), body

    async def call(self, wire, *, stream):
        return await self.gw.post(*self.request(wire, stream=stream))

    async def of(self, call_id):
        """Wait until the filter has been told that the call has ended. Return the filter's notes about the call, as
        pairs of a method and its values.
        """
        await eventually(lambda: any(note[:2] == (call_id, "done") for note in self.notes))
        return [(note[1], note[2:]) for note in self.notes if note[0] == call_id]


@asynccontextmanager
async def matrix(state, scenario, *, plugin=PROBE, **settings):
    folder = state / "plugins"
    folder.mkdir()
    (folder / "probe.py").write_text(plugin)
    async with AsyncExitStack() as stack:
        providers, simulated = {}, {}
        for flag, (simulator, model) in PROVIDERS.items():
            sim = simulated[flag] = await stack.enter_async_context(simulator(keys={KEY}))
            sim.default = scenario
            kind = "x-api-key" if flag == "anthropic_messages" else "bearer"
            prices = "bedrock-us" if flag.startswith("bedrock") else "anthropic" if "anthropic" in flag else "openai"
            providers[flag] = {
                "baseurl": sim.url, "apikey": KEY, "authorization": kind, "models": [model],
                "compatibility": {flag: True}, "cost_basis": prices,
            }  # fmt: skip
        more = {"plugins": {"probe": settings}, "quotas": {"all": {"capacity": "$100", "rate": "$1/day"}}}
        gw = await stack.enter_async_context(gate(state, providers, plugins=folder, grants=GRANTS, more=more))
        yield Matrix(gw, simulated, getattr(sys.modules["irisgate_folder.probe"], "NOTES", []))


def shown(wire, reply, *, stream):
    body = json.loads(reply.body) if not stream else None
    if stream:
        body = fold(wire.say.dialect, read_stream(reply.body, reply.headers["content-type"]))
    return wire.say.read_reply(body)


def counts(notes):
    return {method: sum(1 for name, _ in notes if name == method) for method in METHODS}


def name_of(wire, stream):
    return f"{wire.client} to {wire.provider}{', streamed' * stream}"


async def each(lines, check, modes=MODES):
    """Run `check` for each item of `modes` (a conversion, and whether the call is streamed), one after the other.

    Return all failures, so that one failure does not hide the others.
    """
    return dict(filter(None, [await tried(lines, check, *mode) for mode in modes]))


async def together(lines, check, modes):
    """Run `check` for all items of `modes` at the same time, because a check mostly waits. Return a dict from a
    conversion's name to its failure.
    """
    return dict(filter(None, await asyncio.gather(*(tried(lines, check, *mode) for mode in modes))))


async def tried(lines, check, wire, stream):
    """Run `check` for one conversion. Return the conversion's name and the failure, or None if the check passes."""
    try:
        await check(lines, wire, stream=stream)
    except Exception as error:  # noqa: BLE001 (every failure is reported)
        return name_of(wire, stream), repr(error)[:600]
    return None


async def complete(lines, wire, *, stream):
    reply = await lines.call(wire, stream=stream)
    assert reply.status == 200, reply.body
    content = shown(wire, reply, stream=stream)
    assert content.text == "".join(TEXT).upper()
    assert [call[1:] for call in content.calls] == [("look", {"where": "here", "n": 1.5})]
    notes = await lines.of(reply.headers["x-request-id"])
    texts = [values for name, values in notes if name == "text"]
    assert [name for name, _ in notes if name != "text"] == ["open", "request", "headers", "replied", "done"]
    assert [kind for kind, _, last in texts if last and kind == "text"]
    ends = [kind for kind, _, last in texts if last]
    assert sorted(ends) == ["arguments", "text"]
    record = notes[-1][1][0]
    assert (record["outcome"], record["tokens"]["output"]) == ("ok", 6)
    sent = lines.simulated[wire.provider].requests[-1]
    assert sent.headers["x-probe"] == reply.headers["x-request-id"]
    assert b"Ho" in sent.body
    assert b"Hi" not in sent.body


async def test_every_method_runs_once_and_texts_are_what_the_client_shows(tmp_path):
    async with matrix(tmp_path, Scenario(REPLY)) as lines:
        assert await each(lines, complete) == {}


async def refused_upstream(lines, wire, *, stream):
    reply = await lines.call(wire, stream=stream)
    assert reply.status >= 400
    notes = await lines.of(reply.headers["x-request-id"])
    assert [name for name, _ in notes] == ["open", "request", "headers", "done"]
    assert notes[-1][1][0]["outcome"] == "failed"


async def test_a_provider_that_refuses_ends_with_done_alone(tmp_path):
    async with matrix(tmp_path, Scenario(REPLY, error="ValidationException")) as lines:
        assert await each(lines, refused_upstream) == {}


async def broken(lines, wire, *, stream):
    reply = await lines.call(wire, stream=stream)
    notes = await lines.of(reply.headers["x-request-id"])
    found = counts(notes)
    assert found | {"text": 0} == {"open": 1, "request": 1, "headers": 1, "text": 0, "replied": 0, "done": 1}
    assert notes[-1][1][0]["outcome"] == "failed"


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(REPLY, error="InternalServerException", fail_after=4),
        Scenario(REPLY, end_after=4),
        Scenario(REPLY, cut_at=700),
    ],
    ids=["error event", "early end", "cut"],
)
async def test_a_stream_that_breaks_is_never_shown_as_a_reply(tmp_path, scenario):
    async with matrix(tmp_path, scenario) as lines:
        assert await each(lines, broken, [(wire, True) for wire in WIRES]) == {}


async def left(lines, wire, *, stream):
    path, body = lines.request(wire, stream=stream)
    response = await lines.gw.session.post(lines.gw.url + path, json=body)
    call_id = response.headers["x-request-id"]
    response.close()
    notes = await lines.of(call_id)
    assert counts(notes)["done"] == 1
    assert counts(notes)["replied"] == 0
    assert notes[-1][1][0]["status"] == 499


async def test_a_client_that_leaves_a_stream_ends_with_done(tmp_path):
    async with matrix(tmp_path, Scenario(REPLY, stall_after=6, stall_seconds=5)) as lines:
        assert await together(lines, left, [(wire, True) for wire in WIRES]) == {}


def failing(method, *, passes):
    async def check(lines, wire, *, stream):
        reply = await lines.call(wire, stream=stream)
        call_id = reply.headers["x-request-id"]
        if passes or (method == "done"):
            assert reply.status == 200, reply.body
            text = shown(wire, reply, stream=stream).text
            assert text.upper() == "".join(TEXT).upper()
        else:
            is_late = stream and method in {"text", "replied"}
            assert is_late or reply.status == 500, reply.status
            assert f'plugin \\"probe\\" failed in filter.{method}'.encode() in reply.body or stream
        if method != "open":
            assert counts(await lines.of(call_id))["done"] == 1

    return check


@pytest.mark.parametrize("passes", [True, False], ids=["pass", "refuse"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_filter_that_fails_ends_the_call_or_is_left_out(tmp_path, method, passes):
    on_error = "pass" if passes else "refuse"
    async with matrix(tmp_path, Scenario(REPLY), fails=method, on_error=on_error) as lines:
        sample = MODES[:: 5 if method in {"open", "headers", "done"} else 2]
        assert await each(lines, failing(method, passes=passes), sample) == {}
        await lines.gw.log_is_written()
        failed = lines.gw.lines.entries("plugin.failed")
        assert len(failed) == len(sample)
        assert {(entry["plugin"], entry["hook"]) for entry in failed} == {("probe", f"filter.{method}")}


async def kept(lines, wire, *, stream):
    reply = await lines.call(wire, stream=stream)
    events = events_of(reply)
    assert terminal_events(wire.client, events) == events[-1:]
    assert not is_error(wire.client, events[-1])
    assert shown(wire, reply, stream=stream).text == "".join(TEXT).upper()
    record = (await lines.of(reply.headers["x-request-id"]))[-1][1][0]
    assert (record["outcome"], record["error"], record["error_native"]) == ("failed", "plugin", "probe.filter.replied")
    assert (record["tokens"]["output"], record["estimated"]) == (6, False)


async def test_a_stream_that_replied_refuses_has_only_its_own_end(tmp_path):
    async with matrix(tmp_path, Scenario(REPLY), fails="replied", on_error="refuse") as lines:
        assert await each(lines, kept, [(wire, True) for wire in WIRES]) == {}


async def answered(lines, wire, *, stream):
    first = await lines.call(wire, stream=stream)
    requests = sum(len(simulated.requests) for simulated in lines.simulated.values())
    second = await lines.call(wire, stream=stream)
    assert sum(len(simulated.requests) for simulated in lines.simulated.values()) == requests
    assert second.status == 200, second.body
    assert shown(wire, second, stream=stream) == shown(wire, first, stream=stream)
    await eventually(lambda: second.headers["x-request-id"].encode() in lines.gw.lines.data)
    (record,) = [
        entry for entry in lines.gw.lines.entries("call.finished") if entry["id"] == second.headers["x-request-id"]
    ]
    assert (record["outcome"], record["cost_usd"], record["attempts"], record["provider"]) == ("ok", 0, 0, "")


async def test_a_filter_answers_calls_with_replies_that_it_has_seen(tmp_path):
    async with matrix(tmp_path, Scenario(REPLY), plugin=CACHE) as lines:
        assert await each(lines, answered) == {}


async def test_a_native_stream_whose_texts_no_filter_changes_keeps_its_bytes(tmp_path):
    async with matrix(tmp_path, Scenario(REPLY), plugin=CACHE) as lines:
        for wire in WIRES:
            if wire.client != wire.provider:
                continue
            lines.gw.running.gateway.current.runtime = replace(lines.gw.running.gateway.runtime, filters=())
            plain = await lines.call(wire, stream=True)
            lines.gw.running.gateway.current.runtime = lines.runtime
            body = plain.body.replace(b'":"', b'" : "') if b"data: " in plain.body else plain.body
            raw = Raw(body, content_type=plain.headers["content-type"])
            lines.simulated[wire.provider].script(Scenario(raw=raw))
            filtered = await lines.call(wire, stream=True)
            assert filtered.body == body, wire


async def test_a_filter_that_never_returns_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.call.filter_texts.SECONDS", 0.05)

    async def ended(lines, wire, *, stream):
        reply = await lines.call(wire, stream=stream)
        assert stream or reply.status == 500
        await eventually(lambda: reply.headers["x-request-id"].encode() in lines.gw.lines.data)

    async with matrix(tmp_path, Scenario(REPLY), plugin=SLOW) as lines:
        assert await each(lines, ended, MODES[::4]) == {}
        failed = await lines.gw.lines.until("plugin.failed", len(MODES[::4]))
        assert {entry["cause"] for entry in failed} == {"TimeoutError"}
