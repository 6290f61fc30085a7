"""Compares the gateway with other systems in one run: `python -m tests.bench [--quick] [--case NAME]...`.

It prints a Markdown table of ratios, with the date, the versions, and the smallest and largest values. README.md
explains the table.
"""

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.bench.additions import ADDITIONS, LEAST_ROUNDS, run_addition
from tests.bench.cases import CASES, START_ROUNDS, STARTS
from tests.bench.report import report
from tests.bench.rounds import Figures, run_case, run_starts
from tests.bench.systems import nginx_program
from tests.bench.wire import compile_programs, wire

QUICK_WINDOW_MS = 200
SECONDS = 540
"""Intended duration of a whole run in seconds, which the cases share. On a busy machine, a case has fewer rounds, but
always at least one, so a run may take longer.
"""
INSTALL = Path(__file__).parent / "install"
START = "start"
NAMES = (*(case.name for case in CASES), *(addition.name for addition in ADDITIONS), START)


async def measure(folder, figures, *, names=NAMES, quick=False):
    """Measure the cases with these names, and add the results to `figures`.

    If `quick` is true, measure only one short round of each case.
    """
    begun, cases = time.monotonic(), [case for case in CASES if case.name in names]
    additions = [addition for addition in ADDITIONS if addition.name in names]
    count = len(cases) + len(additions) + 1
    async with wire(folder, folder) as running:
        for number, case in enumerate(cases, 1):
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {case.name}\n")
            rounds, window_ms = (1, QUICK_WINDOW_MS + case.interval_ms) if quick else (case.rounds, case.window_ms)
            until = begun + SECONDS * number / count
            await run_case(case, running, folder, figures, rounds=rounds, window_ms=window_ms, until=until)
        for number, addition in enumerate(additions, len(cases) + 1):
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {addition.name}\n")
            until = begun + SECONDS * number / count
            await run_addition(addition, running, folder, figures, rounds=LEAST_ROUNDS if quick else None, until=until)
        if START in names:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {START}\n")
            await run_starts(STARTS, running, folder, figures, rounds=1 if quick else START_ROUNDS)


def _interrupt(number, frame):
    """End the run and the measured systems. A second signal is ignored, because it would interrupt the clean-up."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    signal.default_int_handler(number, frame)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--case", action="append", choices=NAMES, help="run this case; may be given several times")
    parser.add_argument("--quick", action="store_true", help="run one short round of each case")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    if nginx_program() is None:
        subprocess.run([INSTALL, "nginx"], check=False)
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        compile_programs(Path(folder))
        with suppress(KeyboardInterrupt):  # the cases until then are reported
            asyncio.run(measure(Path(folder), figures, names=options.case or NAMES, quick=options.quick))
    sys.stdout.write(f"{report(figures)}\n")


if __name__ == "__main__":
    main()
