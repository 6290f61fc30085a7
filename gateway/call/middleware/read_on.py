"""Reads the reply of a call to its end although the client has left, so that the call costs what the provider reports.

- A provider goes on with a reply that is not a stream, and bills all of it, whether or not anybody reads it.
- The reading ends after `READ_ON_SECONDS`, or when the gateway stops. The cost is then an estimate.
- If the model has no price or costs nothing, such as a model on a local server, the provider is left at once: there is
  no cost to find out, and the server can stop.
- This does not apply to streams. Most providers stop when the connection is closed, and the cost is estimated from what
  came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gateway.call.chain import Attempt, AttemptNext, Call, Response
from gateway.contract.flag import Usage

READ_ON_SECONDS: Final = 120.0
"""Maximum seconds for which a reply is read after the client has left. Few unstreamed replies take longer."""

_ONE_TOKEN_EACH: Final = Usage(input=1, output=1)


@dataclass(frozen=True, slots=True)
class ReadOn:
    draining: Callable[[], bool]
    """Whether the gateway is stopping."""
    seconds: float = READ_ON_SECONDS

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        """Run the next step. Raises `asyncio.CancelledError` after that step if the client has left meanwhile."""
        if attempt.request.stream:
            return await following(call, attempt)
        task = asyncio.current_task()
        assert task is not None
        call.goes_on = partial(self._goes_on, call, attempt, task)
        try:
            return await following(call, attempt)
        finally:
            call.goes_on = None
            if call.left:
                raise asyncio.CancelledError

    def _goes_on(self, call: Call, attempt: Attempt, task: asyncio.Task[Any]) -> bool:
        """Return whether the call continues without its client. If so, it is cancelled `ReadOn.seconds` from now."""
        if not attempt.sent or self.draining() or not _is_billed(call, attempt):
            return False
        call.left = True
        timer = asyncio.get_running_loop().call_later(self.seconds, task.cancel)
        call.stack.callback(timer.cancel)
        return True


def _is_billed(call: Call, attempt: Attempt) -> bool:
    offer = attempt.candidate.offer
    price = call.runtime.prices.of(offer.provider, offer.model)
    return price is not None and price.cost(_ONE_TOKEN_EACH) != 0
