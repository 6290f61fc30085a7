"""Measures the CPU time of each report over a million calls that are spread over a year.

Run by hand: `python -m tests.bench.reports [FILE]`. The store in the file is used again if it exists.
"""

import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.store.file import connect
from gateway.store.reports import details, sums, tables
from gateway.store.reports.values import Selection
from gateway.store.sqlite_thread import REPORTS_CACHE_KB
from gateway.web.reports.ranges import preset_range
from tests.bench import million
from tests.bench.measure import table

DAYS = 365
BOUND_MS = 150
ZONES = ("UTC", "Asia/Kolkata")
PRESETS = ("7d", "30d", "90d", "12m")


def queries(connection, zone, preset):
    """Return the reports of one range of time: a dict from a label to a function that makes the report."""
    wanted = preset_range(preset, ZoneInfo(zone), million.END - 10)
    buckets = wanted.buckets()
    everybody, one = Selection(span=wanted.span), Selection(span=wanted.span, user=million.USERS[1])
    return {
        "totals": lambda: sums.summaries(connection, everybody, [wanted.span]),
        "totals of one": lambda: sums.summaries(connection, one, [wanted.span]),
        "trend": lambda: sums.summaries(connection, everybody, buckets),
        "chart by model": lambda: sums.stack(connection, everybody, buckets, "model", "cost"),
        "chart by user": lambda: sums.stack(connection, everybody, buckets, "user", "cost"),
        "chart of one": lambda: sums.stack(connection, one, buckets, "model", "cost"),
        "table by user": lambda: tables.table_rows(connection, everybody, "user"),
        "people": lambda: sums.people(connection, everybody, buckets),
        "models": lambda: details.models(connection, everybody, buckets),
        "tools": lambda: details.tools(connection, everybody, 50),
        "errors": lambda: details.errors(connection, everybody, buckets, 100),
    }


def cpu_ms(query):
    """Return the CPU time of the second run of a query in milliseconds."""
    query()
    began = time.process_time()
    query()
    return (time.process_time() - began) * 1000


def main(file=None):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(file) if file else Path(folder) / million.DATABASE
        if not path.exists():
            million.build(path, million.CALLS, days=DAYS)
        with closing(connect(path, cache_kb=REPORTS_CACHE_KB)) as connection:
            rows = []
            for zone in ZONES:
                for preset in PRESETS:
                    for name, query in queries(connection, zone, preset).items():
                        took = cpu_ms(query)
                        rows.append((f"{zone} {preset} {name}", [f"{took:,.1f}", "over" if took > BOUND_MS else ""]))
    sys.stdout.write(f"{table('report', ['CPU ms', f'> {BOUND_MS} ms'], rows)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
