"""A simulated provider of any API: it sends the queued replies byte for byte, whatever the request is."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway.testkit.prompts import Prompt
from gateway.testkit.simulator import Refusal, Seen, Simulator

_PROMPT: Final = Prompt(text="", result="", tools=[], tokens=0)
"""The prompt that is assumed for every request. It is empty, because the format of the requests is unknown."""


class RawSim(Simulator):
    def failure(self, name: str, message: str) -> Refusal:
        return Refusal(500, {"error": f"{name}: {message}"})

    async def respond(self, seen: Seen, request: web.Request) -> web.StreamResponse:
        credentials = {value.removeprefix("Bearer ") for value in seen.headers.values()}
        if self.keys is not None and not self.keys & credentials:
            raise Refusal(401, {"error": "no header has a key of this provider"})
        scenario, _ = await self.choose(_PROMPT)
        if scenario.raw is None:
            raise Refusal(500, {"error": "no reply is queued; write upstream.script(scenarios.raw(…))"})
        return await self.stream(request, scenario, (), b"", {})
