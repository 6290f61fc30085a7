"""Measures whether memory grows over time: `python -m tests.bench.soak [--minutes N] [--calls N] [--rate N]`.

- Every call begins a new session, and has a text, a user agent and an unknown field that no other call has. All API
  formats of clients are used with all API formats of providers, with and without streaming.
- One call in 19 has a fault: the provider refuses, breaks off or stalls, or the client sends nonsense or leaves.
- The gateway is a process of its own. Its resident memory and its file descriptors are read twice a second. A line with
  both is printed every `--every` seconds. The line also says what takes memory in the process (`soak_probe.py`).
- Tables of limited size, such as that of sessions, fill up during the first calls. The report has the growth of memory
  after these calls (by least squares) and the growth of the largest tables. It also says whether every call has a
  record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from math import inf, sqrt
from pathlib import Path
from statistics import linear_regression, variance
from urllib.parse import quote

import aiohttp

from gateway.testkit.anthropic import AnthropicSim
from gateway.testkit.bedrock import BedrockSim
from gateway.testkit.openai import OpenAISim
from tests.bench.memory import resident
from tests.helpers.descriptors import descriptors
from tests.helpers.gateway import CAP, HAIKU, bedrock
from tests.helpers.processes import environment, running
from tests.helpers.waiting import eventually

CLIENTS = 8
"""Number of clients that call at once."""
SAMPLE_SECONDS = 0.5
WARM_UP_CALLS = 40_000
"""Number of calls before the growth of memory is measured, but at most half of all calls.

After this number of calls, all tables of limited size are full. The largest one, with 10,000 sessions, is full after
25,000 calls. Later it grows once more by a megabyte, when Python resizes it.
"""
LISTED = 8
"""Number of tables, and of types of objects, that the report lists."""
FAULT_EVERY = 19
"""One call in this number of calls has a fault. The number has no common factor with the number of dialects, so that
every dialect has faults."""
SETTLE_SECONDS = 60
"""Maximum number of seconds until the records of all calls are in the store."""
PROVIDERS = {
    "c": ("bedrock_converse", BedrockSim),
    "i": ("bedrock_model_invoke", BedrockSim),
    "m": ("anthropic_messages", AnthropicSim),
    "o": ("openai_chat", OpenAISim),
    "r": ("openai_responses", OpenAISim),
}
FAULTS = ("throttle", "error", "error_in_stream", "cut", "no_end", "nonsense", "unknown model", "client leaves")
"""The faults of calls. Some are scenarios of the simulated providers, and the others are faults of the client."""


def _chat(model, text, stream):
    return "/v1/chat/completions", {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}


def _responses(model, text, stream):
    return "/v1/responses", {"model": model, "stream": stream, "input": text}


def _messages(model, text, stream):
    _, body = _chat(model, text, stream)
    return "/v1/messages", {**body, "max_tokens": 99}


def _converse(model, text, stream):
    operation = "converse-stream" if stream else "converse"
    body = {"messages": [{"role": "user", "content": [{"text": text}]}]}
    return f"/model/{quote(model, safe='')}/{operation}", body


def _invoke(model, text, stream):
    operation = "invoke-with-response-stream" if stream else "invoke"
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 99}
    return f"/model/{quote(model, safe='')}/{operation}", {**body, "messages": [{"role": "user", "content": text}]}


REQUESTS = (_chat, _responses, _messages, _converse, _invoke)


@dataclass
class Figures:
    """Figures of one run."""

    calls: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    samples: list[tuple[int, float, float, int]] = field(default_factory=list)
    """Tuples (number of calls, seconds since the start, resident megabytes, open file descriptors)."""
    records: int = 0

    is_counting: bool = False
    """Whether the probe is counting objects now. No memory sample is taken meanwhile, because the probe's forks would
    count as memory of the gateway.
    """
    counts: list[tuple[int, dict]] = field(default_factory=list)
    """Pairs of a number of calls, and what `soak_probe.py` counted in the gateway's process after these calls."""

    @property
    def warm_up(self):
        """The number of calls before the growth of memory is measured."""
        return min(WARM_UP_CALLS, self.calls // 2)

    @property
    def warm(self):
        """The memory samples that were taken after the warm-up."""
        return [sample for sample in self.samples if sample[0] >= self.warm_up]

    def slope(self):
        """Return the growth in megabytes per hour after the warm-up, by least squares, and its standard error."""
        _, at, size, _ = zip(*self.warm, strict=True)
        slope, intercept = linear_regression(at, size)
        squares = sum((y - slope * x - intercept) ** 2 for x, y in zip(at, size, strict=True))
        error = sqrt(squares / max(1, len(at) - 2) / (variance(at) * (len(at) - 1)))
        return 3600 * slope, 3600 * error

    def line(self):
        """Return a line of text with the latest figures: time, calls, memory, descriptors, and what `soak_probe.py`
        counted last.
        """
        calls, at, size, descriptors = self.samples[-1]
        _, counts = self.counts[-1]
        sizes = " ".join(f"{name} {counts[name]}" for name in counts if name not in {"tables", "types"})
        return f"{at:.0f} s, {calls} calls: {size:.1f} MB, descriptors {descriptors} {sizes}"

    def report(self):
        (_, begun, size, descriptors), (_, ended, last_size, last_descriptors) = self.warm[0], self.warm[-1]
        return "\n".join([
            f"{self.calls} calls in {ended:.0f} s: {self.statuses}",
            f"records: {self.records} ({'as many as calls' if self.records == self.calls else 'NOT as many as calls'})",
            f"resident memory: {size:.1f} MB after {begun:.0f} s, {last_size:.1f} MB at the end",
            "slope after the warm-up: {:+.2f} MB/h, standard error {:.2f} MB/h".format(*self.slope()),
            f"descriptors: {descriptors} after {begun:.0f} s, {last_descriptors} at the end",
            *self._grown("tables"),
            *self._grown("types"),
        ])  # fmt: skip

    def _grown(self, name):
        """Yield the tables, or the types of objects, that have grown most since the warm-up."""
        first = next(counts for calls, counts in self.counts if calls >= self.warm_up)[name]
        last = self.counts[-1][1][name]
        grown = sorted(last, key=lambda each: first.get(each, 0) - last[each])[:LISTED]
        yield f"{name} that grew most after the warm-up:"
        yield from (f"  {first.get(each, 0):6} {last[each]:6} {each}" for each in grown)


def config(urls):
    providers = {name: bedrock(urls[name], flags=(flag,), models=(HAIKU,)) for name, (flag, _) in PROVIDERS.items()}
    granted = [{"role": "admin"}, {"models": "**", "quotas": [{"bucket": "q"}]}]
    return {
        "providers": providers,
        "grants": [{"src": ["*"], "app": {CAP: granted}}],
        "quotas": {"q": {"capacity": "$1000000", "rate": "$1000/day"}},
    }


def request(number):
    """Return the path, the body and the headers of a call, and the name of its fault, or "" if it has none."""
    fault = FAULTS[number // FAULT_EVERY % len(FAULTS)] if number % FAULT_EVERY == 0 else ""
    dialect = REQUESTS[number % len(REQUESTS)]
    provider = list(PROVIDERS)[number // len(REQUESTS) % len(PROVIDERS)]
    if provider == "r" and dialect is not _responses:  # no request is translated to Responses
        provider = "o"
    model = f"model-{number}" if fault == "unknown model" else f"{provider}/{HAIKU}"
    scenario = f" [[scenario: {fault}]]" if fault and " " not in fault else ""
    text = f"Call {number} is the first of its chat.{scenario}"
    path, body = dialect(model, text, number // 3 % 2 == 0)
    headers = {"user-agent": f"soak/{number}", "x-request-number": str(number)}
    if number % 3 == 0:
        headers["x-session-id"] = f"session-{number}"
    if dialect in (_chat, _responses) and provider in "cim":  # reported as dropped
        body[f"unknown_{number}"] = number
    data = b"{" * (number % 7) if fault == "nonsense" else json.dumps(body).encode()
    return path, data, {**headers, "content-type": "application/json"}, fault


async def _call(session, url, number, figures):
    path, data, headers, fault = request(number)
    figures.calls += 1
    try:
        async with session.post(url + path, data=data, headers=headers) as reply:
            outcome = str(reply.status)
            if fault == "client leaves":
                await reply.content.readany()
                reply.close()
            else:
                await reply.read()
    except aiohttp.ClientError as error:
        outcome = type(error).__name__
    figures.statuses[outcome] = figures.statuses.get(outcome, 0) + 1


class _Pace:
    """Limits calls to `rate` in a second. Calls that were missed during a pause are not made up for."""

    def __init__(self, rate):
        self._seconds = 1 / rate
        self._next = 0.0

    async def turn(self):
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + self._seconds
        await asyncio.sleep(at - now)


def _sample(pid, figures, begun):
    figures.samples.append((figures.calls, time.monotonic() - begun, resident(pid), descriptors(pid)))


async def _sampled(*of):
    _, figures, _ = of
    while True:
        if not figures.is_counting:
            _sample(*of)
        await asyncio.sleep(SAMPLE_SECONDS)


async def _count(process, path, figures):
    """Tell the probe to count the objects in the gateway's process, and add its answer to the figures."""
    path.unlink(missing_ok=True)
    calls = figures.calls
    figures.is_counting = True
    process.stdin.write(f"{path}\n".encode())
    line = await eventually(lambda: path.exists() and path.read_text().endswith("\n") and path.read_text(), 60)
    figures.is_counting = False
    figures.counts.append((calls, json.loads(line)))


async def _counted(process, path, figures, every):
    while True:
        await _count(process, path, figures)
        sys.stdout.write(figures.line() + "\n")
        sys.stdout.flush()
        await asyncio.sleep(every)


async def _records(session, url, calls):
    """Wait until the store has a record of each of the `calls` calls, but for at most `SETTLE_SECONDS`. Return the
    number of records.
    """
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        async with session.get(url + "/api/usage?by=agent") as reply:
            records = sum(row["calls"] for row in (await reply.json())["usage"])
        if records >= calls or time.monotonic() > until:
            return records
        await asyncio.sleep(0.2)


async def measured(folder, *, seconds, calls, rate=inf, every=inf):
    """Return the figures of a run that ends after a time or a number of calls, whichever comes first.

    `rate` is the maximum number of calls in a second. A line with the latest figures is printed every `every` seconds.
    """
    figures, numbers, pace = Figures(), count(1), _Pace(rate)
    async with AsyncExitStack() as stack:
        simulated = {name: await stack.enter_async_context(sim()) for name, (_, sim) in PROVIDERS.items()}
        path = folder / "config.hujson"
        path.write_text(json.dumps(config({name: sim.url for name, sim in simulated.items()})))
        command = (sys.executable, "-m", "tests.bench.soak_probe", "serve", "--config", str(path))
        # a process that is forked from the tests' process would count the tests' memory too
        gateway = await stack.enter_async_context(
            running(
                *command, "--listen", "127.0.0.1:0", cwd=folder, env=environment(folder), stdin=asyncio.subprocess.PIPE
            )
        )
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        begun = time.monotonic()
        of = gateway.process.pid, figures, begun
        probe = gateway.process, folder / "counts", figures
        _sample(*of)
        watching = [asyncio.create_task(_sampled(*of)), asyncio.create_task(_counted(*probe, every))]

        async def client():
            while time.monotonic() - begun < seconds and (number := next(numbers)) <= calls:
                await pace.turn()
                await _call(session, gateway.url, number, figures)
                for sim in simulated.values():
                    sim.requests.clear()
                gateway.lines.clear()

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        for task in watching:
            task.cancel()
        _sample(*of)
        figures.records = await _records(session, gateway.url, figures.calls)
        _sample(*of)
        await _count(*probe)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=inf, help="maximum number of calls in a second")
    parser.add_argument("--every", type=float, default=30, help="seconds between two lines of the curve")
    options = parser.parse_args()
    limits = {"seconds": options.minutes * 60, "calls": options.calls, "rate": options.rate, "every": options.every}
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measured(Path(folder), **limits))
    sys.stdout.write(figures.report() + "\n")


if __name__ == "__main__":
    main()
