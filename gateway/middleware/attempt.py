"""One try of a call: a fresh attempt from the unchanged ask, at the first candidate."""

from __future__ import annotations

from gateway.chain import Answer, Attempt, Call, Next


async def attempt(call: Call, following: Next) -> Answer:
    call.attempts.append(Attempt(call.candidates[0], call.require_ask()))
    return await following(call)
