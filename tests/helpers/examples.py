"""The number of examples of each random test. It is small by default; an environment variable multiplies it."""

import os

TIMES = int(os.environ.get("IRISGATE_EXAMPLES", "1"))
"""The factor by which all numbers of examples are multiplied."""


def examples(count):
    return count * TIMES
