"""Chat Completions to Bedrock Converse, and what Converse answers back to Chat.

How the request is read is in `read_openai_chat.py`, what becomes of it in `openai_to_converse.py`; how a
reply is read and written in `walk_bedrock_converse.py` and `emit_openai_chat.py`.
"""

from __future__ import annotations

from functools import partial

from gateway.flag import Ask, Drop, Target
from gateway_plugins.parts.replies import emit_openai_chat as write
from gateway_plugins.parts.replies import walk_bedrock_converse as reply
from gateway_plugins.parts.replies.verbs import Translation
from gateway_plugins.parts.requests import openai_to_converse as to
from gateway_plugins.parts.requests import read_openai_options as read

api = 1
operations = ("generate",)


def open(ask: Ask, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    made = to.request(read.asked(ask.top, drop), target, drop, stream=ask.stream)
    include_usage = read.include_usage(ask.top, drop)
    return Translation(
        ask.with_body("bedrock_converse", made.body),
        reply.Reader(made.names, made.stand_in, target.caps.family, drop),
        write.Stream(ask.model, drop, include_usage=include_usage),
        partial(write.Whole, ask.model, drop),
    )
