"""OpenAI Responses to OpenAI Chat Completions, and the replies back.

How the request is read is in `dialects/openai_responses/read.py`, what becomes of it in `mappings/openai_to_chat.py`;
how a reply is read and written in `dialects/openai_chat/walk.py` and `dialects/openai_responses/emit.py`.
"""

from __future__ import annotations

from functools import partial

from gateway.contract.flag import ClientRequest, Drop, Target
from gateway_plugins.dialects.openai_chat import walk as chat_walk
from gateway_plugins.dialects.openai_responses import emit as responses_emit
from gateway_plugins.dialects.openai_responses import read_options as responses_read_options
from gateway_plugins.mappings import openai_to_chat
from gateway_plugins.shared.reply_events import Translation

api = 1
operations = ("generate",)


def open(ask: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    asked, origins = responses_read_options.read_request(ask.top, drop)
    made = openai_to_chat.request(asked, target, drop, stream=ask.stream)
    return Translation(
        ask.with_body("openai_chat", made.body),
        chat_walk.Reader(made.names, made.schema_tool, target.caps.family, drop),
        responses_emit.Stream(ask, origins, drop),
        partial(responses_emit.Whole, ask, origins, drop),
    )
