"""Tests that break exchanges with a provider at every byte offset of the request and of the reply, on every conversion.

- The call then has a correct reply or an error in the client's dialect, within a deadline, and one record.
- No task, socket, buffered byte or reservation is left. A broken connection is closed and not used again.
- By default, one offset is tried for each kind of fault. IRISGATE_ALL_OFFSETS=1 tries all offsets, which takes about an
  hour, and IRISGATE_ALL_OFFSETS=7 tries every seventh offset.
"""

import asyncio
import gc
import logging
import os
from random import Random

import pytest

from gateway.testkit.scenarios import Canned, Scenario, Tokens, Tool
from tests.helpers.descriptors import descriptors
from tests.helpers.fault_proxy import ENDS, Fault
from tests.helpers.lanes import gateway_tasks, lanes
from tests.helpers.outcomes import is_right
from tests.helpers.waiting import eventually
from tests.helpers.wires import PROVIDERS, WIRES

_log = logging.getLogger(__name__)
"""Logger of each test's number of calls and of correct replies. pytest shows its lines with --log-cli-level=INFO."""

STEP = int(os.environ.get("IRISGATE_ALL_OFFSETS", "0"))
"""Distance between the offsets that are tried. If it is 0, only a sample of the offsets is tried."""
LANES = {True: 64 if STEP else 16, False: 16}
"""Number of concurrent calls. The key is True for faults that may make a call wait for the read timeout."""
READ_SECONDS = {True: 1.0 if STEP else 0.5, False: 5.0}
"""Read timeout of the providers in seconds. The key is True for faults that may make a call wait for this timeout."""
HANG_SECONDS = 20.0
"""Seconds after which a call counts as hung, even on a busy machine."""
REPLY = Scenario(Canned(("Let me see.",), tools=(Tool("a", {"x": 1}),), tokens=Tokens(5, 6)))
FAULTS = {
    # whether the faults may make a call wait for the read timeout: kinds by side
    False: (("request", "close"), ("request", "reset"), ("reply", "close"), ("reply", "reset"), ("reply", "split")),
    True: (("request", "stall"), ("request", "corrupt"), ("reply", "stall"), ("reply", "corrupt")),
}


def offsets(length, seed):
    """Return the offsets to try in `length` bytes. Every run tries the same offsets."""
    chosen = Random(seed)
    return range(chosen.randrange(STEP), length, STEP) if STEP else [chosen.randrange(length)]


class Trial:
    """Calls of one conversion, all streamed or all not. During each call, a fault breaks the connection to the
    provider.
    """

    def __init__(self, opened, wire, *, stream, waits):
        self.opened = opened
        self.wire = wire
        self.stream = stream
        self.waits = waits
        self.right = None
        self.calls = []
        """The ids of the calls, each with whether its reply was correct."""
        self.wrong = []
        """The calls whose result was neither a correct reply nor an error."""

    async def faults(self):
        """Make a call without a fault, to learn the lengths of its request and its reply. Return the faults to try,
        each with its offset.
        """
        lane = self.opened.take(self.wire.provider)
        self.right = await self._call(lane)
        crossed = lane.proxy.last.crossed
        self.opened.put(lane)
        name = f"{self.wire}{self.stream}"
        last = Fault("reply", "stall", crossed["reply"] - 1)
        return [
            Fault(side, kind, at)
            for side, kind in FAULTS[self.waits]
            for at in offsets(crossed[side], f"{name}{side}{kind}")
        ] + [last] * self.waits

    async def broken(self, fault):
        """Make a call that the fault breaks. If the fault damages bytes, make a second call, which could fail on the
        damaged connection.
        """
        lane = self.opened.take(self.wire.provider)
        await self._call(lane, fault)
        if fault.kind == "corrupt":
            await self._call(lane)
        self.opened.put(lane)

    async def _call(self, lane, fault=None):
        try:
            async with asyncio.timeout(HANG_SECONDS):
                reply = await lane.call(self.wire.say, fault, stream=self.stream)
        except TimeoutError:
            self.wrong.append(f"{self.wire.client}: {fault}: a hang")
            return None
        exact = None if fault is not None and fault.kind == "corrupt" else self.right or reply
        right = False
        try:
            right = is_right(self.wire, reply, stream=self.stream, right=exact)
            if fault is None or fault.kind == "split":
                assert right or self.waits, "the reply is an error"
            elif fault.side == "request" and fault.kind in ENDS:
                assert not right, "the reply is right"
        except Exception as error:  # noqa: BLE001 (a damaged reply can fail to be read in any way)
            self.wrong.append(f"{self.wire.client}: {fault}: {error!r}: {reply.status} {reply.body}")
        self.calls.append((reply.headers["x-request-id"], right))
        return reply


@pytest.mark.parametrize("waits", [False, True], ids=["close, reset, split", "stall, corrupt"])
@pytest.mark.parametrize("flag", PROVIDERS)
async def test_an_exchange_broken_anywhere_is_right_or_an_error(flag, waits, tmp_path, caplog):
    caplog.set_level("CRITICAL", "aiohttp.server")  # the log of the simulated provider, whose connections break
    before = descriptors()
    async with lanes([flag], LANES[waits], tmp_path, read_seconds=READ_SECONDS[waits]) as opened:
        opened.simulated[flag].default = REPLY
        tasks = gateway_tasks()
        trials = [
            Trial(opened, wire, stream=stream, waits=waits)
            for wire in WIRES
            if wire.provider == flag
            for stream in (True, False)
        ]
        faults = [(trial, fault) for trial in trials for fault in await trial.faults()]
        await _in_turn(faults, LANES[waits])
        await opened.all_given_back()
        await eventually(lambda: gateway_tasks() <= tasks)
        records = await opened.records()
    assert [wrong for trial in trials for wrong in trial.wrong] == []
    calls = dict(call for trial in trials for call in trial.calls)
    assert len(calls) == sum(len(trial.calls) for trial in trials)
    assert records.keys() == calls.keys()
    assert [call for call, right in calls.items() if (records[call]["outcome"] == "ok") != right] == []
    await eventually(lambda: descriptors() <= before)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
    _log.info("%s: %d calls, %d right replies", flag, len(calls), sum(calls.values()))


async def _in_turn(faults, at_once):
    """Make a call with each of the faults, at most `at_once` of them at the same time."""
    waiting = iter(faults)

    async def worker():
        for trial, fault in waiting:
            await trial.broken(fault)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
