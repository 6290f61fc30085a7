"""OpenAI Chat Completions to Anthropic Messages, and the replies back.

How the request is read is in `read_openai_chat.py`, what becomes of it in `openai_to_messages.py`; how a
reply is read and written in `walk_anthropic_messages.py` and `emit_openai_chat.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gateway.flag import Ask, Drop, Target
from gateway_plugins.parts.replies import emit_openai_chat as write
from gateway_plugins.parts.replies import walk_anthropic_messages as reply
from gateway_plugins.parts.replies.verbs import Translation
from gateway_plugins.parts.requests import converse_on_invoke
from gateway_plugins.parts.requests import openai_to_messages as to
from gateway_plugins.parts.requests import read_openai_options as read

api = 1
operations = ("generate",)


def open(ask: Ask, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    asked = read.asked(ask.top, drop)
    made = to.request(asked, target, drop, stream=ask.stream)
    include_usage = read.include_usage(ask.top, drop)
    headers = {**ask.headers, **converse_on_invoke.guardrail(asked.guardrail, target, drop)}
    return Translation(
        replace(ask.with_body("anthropic_messages", made.body), headers=headers),
        reply.Reader(made.names, made.stand_in, target.caps.family, drop),
        write.Stream(ask.model, drop, include_usage=include_usage),
        partial(write.Whole, ask.model, drop),
    )
