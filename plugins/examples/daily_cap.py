"""A filter that limits the tokens of each caller per day. The counts are in memory, so a restart forgets them.

    "plugins": { "daily_cap": { "tokens": 1000000 } }

The counts include tokens that were read from a cache or written to one. Reasoning tokens are part of the output tokens.
A quota limits money instead, and survives a restart (deploy/README.md).
"""

from collections import Counter
from time import time

from gateway.contract import filter as filters
from gateway.contract.filter import limited

api = 1
blocks = True

DAY = 24 * 60 * 60
COUNTED = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
USED = Counter()
"""Tokens by caller and day. The counts of earlier days are dropped."""


class Settings(filters.Settings):
    tokens: int = 1_000_000


def open(call, settings):
    return Cap((call.caller.login, int(time() // DAY)), settings.tokens)


class Cap:
    def __init__(self, key, tokens):
        self.key = key
        self.tokens = tokens

    def request(self, asked):
        if USED[self.key] >= self.tokens:
            left = DAY - time() % DAY
            raise limited("daily_cap", f"you have used your {self.tokens} tokens of today", retry_after=left)

    def done(self, record):
        for key in [key for key in USED if key[1] < self.key[1]]:
            del USED[key]
        USED[self.key] += sum(record["tokens"][kind] for kind in COUNTED)
