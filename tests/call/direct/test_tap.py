"""Tests of the estimated output of a direct call. It is computed from all bytes of the reply, even if the reply is too
large to be kept in memory.
"""

from types import SimpleNamespace

import pytest

from gateway.call.direct import tap
from gateway.contract.errors import UNAVAILABLE, Problem, UpstreamFailed


class Budget:
    """A stand-in for a call. It refuses to keep more than `limit` bytes of a reply, as if the memory budget were used
    up.
    """

    def __init__(self, limit):
        self.limit = limit
        self.held = 0

    def hold_reply(self, size):
        if size > self.limit:
            raise UpstreamFailed(Problem(UNAVAILABLE, "no memory"))
        self.held = size


@pytest.mark.parametrize(("limit", "most"), [(250, 10_000), (10_000, 250)], ids=["budget", "size"])
async def test_a_reply_that_is_not_kept_counts_its_bytes(monkeypatch, limit, most):
    monkeypatch.setattr(tap, "MAX_WHOLE", most)
    call, attempt = Budget(limit), SimpleNamespace(delivered=None)
    reader = tap._WholeTap(call, attempt, None)
    held = []
    for _ in range(5):
        reader.feed(b"x" * 100)
        held.append(call.held)
    await reader.close()
    assert attempt.delivered == 500
    assert held == [100, 200, 0, 0, 0]
