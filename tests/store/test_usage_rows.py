"""Tests of usage reports. Their rows are grouped by properties of the calls, such as the user, and by day or hour.

The rows equal a recount of the calls, up to the maximum number of rows.
"""

from collections import Counter
from datetime import UTC, datetime
from itertools import islice

import pytest

from gateway.store import usage
from gateway.store.base import UsageQuery
from tests.helpers.postgres import kept_in_postgres
from tests.helpers.records import NOON, Kept, record

HOUR = 3600
END = (NOON + 900 * HOUR) // 86_400 * 86_400
CALLS = [
    record(
        id=f"c{number}",
        at=NOON + number * 7 * HOUR,
        identity=f"{number % 11}@example.com",
        agent=("curl", "\x01")[number % 2],
        model=f"m{number % 3}",
        cost=number,
    )
    for number in range(150)
]
NAMES = {"user": lambda call: call.identity, "agent": lambda call: call.agent, "model": lambda call: call.model}
GROUPS = [
    ("user", "day"), ("day", "user"), ("agent", "day"), ("user", "model", "hour"), ("hour", "user"),
    ("model", "day"), ("user", "day", "model"), ("agent", "hour"), ("user", "agent"), ("day",),
]  # fmt: skip


def recounted(by, chosen):
    """Count the calls `chosen` by row. Return sorted pairs of a row and the number of its calls.

    A row is a tuple with one value for each name in `by`. A name is "day", "hour", or another property of a call.
    """
    rows = Counter()
    for call in chosen:
        moment = datetime.fromtimestamp(call.at, UTC)
        times = {"day": f"{moment:%Y-%m-%d}", "hour": f"{moment:%Y-%m-%dT%H:00Z}"}
        rows[tuple(times[name] if name in times else NAMES[name](call) for name in by)] += 1
    return sorted(rows.items())


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request, tmp_path):
    kept = kept_in_postgres()() if request.param == "postgres" else Kept(tmp_path / "irisgate.db")
    for call in CALLS:
        kept.put(call)
    await kept.flush()
    yield kept
    await kept.close()


async def test_rows_are_the_first_of_a_recount(store, monkeypatch):
    for most in (5, 60, 5_000):
        monkeypatch.setattr(usage, "MAX_ROWS", most)
        for by in GROUPS:
            for selected, calls in (({}, CALLS), ({"model": "m1"}, [call for call in CALLS if call.model == "m1"])):
                rows = await store.usage(UsageQuery(by=by, until=END, **selected))
                right = recounted(by, [call for call in calls if call.at < END])
                assert [(tuple(row.group.values()), row.calls) for row in rows] == [*islice(right, most)]
