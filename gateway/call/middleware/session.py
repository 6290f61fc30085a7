"""Sets the session id of a call. This is the first step, so that the records of refused calls have a session id too."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.call.chain import Call, Next, Response
from gateway.call.sessions import session_id
from gateway.upstream.process_pool import yield_to_loop


@dataclass(frozen=True, slots=True)
class Session:
    key: bytes
    """The secret key of the fingerprints. Without the key, nobody can guess the text of a chat from its session id."""

    async def __call__(self, call: Call, following: Next) -> Response:
        request = call.request
        # parsing a large body has just blocked the event loop, and finding the chat's beginning blocks the loop again
        await yield_to_loop(len(request.top.body))
        call.session_id = session_id(request, call.identity.login, self.key)
        await yield_to_loop(len(request.top.body))
        return await following(call)
