"""Sets the session id of a call. This is the first step, so that records of refused calls have a session id too."""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec

from gateway.call.chain import Call, Next
from gateway.call.responses import Response
from gateway.call.sessions import SessionFinder
from gateway.upstream.process_pool import LARGE, yield_to_loop


class Session(msgspec.Struct, frozen=True):
    sessions: SessionFinder

    def __call__(self, call: Call, following: Next) -> Awaitable[Response]:
        session = self._find(call) if len(call.request.top.body) < LARGE else self._find_later(call)
        if isinstance(session, str):
            call.session_id = session
            return following(call)
        return self._found(call, session, following)

    def _find(self, call: Call) -> str | Awaitable[str]:
        return self.sessions.id_of(call.request, call.identity.login, call.inbound.agent, call.flag)

    async def _find_later(self, call: Call) -> str:
        # a large body has just been parsed on the event loop, so let other tasks run
        await yield_to_loop(len(call.request.top.body))
        session = self._find(call)
        return session if isinstance(session, str) else await session

    async def _found(self, call: Call, session: Awaitable[str], following: Next) -> Response:
        call.session_id = await session
        return await following(call)
