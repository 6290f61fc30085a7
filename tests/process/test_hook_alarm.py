"""Tests that a plugin's hook is interrupted if it blocks the event loop for too long, whether it sleeps, waits for a
lock or computes.

No other code is interrupted.
"""

import asyncio
import re
import subprocess
import threading
import time

import pytest

from gateway.contract.errors import PluginFailed
from gateway.contract.flag import Event
from gateway.process.hook_alarm import hook_alarm
from gateway.upstream.process_pool import DropRelay, ProcessPool
from tests.helpers import hooks, plugin_faults
from tests.helpers.gateway import gate
from tests.helpers.plugin_faults import FAULTS, STREAM
from tests.helpers.scripted import scripted

SECONDS = 0.2
EVENT = Event("message", b"{}")


def loops(*_):
    while True:
        pass


def waits(*_):
    time.sleep(600)


def locks(*_):
    lock = threading.Lock()
    with lock:
        lock.acquire()


def searches(*_):
    re.fullmatch("(a+)+", "a" * 64 + "b")


def goes_on(*_):
    while True:
        try:
            time.sleep(600)
        except Exception:  # noqa: BLE001 (plugins do so)
            continue


def yields_nothing(*_):
    time.sleep(600)
    yield EVENT


def failure_of(call):
    with pytest.raises(PluginFailed) as raised:
        call()
    return raised.value


@pytest.mark.parametrize("function", [loops, waits, locks, searches, goes_on])
async def test_a_hook_is_interrupted_whatever_it_waits_for(function):
    with hook_alarm(SECONDS):
        failure = failure_of(lambda: hooks.of_flag()["meter.whole"].run(function))
    assert "HookTooSlow" in failure.cause
    assert failure.place.startswith(f"{__file__}:")


@pytest.mark.parametrize(
    "call",
    [
        lambda: list(hooks.of_flag()["decoder.feed"].each(yields_nothing)),
        lambda: hooks.of_flag()["encoder.feed"].joined(waits, [EVENT]),
        lambda: hooks.of_flag()["meter.feed"].feed(waits, [EVENT], None),
        lambda: hooks.of_flag(output_bytes=waits)["output_bytes"].total([EVENT]),
        lambda: hooks.of_flag()["steps"].advance(yields_nothing(), None),
        lambda: hooks.of_flag(places=yields_nothing)["places"].as_list(EVENT),
        lambda: hooks.of_flag(places=yields_nothing)["places"].read(lambda places, _event: list(places), EVENT),
        lambda: hooks.of_flag()["meter.feed"].piece(waits, "text", "a", False),
    ],
    ids=["each", "joined", "feed", "total", "advance", "as_list", "read", "piece"],
)
async def test_a_hook_is_interrupted_however_it_is_called(call):
    with hook_alarm(SECONDS):
        try:
            *_, failure = call()
        except PluginFailed as error:
            failure = error
    assert "HookTooSlow" in failure.cause


async def test_only_one_call_of_a_hook_that_takes_long_is_interrupted():
    """Check that the gateway's own work is not interrupted even if it takes long, and neither are many short calls of a
    hook.
    """
    hook = hooks.of_flag()["meter.whole"]
    with hook_alarm(SECONDS):
        time.sleep(3 * SECONDS)  # noqa: ASYNC251 (the loop is to be held)
        end = time.monotonic() + 3 * SECONDS
        while time.monotonic() < end:
            hook.run(time.sleep, 0.001)
        for _ in range(3):
            await asyncio.sleep(SECONDS)


@pytest.mark.parametrize(
    ("plugin", "hook"),
    [
        ("acme", "parse"), ("acme", "encoder.feed"), ("acme_upstream", "build"), ("acme_upstream", "decoder.feed"),
        ("acme_upstream", "meter.facts"), ("acme__acme_upstream", "translation.feed"),
    ],
)  # fmt: skip
async def test_a_call_whose_hook_hangs_is_the_only_one_that_fails(tmp_path, plugin, hook):
    plugins = plugin_faults.write(tmp_path / "plugins")
    async with scripted() as provider, gate(tmp_path, plugin_faults.providers(provider.url), plugins=plugins) as gw:
        provider.answer(STREAM, "text/event-stream")
        body = {"model": "translated", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        FAULTS.set(plugin, hook, waits)
        try:
            with hook_alarm(SECONDS):
                failed = await gw.post("/acme/chat", body)
        finally:
            FAULTS.clear()
        served = await gw.post("/acme/chat", body)
        (line,) = await gw.lines.until("plugin.failed")
        first, second = await gw.calls(2)
    assert b'"plugin"' in failed.body
    assert b"[DONE]" in served.body
    assert (line["plugin"], line["hook"], line["request_id"]) == (plugin, hook, first["id"])
    assert [(call["outcome"], call["error"]) for call in (first, second)] == [("failed", "plugin"), ("ok", "")]


async def test_a_hook_that_hangs_in_a_worker_process_is_interrupted_there():
    pool = ProcessPool(large=0, work_seconds=SECONDS)
    hook = hooks.of_flag()["meter.whole"]
    try:
        with pytest.raises(PluginFailed) as raised:
            await pool.run(1, DropRelay(lambda _path: None), hook.run, subprocess.call, ["sleep", "60"])
    finally:
        pool.close()
    assert "HookTooSlow" in raised.value.cause
