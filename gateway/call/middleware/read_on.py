"""Reads the reply of a call to its end even after its client has disconnected, to learn the exact usage.

- This is done only for replies that are not streams. A provider completes and bills them even if nobody reads them. In
  contrast, most providers stop a stream when the connection is closed. The cost of a stopped stream is estimated from
  the part that was received.
- Reading ends after `READ_ON_SECONDS`, or when the gateway stops. The cost is then an estimate.
- If the model is free or has no price, the connection to the provider is closed at once. A local server can then stop
  its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from gateway.call.chain import Attempt, AttemptNext, Call
from gateway.call.responses import Response
from gateway.contract.flag import Usage

READ_ON_SECONDS: Final = 120.0
"""Maximum number of seconds for which a reply is read after the client has disconnected. Few replies take longer."""

_ONE_TOKEN_EACH: Final = Usage(input=1, output=1)


class ReadOn(msgspec.Struct, frozen=True):
    draining: Callable[[], bool]
    """A function that returns whether the gateway is stopping."""
    seconds: float = READ_ON_SECONDS

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        """Run the next step.

        If the client disconnects meanwhile, still wait for the end of the step, and then raise
        `asyncio.CancelledError`.
        """
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
        """Return whether the call continues without its client.

        If it continues, set a timer that cancels `task` after `ReadOn.seconds`. The end of the call stops the timer.
        """
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
