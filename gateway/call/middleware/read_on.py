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
from typing import Final

from gateway.call.chain import Attempt, AttemptNext, Call, Response
from gateway.contract.flag import Usage

READ_ON_SECONDS: Final = 120.0
"""Maximum seconds for which a reply is read after the client has left. Few unstreamed replies take longer."""

_ONE_TOKEN_EACH: Final = Usage(input=1, output=1)


@dataclass(frozen=True, slots=True)
class ReadOn:
    draining: Callable[[], bool]
    """Whether the gateway is stopping. A cancellation then does not mean that the client has left."""
    seconds: float = READ_ON_SECONDS

    async def __call__(self, call: Call, attempt: Attempt, following: AttemptNext) -> Response:
        if attempt.request.stream:
            return await following(call, attempt)
        reply = asyncio.ensure_future(following(call, attempt))
        try:
            return await asyncio.shield(reply)
        except asyncio.CancelledError:
            if attempt.sent and not self.draining() and _is_billed(call, attempt):
                call.left = True
                await asyncio.wait({reply}, timeout=self.seconds)
            raise
        finally:
            if not reply.done():
                reply.cancel()
                await asyncio.gather(reply, return_exceptions=True)


def _is_billed(call: Call, attempt: Attempt) -> bool:
    offer = attempt.candidate.offer
    price = call.runtime.prices.of(offer.provider, offer.model)
    return price is not None and price.cost(_ONE_TOKEN_EACH) != 0
