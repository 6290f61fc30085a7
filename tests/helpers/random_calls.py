"""A state machine of random clients and random providers with the gateway between them (`RandomCalls`).

- A client of any API reads its reply to the end, or slowly, or disconnects at any time.
- A provider answers correctly, with an error, with garbage, too late, in part, or not at all.
- Every call has one record and at most one terminal event. After all calls, no task, socket, buffered byte or
  reservation is left.
"""

import asyncio
import gc
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from gateway.pytest_plugin.running import Reply
from tests.helpers.descriptors import descriptors
from tests.helpers.fault_proxy import Fault
from tests.helpers.lanes import gateway_tasks, lanes
from tests.helpers.outcomes import is_right
from tests.helpers.waiting import eventually
from tests.helpers.wires import PROVIDERS, WIRES

MOST_CALLS = 3
"""Maximum number of calls in flight at once."""
READ_SECONDS = 1.0
"""Read timeout of the providers. It is long enough for every correct reply, even on a busy machine."""
HANG_SECONDS = 20.0
GLANCE_SECONDS = 0.01
"""Seconds for which a slow client waits for the next bytes."""
RIGHT = ("text", "thinking", "redacted", "cached", "max_tokens", "unicode", "tools")
WRONG = ("throttle", "error", "error_in_stream", "stall", "cut", "no_end")
FAULTS = st.builds(
    Fault,
    st.sampled_from(["request", "reply", "reply", "reply"]),
    st.sampled_from(["close", "reset", "stall", "split", "corrupt", "insert"]),
    st.integers(0, 3000),
)


@dataclass
class Running:
    """A call in flight, as its client sees it."""

    wire: Any
    stream: bool
    lane: Any
    scenario: str
    """The name of the provider's scenario."""
    fault: Fault | None
    """The fault that the proxy adds to the exchange with the provider."""
    head: asyncio.Task
    """The task that waits for the head of the reply."""
    parts: list = field(default_factory=list)

    @property
    def is_good(self):
        """Whether the provider answers correctly and the proxy breaks nothing."""
        return self.scenario not in WRONG and self.fault is None


class RandomCalls(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        gc.freeze()  # so that the search at the end looks only at objects of this test, which takes milliseconds
        self.descriptors = descriptors()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.unhandled = []
        self.loop.set_exception_handler(lambda _loop, context: self.unhandled.append(context))
        self.stack = AsyncExitStack()
        self.opened = self._await(
            self.stack.enter_async_context(
                lanes(PROVIDERS, MOST_CALLS, Path(self.folder.name), read_seconds=READ_SECONDS, **self.options())
            )
        )
        self.tasks = self._await(self._tasks())
        self.calls = []
        self.started = 0
        self.rights = {}
        """Whether the reply was correct, by the id of the call, for calls that were read to their end."""
        self.any_left = False

    def options(self):
        """Return additional arguments for the function `lanes`. Subclasses override this method."""
        return {}

    def _await(self, work):
        return self.loop.run_until_complete(work)

    async def _tasks(self):
        return gateway_tasks()

    @precondition(lambda self: len(self.calls) < MOST_CALLS)
    @rule(
        wire=st.sampled_from(WIRES),
        stream=st.booleans(),
        scenario=st.sampled_from([*RIGHT, *RIGHT, *WRONG]),
        fault=st.none() | FAULTS,
    )
    def start(self, wire, stream, scenario, fault):
        self._await(self._start(wire, scenario, fault, stream=stream))

    @precondition(lambda self: self.calls)
    @rule(number=st.integers(0, MOST_CALLS))
    def glance(self, number):
        """Let the client of a call read the bytes that have come, and then stop reading. `number` chooses the call."""
        self._await(self._glance(self.calls[number % len(self.calls)]))

    @precondition(lambda self: self.calls)
    @rule(number=st.integers(0, MOST_CALLS))
    def leave(self, number):
        self._await(self._leave(self.calls.pop(number % len(self.calls))))

    @precondition(lambda self: self.calls)
    @rule(number=st.integers(0, MOST_CALLS))
    def read_on(self, number):
        """Let a client read its reply to the end."""
        self._await(self._read_on(self.calls.pop(number % len(self.calls))))

    def teardown(self):
        try:
            while self.calls:
                self._await(self._read_on(self.calls.pop()))
            self._await(self._nothing_is_held())
        finally:
            self._await(self.stack.aclose())
            gc.collect()
            gc.unfreeze()
            self._await(self.loop.shutdown_asyncgens())
            left = asyncio.all_tasks(self.loop)
            self.loop.close()
            self.folder.cleanup()
        assert not left
        assert self.unhandled == []
        assert descriptors() <= self.descriptors

    async def _start(self, wire, scenario, fault, *, stream, prompt="", headers=None):
        """Send a client's request. The prompt names the scenario for the simulated provider, and then has the text
        `prompt`.
        """
        lane = self.opened.take(wire.provider)
        lane.proxy.fault = fault
        path, body = lane.request(wire.say, f"[[scenario: {scenario}]]{prompt}", stream=stream)
        head = asyncio.create_task(self.opened.gw.session.post(self.opened.gw.url + path, json=body, headers=headers))
        self.calls.append(Running(wire, stream, lane, scenario, fault, head))
        self.started += 1
        gateway, lines = self.opened.gw.running.gateway, self.opened.gw.lines
        # a call has begun when it is in flight or has its record
        await eventually(lambda: len(gateway.open_calls) + len(lines.entries("call.finished")) >= self.started)

    async def _glance(self, call):
        await asyncio.wait({call.head}, timeout=GLANCE_SECONDS)
        if call.head.done():
            reply = call.head.result()
            reading = asyncio.create_task(reply.content.read(64))
            await asyncio.wait({reading}, timeout=GLANCE_SECONDS)
            if reading.cancel():
                await asyncio.wait({reading})
            else:
                call.parts.append(reading.result())

    async def _leave(self, call):
        self.any_left = True
        if call.head.cancel():
            await asyncio.wait({call.head})
        else:
            call.head.result().close()
        self.opened.put(call.lane)

    async def _read_on(self, call):
        async with asyncio.timeout(HANG_SECONDS):
            response = await call.head
            call.parts.append(await response.read())
        self.opened.put(call.lane)
        reply = Reply(response.status, response.headers, b"".join(call.parts))
        right = is_right(call.wire, reply, stream=call.stream)
        self.rights[reply.headers["x-request-id"]] = right
        self._check(call, reply, right=right)

    def _check(self, call, reply, *, right):
        """Check a reply that the client has read to its end. `right` says whether the reply is correct (`is_right`)."""
        assert right or self.any_left or not call.is_good, reply.body

    async def _nothing_is_held(self):
        await self.opened.all_given_back()
        await eventually(lambda: gateway_tasks() <= self.tasks)
        records = await self.opened.records()
        assert len(records) == self.started
        for call, right in self.rights.items():
            assert self._is_recorded_as_right(records[call]) == right, records[call]
        await self._check_records(records)

    def _is_recorded_as_right(self, record):
        """Return whether the client got a correct reply, according to the record of its call."""
        return record["outcome"] == "ok"

    async def _check_records(self, records):
        """Do nothing. Subclasses check here the records of all calls, which are a dict from the id of a call to its
        record.
        """
