"""Measures the costs of identity and grants for a call, with 10 to 10,000 grants and as many models.

Run by hand: `python -m tests.bench.identity`. Warm costs are those of a call whose caller and model are already cached.
Cold costs occur once, and are in a separate table.
"""

import asyncio
import sys
import tempfile
from functools import partial
from pathlib import Path

from gateway.call import guard
from gateway.call.chain import chain
from gateway.call.middleware.plan import planned
from gateway.call.responses import Whole
from gateway.contract.registry import discover
from tests.bench import cold
from tests.bench.arrivals import arrivals
from tests.bench.measure import cpu_us, rounded, table
from tests.bench.sizes import POLICY, setups

SIZES = (10, 100, 1_000, 10_000)
ANSWER = Whole(200, {}, b"")
ASKING = ("whois", "proxy-protocol")
"""Identity modes in which each new connection gets the caller's grants in the tailnet policy again.

In the report's sums, grants in the policy are combined only with these modes.
"""


async def nothing(_call):
    return ANSWER


async def with_headers(call):
    """The last step of the measured chain: look up the headers that grants add to the request, and return a fixed
    answer.
    """
    call.plan.headers[call.offers[0].name]
    return ANSWER


THROUGH = chain(planned, last=with_headers)
PAST = chain(last=nothing)


async def measured(folder, sizes=SIZES, **options):
    """Return three dicts with times in microseconds.

    - The time to identify a caller, by identity mode.
    - The times to apply grants, by the arrangement of the grants (`Setup.name`).
    - The times of actions that find no cached result (`cold.py`), by (action, arrangement of the grants).

    A value of the second and the third dict is a list with one time for each size.
    """
    plugin = discover().flags["openai_chat"]
    once = {}
    async with arrivals(folder) as (sim, modes, requests):
        identified = {mode: [partial(_identified, modes, request)] for mode, request in requests.items()}
        identity = await cpu_us(identified, **options)
        made, rows = {}, []
        for size in sizes:
            made[size] = await setups(size, sim, modes, requests["whois"])
            rows += await cold.others(size, modes, requests["whois"])
        warm = await _decided(made, plugin, **options)
        for setup in [setup for ways in made.values() for setup in ways]:
            rows += await cold.decisions(setup, plugin, THROUGH)
    for name, way, value in rows:
        once.setdefault((name, way), []).append(value)
    return identity, warm, once


async def _identified(modes, request):
    """Identify the caller of a request in the same way as the gateway (`guard.py`)."""
    await modes.identify(guard.caller_of(request))


async def _decided(made, plugin, **options):
    """Return the microseconds of a call's decisions: resolve the model, apply the grants, and add the headers.

    The time of an empty chain of middlewares is subtracted. The key is the arrangement of the grants (`Setup.name`),
    and the value is a list with one number for each size.
    """
    groups = {}
    for size, ways in made.items():
        for setup in ways:
            for call in setup.calls(plugin, setup.seen):
                await THROUGH(call)
            calls = setup.calls(plugin, setup.identities)
            groups |= {(setup.name, size, steps): [partial(steps, call) for call in calls] for steps in (THROUGH, PAST)}
    costs = await cpu_us(groups, **options)
    return {
        setup.name: [costs[setup.name, size, THROUGH] - costs[setup.name, size, PAST] for size in made]
        for setup in next(iter(made.values()))
    }


def report(identity, warm, once, sizes=SIZES):
    """Return four tables as text.

    Three of them show `identity`, `warm` and `once`, the results of `measured`. The fourth shows totals for a call:
    each time in `identity` plus each time in `warm`.
    """
    heads = [*(f"{size:,}" for size in sizes), "ratio"]
    sums = [
        (f"{mode}; {way}", [identity[mode] + value for value in values])
        for mode in identity
        for way, values in warm.items()
        if way != POLICY or mode in ASKING
    ]
    return "\n\n".join(
        [
            "CPU microseconds of the event loop's thread; columns are numbers of grants and of models",
            table("identity, a request", [""], [(mode, [rounded(value)]) for mode, value in identity.items()]),
            table("resolve and grants, a call", heads, [_row(*row) for row in warm.items()]),
            table("sum, a call", heads, [_row(*row) for row in sums]),
            table("cold", heads, [_row("; ".join(names), values) for names, values in sorted(once.items())]),
        ]
    )


def _row(name, values):
    first, last = values[0], values[-1]
    ratio = f"{last / first:,.2f}" if first and last is not None else "-"
    return name, [*(rounded(value) for value in values), ratio]


async def main():
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(f"{report(*await measured(Path(folder)))}\n")


if __name__ == "__main__":
    asyncio.run(main())
