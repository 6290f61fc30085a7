"""Gives a call the id of its session, before anything can refuse the call."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.call.chain import Call, Next, Response
from gateway.call.sessions import session_id
from gateway.upstream.process_pool import yield_to_loop


@dataclass(frozen=True, slots=True)
class Session:
    key: bytes
    """Keys the fingerprint of a chat, so that an id tells nothing of its text."""

    async def __call__(self, call: Call, following: Next) -> Response:
        request = call.request
        # reading a large body took its time already, and looking for where its conversation begins will take some more
        await yield_to_loop(len(request.top.body))
        call.session_id = session_id(request, call.identity.login, self.key)
        await yield_to_loop(len(request.top.body))
        return await following(call)
