"""The number of examples of each random test. It is small by default; an environment variable multiplies it."""

import os

TIMES = int(os.environ.get("IRISGATE_EXAMPLES", "1"))
"""The factor by which the number of examples of every random test is multiplied."""


def examples(count):
    return count * TIMES
