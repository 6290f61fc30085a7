"""Runs the cases. All systems of a case run at the same time, but only one of them is measured at a time."""

import asyncio
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from math import inf, nan

from tests.bench.processes import NotStarted, Process, resident_bytes
from tests.bench.traffic import REPLIES

WARM_MS = 300
"""Milliseconds for which requests are sent before each measurement."""
FIRST_CONNECTIONS = 8
"""Maximum number of connections for the first requests to a system. The results of these requests are discarded."""
SAMPLE_SECONDS = 0.2
FIRST_ANSWER_SECONDS = 30


@dataclass
class Figures:
    """The results of a run."""

    rows: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)
    """Maps (title of the case, unit) to a dict from a column to a list with one figure for each round."""
    added: dict[str, object] = field(default_factory=dict)
    """The results of `additions.py`, by title."""
    versions: dict[str, str] = field(default_factory=dict)
    """The versions of the systems that were measured, by name."""
    notes: dict[str, str] = field(default_factory=dict)
    """Reasons why figures are missing, by the name of a system."""

    def add(self, title, unit, column, value):
        self.rows.setdefault((title, unit), {}).setdefault(column, []).append(value)


@dataclass(frozen=True)
class Running:
    """A lane (a system with the request that is sent to it) whose system is running."""

    column: str
    system: object
    request: object
    process: Process


async def run_case(case, wire, folder, figures, *, rounds, window_ms, until=inf):
    """Measure a case, and add its figures. If a system is not installed or fails, the reason is added to
    `figures.notes`.

    The first round always takes place. No other round begins after the time `until` of the monotonic clock.
    """
    async with AsyncExitStack() as stack:
        lanes = await _started(case, wire, folder, figures, stack)
        before = {}
        for lane in list(lanes):
            first = min(case.connections, FIRST_CONNECTIONS)
            await _measured(case, wire, lane, lanes, figures, connections=first)
            before[lane.column] = lane.process.resident_bytes
        for turn in range(rounds):
            if not lanes or (turn and time.monotonic() > until):
                break
            for lane in lanes[turn % len(lanes) :] + lanes[: turn % len(lanes)]:
                peak = _Peak(lane.process) if case.is_memory_measured and not turn else None
                results = await _measured(case, wire, lane, lanes, figures, window_ms=window_ms)
                if results is not None:
                    _add(case, lane, results, figures)
                if peak is not None:
                    grown = await peak.end() - before[lane.column]
                    figures.add(case.title, "KB a stream", lane.column, grown / 1024 / case.connections)


async def _started(case, wire, folder, figures, stack):
    """Start the systems of a case, all at the same time.

    A case has lanes: a lane is a system with the request that is sent to it. Return the lanes whose system has started.
    A system may have several lanes, but is started only once.
    """
    systems = list(dict.fromkeys(lane.system for lane in case.lanes))
    starting = [_start(system, wire, folder / f"{case.name}-{at}", stack) for at, system in enumerate(systems)]
    processes = dict(zip(systems, await asyncio.gather(*starting, return_exceptions=True), strict=True))
    for system, process in processes.items():
        if isinstance(process, NotStarted):
            figures.notes[system.name] = str(process)
        elif isinstance(process, BaseException):
            raise process
        else:
            figures.versions[system.name] = system.version()
    return [
        Running(lane.column, lane.system, lane.request, process)
        for lane in case.lanes
        if isinstance(process := processes[lane.system], Process)
    ]


async def _start(system, wire, folder, stack):
    folder.mkdir()
    return await stack.enter_async_context(system.start(wire.port, folder))


class _Peak:
    """Watches the memory of a process until `end` is called, and keeps the largest value."""

    def __init__(self, process):
        self._task = asyncio.create_task(self._sample(process))
        self._bytes = 0

    async def _sample(self, process):
        pids = process.pids  # listed once, since that takes long
        while True:
            self._bytes = max(self._bytes, resident_bytes(pids))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def end(self):
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        return self._bytes


async def _measured(case, wire, lane, lanes, figures, *, connections=None, window_ms=WARM_MS):
    """Return the results of the load client for a lane.

    If the lane's system fails, add the reason to `figures.notes`, remove the lane from `lanes`, and return None.
    """
    results = await _load(case, wire, lane, connections or case.connections, window_ms)
    if not results["failures"]:
        return results
    reason = f"{results['failures']} calls failed, the first with status {results['first_failure']}"
    figures.notes[f"{lane.system.name}, {case.name}"] = reason
    lanes.remove(lane)
    return None


async def _load(case, wire, lane, connections, window_ms):
    await wire.reply(
        REPLIES[lane.request.provider_dialect],
        count=case.chunks,
        interval_us=case.interval_ms * 1000,
        stagger=connections,
    )
    return await wire.load(
        lane.process.port,
        lane.system.request(lane.request, wire.port),
        connections=connections,
        warm_ms=WARM_MS + case.interval_ms,
        window_ms=window_ms,
        drained=not case.chunks,
        pids=lane.process.pids,
        preface=lane.system.preface,
    )


def _add(case, lane, results, figures):
    unit, count = ("chunk", results["chunks"]) if case.chunks else ("call", results["requests"])
    figures.add(case.title, f"CPU us a {unit}", lane.column, results["cpu_us"] / count if count else nan)
    if case.chunks:
        figures.add(case.title, "age of a chunk, p50, us", lane.column, results["age_us"] if count else nan)


async def run_starts(lanes, wire, folder, figures, *, rounds):
    """Start the system of each lane anew in each round. Measure its CPU time until the first answer, and then its
    memory.

    A lane is a system with the request that is sent to it.
    """
    for turn in range(rounds):
        for at, lane in enumerate(lanes):
            if lane.system.name in figures.notes:
                continue
            try:
                await _first_answer(lane, wire, folder / f"start-{turn}-{at}", figures)
            except NotStarted as error:
                figures.notes[lane.system.name] = str(error)


async def _first_answer(lane, wire, folder, figures):
    await wire.reply(REPLIES[lane.request.provider_dialect])
    async with AsyncExitStack() as stack:
        process = await _start(lane.system, wire, folder, stack)
        await _answer(
            process.port, lane.system.preface + lane.system.request(lane.request, wire.port, Connection="close")
        )
        figures.add("start", "CPU s to the first answer", lane.column, process.cpu_seconds)
        figures.add("at rest, after the first answer", "MB", lane.column, process.resident_bytes / 2**20)


async def _answer(port, request):
    async with asyncio.timeout(FIRST_ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        reply = await reader.read()
        writer.close()
    if not reply.startswith(b"HTTP/1.1 200 "):
        raise NotStarted(f"the first answer is {reply[:100]!r}")
