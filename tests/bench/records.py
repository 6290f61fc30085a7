"""Measures the costs of a call's record: during the call, in the store, and with flushes to the disk (`storage.sync`).

Run by hand: python -m tests.bench.records
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from gateway.config.load import loads
from gateway.store.base import JournalOffset
from gateway.store.disk_sync import DiskSync
from gateway.store.entries import Entry, SentCall, decode, encode
from gateway.store.follower import BATCH_BYTES, JournalFollower
from gateway.store.journal import Journal
from gateway.store.sqlite import SqliteStore
from gateway.telemetry.log import configure
from gateway.telemetry.metrics import Metrics
from tests.bench.measure import Nowhere
from tests.helpers.records import NOON, record

USERS, MODELS, SESSIONS = 50, 6, 400
AHEAD = 1000
"""Number of calls in flight: how many calls are sent after a call, before the record of this call is written."""
TOGETHER, FLUSHED = (1, 16, 256), 512
"""The numbers of calls that wait for the disk at the same time, and the total number of calls in each measurement."""


def some(count):
    """Return calls like those of an hour on a busy tailnet, with a few hundred conversations."""
    return [
        record(
            id=f"req_{number:024x}",
            identity=f"user{number % USERS}@example.com",
            model=f"us.anthropic.claude-model-{number % SESSIONS % MODELS}-v1:0",
            session_id=f"cc_{number % SESSIONS:08x}",
            at=NOON + number * 3600 / count,
        )
        for number in range(count)
    ]


def sent(record):
    """Return the entry that the journal gets before a call is sent to the provider."""
    same = {name: getattr(record, name) for name in SentCall.__struct_fields__ if hasattr(record, name)}
    return SentCall(**{**same, "chains": ((("daily:ada@example.com", "5000000000 5000000000/86400000000000"),),)})


def _config():
    """Return a configuration with one provider that has `MODELS` models. Only configured models can be labels of
    metrics.
    """
    models = [f"us.anthropic.claude-model-{number}-v1:0" for number in range(MODELS)]
    provider = {"baseurl": "http://127.0.0.1:9", "apikey": "-", "models": models}
    return loads(json.dumps({"providers": {"bedrock": provider}})).config


def path(folder, calls):
    """Return the CPU microseconds of the loop's thread for each step of recording a call."""
    log = configure(Nowhere())
    store = SqliteStore(folder / "irisgate.db")
    journal = Journal(folder / "journal", log)
    follower, metrics = JournalFollower(journal, store, log), Metrics(_config())
    steps = {
        "written before sending": lambda each: follower.put_sent(sent(each)),
        "written to the journal": lambda each: follower.put(Entry(call=each)),
        "counted": metrics.observe,
        "handed to the log": lambda each: log.later("call.finished", each.as_dict),
    }
    measurements = {}
    for name, step in steps.items():
        best = []
        for _ in range(5):
            begun = time.thread_time_ns()
            for each in calls:
                step(each)
            best.append((time.thread_time_ns() - begun) / len(calls) / 1000)
        measurements[name] = sorted(best)[len(best) // 2]
    journal.close()
    asyncio.run(store.close())
    return measurements


def behind(folder, calls):
    """Write the entries of `calls` to a journal, and let the store apply all of them.

    Return two rates in records per second: by wall time and by CPU time.
    """
    store = SqliteStore(folder / "irisgate.db")
    journal = Journal(folder / "journal", configure(Nowhere()))
    # most calls are in flight for longer than it takes to apply a batch
    for each, later in zip(calls, calls[AHEAD:] + calls[-1:] * AHEAD, strict=True):
        journal.append(encode(Entry(sent=sent(later))))
        journal.append(encode(Entry(call=each)))

    async def take_over():
        offset = JournalOffset()
        while offset < journal.end:
            lines, offset = journal.read(offset, BATCH_BYTES)
            await store.write(decode(lines)[0], offset)
        await store.close()

    wall, cpu = time.monotonic(), time.process_time()
    asyncio.run(take_over())
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    journal.close()
    return len(calls) / wall, len(calls) / cpu


async def flushed(folder, together):
    """Return the milliseconds that a call waits for the disk, and the flushes per call.

    `together` calls run at once.
    """
    log = configure(Nowhere())
    journal = Journal(folder / f"journal{together}", log, sync=True)
    sync, flushes, waited = DiskSync(journal, log), 0, []
    line = encode(Entry(sent=sent(record())))
    unflushed = journal.unflushed

    def counted():
        nonlocal flushes
        flushes += 1
        return unflushed()

    journal.unflushed = counted

    async def calling():
        for _ in range(FLUSHED // together):
            begun = time.monotonic()
            journal.append(line)
            await sync.wait()
            waited.append(time.monotonic() - begun)

    await asyncio.gather(*(calling() for _ in range(together)))
    await sync.close()
    journal.close()
    return statistics.median(waited) * 1000, flushes / len(waited)


def measured(calls=20_000):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        rows = some(calls)
        disk = {together: asyncio.run(flushed(Path(one), together)) for together in TOGETHER}
        return path(Path(one), rows[: calls // 10]), behind(Path(other), rows), disk


def report(measurements):
    steps, (wall, cpu), disk = measurements
    lines = [f"{name:28}{cost:8.1f} us" for name, cost in steps.items()]
    lines.append(f"{'a record, on its call':28}{sum(steps.values()):8.1f} us")
    lines.append(f"{'records taken over':28}{wall:8,.0f} a second; {cpu:,.0f} a second of CPU")
    lines += [
        f"{f'on a flushed disk, {together} at once':28}{wait:8.2f} ms; {flushes:.3f} flushes a call"
        for together, (wait, flushes) in disk.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{report(measured(100_000))}\n")
