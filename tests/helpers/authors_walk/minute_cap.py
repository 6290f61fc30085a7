"""A filter that limits the calls of each caller per minute. The counts are in memory, so a restart forgets them.

"plugins": { "minute_cap": { "calls": 20 } }
"""

from collections import defaultdict, deque
from math import ceil
from threading import Lock
from time import monotonic

from gateway.contract import filter as filters
from gateway.contract.filter import limited
from pydantic import Field

api = 1
blocks = True

MINUTE = 60
CALLS = defaultdict(deque)
"""The times of the calls of the last minute, by caller."""
LOCK = Lock()


class Settings(filters.Settings):
    calls: int = Field(ge=1, description="How many calls each caller has in a minute.")


def open(call, settings):
    return MinuteCap(call.caller.login, settings.calls) if call.operation == "generate" else None


class MinuteCap:
    def __init__(self, login, calls):
        self.login = login
        self.calls = calls

    def request(self, asked):
        now = monotonic()
        with LOCK:
            times = CALLS[self.login]
            while times and times[0] <= now - MINUTE:
                times.popleft()
            if len(times) >= self.calls:
                wait = ceil(times[-self.calls] + MINUTE - now)
                message = f"you have {self.calls} calls a minute; try again in {wait} seconds"
                raise limited("minute_cap", message, retry_after=wait)
            times.append(now)


def samples():
    return [Settings(calls=2)]
