"""Measures what filters add to the CPU time of a chunk: one gateway, with and without them, in many short rounds.

- A round has two windows, one with each configuration. The same process reloads its configuration before each window,
  so that the windows differ in nothing else.
- Each connection sends one request in a window, and the window ends with the last reply. So each window has the same
  calls and chunks.
- The windows of a round are half a second apart. So other programs slow both windows equally, and the difference
  between the windows is more exact than the time of either window.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from math import inf
from statistics import median, quantiles

from tests.bench.systems import FILTERS, IRISGATE, PROXY_LINE, reconfigure
from tests.bench.traffic import CHAT_STREAM, CONVERSE_MODEL, CONVERSE_STREAM, REPLIES, Request

SETTLE_SECONDS = 0.05
"""Seconds between a reload and the next measurement, so that the gateway can free its former configuration."""
LEAST_ROUNDS = 2
"""Minimum number of rounds, so that there are quartiles."""
WARM_ROUNDS = 2
"""Number of first rounds that do not count."""
SAMPLES = 2000
"""Number of random samples from which the confidence interval of a median is computed (bootstrap)."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Addition:
    """A comparison of the gateway with some filters, and without them."""

    name: str
    title: str
    filters: tuple[str, ...]
    """Names of plugins in `FILTERS`."""
    request: Request
    connections: int = 25
    chunks: int = 40
    interval_ms: int = 10
    rounds: int = 70


@dataclass(frozen=True)
class Added:
    """The result of a comparison, in microseconds of CPU time per chunk."""

    rounds: list[tuple[float, float]]
    """The figures of each round: with the filters, and without them."""

    @property
    def without(self):
        return median(without for _, without in self.rounds)

    @property
    def differences(self):
        return [with_filters - without for with_filters, without in self.rounds]

    @property
    def quartiles(self):
        low, _, high = quantiles(self.differences, n=4, method="inclusive")
        return low, high

    @property
    def interval(self):
        """The confidence interval of the median of `differences`, for the level `CONFIDENCE` (percentile bootstrap)."""
        draw, values = random.Random(0), self.differences
        medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(SAMPLES))
        tail = (1 - CONFIDENCE) / 2
        return medians[int(SAMPLES * tail)], medians[int(SAMPLES * (1 - tail))]


_IDLE = tuple(name for name in FILTERS if name.startswith("idle_"))
_CHAT, _CONVERSE = Request(CHAT_STREAM), Request(CONVERSE_STREAM, CONVERSE_MODEL)
ADDITIONS = (
    Addition("filter", "Chat, a filter that reads text", ("reading",), _CHAT),
    Addition("filter-converse", "Converse, a filter that reads text", ("reading",), _CONVERSE),
    Addition("idle-filters", "Chat, ten filters that have nothing to do", _IDLE, _CHAT),
)


async def run_addition(addition, wire, folder, figures, *, rounds=None, until=inf):
    """Measure the gateway with and without the filters of `addition`, and add the result to `figures`.

    The first two rounds always take place. No other round begins after the time `until` of the monotonic clock.
    """
    folder = folder / addition.name
    folder.mkdir()
    request = addition.request
    async with IRISGATE.start(wire.port, folder) as process:
        figures.versions[IRISGATE.name] = IRISGATE.version()
        await wire.reply(
            REPLIES[request.provider_dialect], count=addition.chunks, interval_us=addition.interval_ms * 1000
        )
        async with wire.windows(
            process.port,
            IRISGATE.request(request, wire.port),
            connections=addition.connections,
            warm_ms=0,
            window_ms=0,
            drained=True,
            pids=process.pids,
            preface=PROXY_LINE,
        ) as window:

            async def cost(filters):
                await reconfigure(process, wire.port, folder, filters=filters)
                await asyncio.sleep(SETTLE_SECONDS)
                results = await window()
                if results["failures"]:
                    raise AssertionError(f"calls failed, the first with status {results['first_failure']}")
                return results["cpu_us"] / results["chunks"]

            for _ in range(WARM_ROUNDS):
                await cost(addition.filters)
                await cost(())
            measured = figures.added[addition.title] = Added([])
            for number in range(rounds or addition.rounds):
                if number >= LEAST_ROUNDS and time.monotonic() > until:
                    break
                if number % 2:
                    with_filters, without = await cost(addition.filters), await cost(())
                else:
                    without, with_filters = await cost(()), await cost(addition.filters)
                measured.rounds.append((with_filters, without))
