"""Sets the session id of a call. This is the first step, so that records of refused calls have a session id too."""

from __future__ import annotations

import msgspec

from gateway.call.chain import Call, Next
from gateway.call.responses import Response
from gateway.call.sessions import SessionFinder
from gateway.upstream.process_pool import yield_to_loop


class Session(msgspec.Struct, frozen=True):
    sessions: SessionFinder

    async def __call__(self, call: Call, following: Next) -> Response:
        request = call.request
        # a large body has just been parsed on the event loop, so let other tasks run
        await yield_to_loop(len(request.top.body))
        session = self.sessions.id_of(request, call.identity.login, call.inbound.agent, call.flag)
        call.session_id = session if isinstance(session, str) else await session
        return await following(call)
