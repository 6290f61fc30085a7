"""The Markdown table of a run."""

import platform
import time
from math import isnan
from pathlib import Path
from statistics import median

from tests.bench.additions import CONFIDENCE, LEAST_ROUNDS
from tests.bench.cases import OWN
from tests.bench.systems import BARE, IRISGATE

OURS = IRISGATE.name
COLUMNS = (BARE.name, OWN, "nginx", "TensorZero", "Portkey", "LiteLLM", "bedrock-access-gateway")


def report(figures):
    """Return the table: the gateway's own figures, and their ratios to those of the other systems.

    Each figure is a median of the rounds, followed by the smallest and the largest one. A ratio is computed within each
    round.
    """
    columns = [name for name in COLUMNS if any(name in row for row in figures.rows.values())]
    lines = [f"{time.strftime('%Y-%m-%d')}, {_versions(figures)}"]
    if figures.rows:
        lines += ["", _line("case", "unit", OURS, *(f"x {name}" for name in columns))]
        lines += [_line("---", "---", *["---:"] * (1 + len(columns)))]
    for (title, unit), row in figures.rows.items():
        ours = row.get(OURS, [])
        ratios = [_ratios(ours, row[name]) if name in row else "" for name in columns]
        lines.append(_line(title, unit, _spread(ours), *ratios))
    if figures.added:
        lines += ["", *_added(figures.added)]
    lines += ["", *(f"- {name}: {reason}" for name, reason in sorted(figures.notes.items()))]
    return "\n".join(lines)


def _added(added):
    """Yield the lines of a table of what filters add to the CPU time of a chunk.

    Times are medians in microseconds. The column `part` is the added time in percent of the time without the filters.
    """
    yield _line("with filters", "us without", "us added", f"{CONFIDENCE:.0%} interval", "quartiles", "part", "rounds")
    yield _line("---", *["---:"] * 6)
    for title, result in added.items():
        if len(result.rounds) < LEAST_ROUNDS:  # the run was interrupted
            continue
        middle, without = median(result.differences), result.without
        low, high = result.interval
        ranges = (f"{low:+.1f} to {high:+.1f}", "{:+.1f} to {:+.1f}".format(*result.quartiles))
        yield _line(
            title, _number(without), f"{middle:+.1f}", *ranges, f"{middle / without:+.1%}", str(len(result.rounds))
        )


def _versions(figures):
    names = (OURS, *COLUMNS)
    systems = [f"{name} {figures.versions[name]}" for name in names if name in figures.versions]
    return f"{', '.join([f'Python {platform.python_version()}', *systems])}; {_processor()}"


def _processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown processor")


def _line(*cells):
    return f"| {' | '.join(cells)} |"


def _ratios(ours, others):
    ratios = [own / other for own, other in zip(ours, others, strict=False)]
    return _spread(ratios)


def _spread(values):
    """Return the median, the smallest and the largest value as text. NaN, the value of a round without a reply, is left
    out.
    """
    values = [value for value in values if not isnan(value)]
    if not values:
        return "–"
    if len(values) == 1:
        return _number(values[0])
    return f"{_number(median(values))} ({_number(min(values))}–{_number(max(values))})"


def _number(value):
    return (
        f"{value:,.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 0.1
        else f"{value:.3f}"
    )
