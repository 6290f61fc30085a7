"""OpenAI Responses to OpenAI Chat Completions, and the replies back.

How the request is read is in `read_openai_responses.py`, what becomes of it in `openai_to_chat.py`; how
a reply is read and written in `walk_openai_chat.py` and `emit_openai_responses.py`.
"""

from __future__ import annotations

from functools import partial

from gateway.flag import Ask, Drop, Target
from gateway_plugins.parts.replies import emit_openai_responses as write
from gateway_plugins.parts.replies import walk_openai_chat as reply
from gateway_plugins.parts.replies.verbs import Translation
from gateway_plugins.parts.requests import openai_to_chat as to
from gateway_plugins.parts.requests import read_openai_responses_options as read

api = 1
operations = ("generate",)


def open(ask: Ask, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    asked, origins = read.asked(ask.top, drop)
    made = to.request(asked, target, drop, stream=ask.stream)
    return Translation(
        ask.with_body("openai_chat", made.body),
        reply.Reader(made.names, made.stand_in, target.caps.family, drop),
        write.Stream(ask, origins, drop),
        partial(write.Whole, ask, origins, drop),
    )
