"""Tests of work on large bodies in worker processes: which work is done there, which results come back, and that the
event loop is not blocked meanwhile.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import MappingProxyType

import pytest

from gateway.contract.capabilities import capabilities
from gateway.contract.dropped_fields import MAX_DROPPED
from gateway.contract.errors import (
    BadFrame,
    GatewayError,
    Problem,
    Truncated,
    UpstreamFailed,
    invalid,
)
from gateway.contract.flag import ClientRequest, Members, Target
from gateway.upstream.process_pool import DropRelay, ProcessPool
from tests.helpers.gateway import HAIKU, bedrock, gate
from tests.helpers.loop_monitor import longest_block
from tests.helpers.own_plugins import discover_own
from tests.helpers.waiting import eventually_without_a_loop

REGISTRY = discover_own()
LARGE = 10_000_000
MOST_UNITS = 13
"""Maximum CPU time for which a large body may block the event loop, in units of `cpu_time`."""
BODIES = {
    "openai_chat": {"model": "m", "unknown_member": 1, "messages": [{"role": "user", "content": "hello"}]},
    "openai_responses": {"model": "m", "input": "hello"},
    "anthropic_messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]},
    "bedrock_converse": {"messages": [{"role": "user", "content": [{"text": "hello"}]}]},
    "gemini_generate_content": {"contents": [{"parts": [{"text": "hello"}]}], "unknownMember": 1},
}

REPLIES = {
    "openai_chat": {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Good morning"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    },
    "anthropic_messages": {
        "id": "m1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "stop_sequence": None, "content": [{"type": "text", "text": "Good morning"}],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    },
    "bedrock_converse": {
        "output": {"message": {"role": "assistant", "content": [{"text": "Good morning"}]}}, "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}, "metrics": {"latencyMs": 1},
    },
    "gemini_generate_content": {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Good morning"}]}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def shared():
    pool = ProcessPool()
    yield pool
    pool.close()


@pytest.fixture
def drops():
    return []


@pytest.fixture
def relay(drops):
    return DropRelay(drops.append)


def ask(dialect="openai_chat", body=None):
    top = Members(json.dumps(BODIES[dialect] if body is None else body).encode())
    return ClientRequest(dialect, dialect, "generate", "POST", "/", "", {"a": "b"}, top, "m", False)


def target(dialect, model=HAIKU):
    return Target("b", dialect, model, dialect, capabilities(model), MappingProxyType({"x": 1}))


# what is run there: found by its name, as a plugin's functions are


def process(_drop=None):
    return os.getpid()


def dropping(drop, *paths):
    for path in paths:
        drop(path)
    return drop


def raising(drop, error):
    drop("/before")
    raise error


def same(*args):
    return args


def elsewhere(function, *args):
    return os.getpid(), function(*args)


def unsendable():
    return threading.Lock()


def ending():
    os._exit(3)


async def test_a_small_body_is_worked_on_here(shared, relay):
    assert await shared.run(1000, relay, process) == os.getpid()


async def test_a_large_one_is_worked_on_elsewhere(shared, relay):
    assert await shared.run(LARGE, relay, process) != os.getpid()


async def test_dropped_fields_are_told_here_also_later_on(shared, relay, drops):
    back = await shared.run(LARGE, relay, dropping, relay, "/a", "/b")
    assert drops == ["/a", "/b"]
    back("/c")
    assert drops == ["/a", "/b", "/c"]


async def test_fields_that_are_dropped_many_times_are_reported_once(shared, relay, drops):
    await shared.run(LARGE, relay, dropping, relay, *["/a"] * 1000, "/b", *["/a"] * 1000)
    assert drops == ["/a", "/b"]


async def test_no_more_dropped_fields_are_reported_than_an_attempt_lists(shared, relay, drops):
    paths = [f"/{number}" for number in range(2 * MAX_DROPPED)]
    await shared.run(LARGE, relay, dropping, relay, *paths)
    assert drops == paths[:MAX_DROPPED]


@pytest.mark.parametrize(
    "error",
    [
        invalid("say it otherwise", "messages[0]"),
        UpstreamFailed(Problem("internal", "oops", "native", 500, 1.5, retryable=True), b"raw", {"a": "b"}, 500),
        Truncated(),
        BadFrame("no frame"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_comes_back_as_it_is(shared, relay, drops, error):
    with pytest.raises(type(error)) as caught:
        await shared.run(LARGE, relay, raising, relay, error)
    assert caught.value.__dict__ == error.__dict__
    assert str(caught.value) == str(error)
    assert drops == ["/before"]


async def test_a_fault_of_a_plugin_stays_one(shared, relay):
    with pytest.raises(KeyError):
        await shared.run(LARGE, relay, raising, relay, KeyError("x"))


async def test_what_comes_back_as_it_went_is_the_same_object(shared, relay):
    request, to = ask(), target("bedrock_converse")
    back = await shared.run(LARGE, relay, same, request, to)
    assert back[0] is request
    assert back[1] is to


async def test_what_cannot_travel_is_worked_on_here(shared, relay):
    def nameless():
        return os.getpid()

    assert await shared.run(LARGE, relay, nameless) == os.getpid()
    assert await shared.run(LARGE, relay, same, threading.Lock) == (threading.Lock,)
    assert (await shared.run(LARGE, relay, unsendable)).acquire(blocking=False)


async def test_a_process_that_ends_is_a_503_and_the_next_body_has_a_new_one(relay):
    pool = ProcessPool()
    with pytest.raises(GatewayError, match="try again") as caught:
        await pool.run(LARGE, relay, ending)
    assert caught.value.problem.status == 503
    assert await pool.run(LARGE, relay, process) != os.getpid()
    await asyncio.to_thread(pool.close)


async def test_an_interrupt_is_not_for_the_processes(shared, relay):
    there = await shared.run(LARGE, relay, process)
    os.kill(there, signal.SIGINT)
    assert await shared.run(LARGE, relay, process) is not None
    os.kill(there, 0)


KILLED = """
import asyncio, time
from gateway.upstream.process_pool import DropRelay, ProcessPool
from tests.upstream.test_process_pool import process
pool = ProcessPool()
print(asyncio.run(pool.run(10_000_000, DropRelay(print), process)), flush=True)
time.sleep(60)
"""


def test_processes_end_with_a_gateway_that_is_killed():
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, env=paths)
    there = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually_without_a_loop(lambda: not lives(there))


def lives(process_id):
    """Return whether a process is alive. A zombie (a process that has ended, but was not waited for) is not alive."""
    try:
        return ") Z " not in Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("pair", sorted(REGISTRY.translators), ids="__".join)
async def test_a_translation_can_be_opened_elsewhere_and_goes_on_here(shared, relay, drops, pair):
    client, upstream = pair
    translator = REGISTRY.translators[pair]
    told_here = []
    here = translator.open(ask(client), target(upstream), told_here.append)
    opened = await shared.run(LARGE, relay, elsewhere, translator.open, ask(client), target(upstream), relay)
    assert opened[0] != os.getpid()
    there = opened[1]
    assert there.request.top.body == here.request.top.body
    assert drops == told_here
    body = json.dumps(REPLIES[upstream]).encode()
    process_id, whole = await shared.run(LARGE, relay, elsewhere, there.whole, body)
    assert process_id != os.getpid()
    assert b"Good morning" in whole
    assert set(json.loads(whole)) == set(json.loads(here.whole(body)))
    assert [event.kind for event in there.close()] == [event.kind for event in here.close()]


@pytest.mark.parametrize(
    "contents",
    [["x" * 20_000_000], [f"hello {number}" for number in range(40_000)]],
    ids=["20 MB of text", "40,000 messages"],
)
async def test_a_large_chat_to_converse_leaves_the_loop_to_others(shared, relay, contents):
    translator = REGISTRY.translators["openai_chat", "bedrock_converse"]
    turns = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(contents)]
    request = ask(body={"model": "m", "messages": turns})
    size = len(request.top.body)

    async def translate():
        translation = await shared.run(size, relay, translator.open, request, target("bedrock_converse"), relay)
        assert translation.request.dialect == "bedrock_converse"

    assert await longest_block(translate, 3, MOST_UNITS) < MOST_UNITS


@pytest.mark.parametrize("name", sorted(REGISTRY.flags))
async def test_the_request_of_a_flag_can_be_built_elsewhere(shared, relay, name):
    flag = REGISTRY.flags[name]
    to = target(flag.dialect_for(capabilities(HAIKU)))
    if to.dialect not in BODIES:
        return
    process_id, sent = await shared.run(LARGE, relay, elsewhere, flag.build, ask(to.dialect), to, relay)
    assert process_id != os.getpid()
    assert sent.body == flag.build(ask(to.dialect), to, relay).body


async def test_a_large_request_and_reply_go_through_a_gateway(tmp_path, bedrock_sim):
    begun = multiprocessing.active_children()
    body = {"model": HAIKU, "unknown_member": 1, "messages": [{"role": "user", "content": "x" * 3_000_000}]}
    provider = bedrock(bedrock_sim.url, flags=("bedrock_converse",))
    async with gate(tmp_path, {"b": provider}, pool=ProcessPool()) as gw:
        assert multiprocessing.active_children() == begun
        answer = await gw.post("/v1/chat/completions", body)
        assert answer.status == 200
        assert len(multiprocessing.active_children()) > len(begun)
        assert answer.headers["x-irisgate-dropped"] == "/unknown_member"
        refused = await gw.post("/v1/chat/completions", {**body, "n": 3})
        assert refused.status == 400
        assert (await refused.json())["error"]["param"] == "n"
    assert bedrock_sim.requests[0].json["messages"][0]["content"][0]["text"] == "x" * 3_000_000
    assert len(bedrock_sim.requests) == 1
