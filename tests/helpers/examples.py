"""The number of examples of a random test: few in each run, and many times as many by an option."""

import os

TIMES = int(os.environ.get("IRISGATE_EXAMPLES", "1"))
"""The number by which all numbers of examples are multiplied."""


def examples(count):
    return count * TIMES
