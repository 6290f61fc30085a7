"""Chat Completions to Bedrock Converse, and what Converse answers back to Chat.

How the request is read is in `dialects/openai_chat/read.py`, what becomes of it in `mappings/openai_to_converse.py`;
how a reply is read and written in `dialects/bedrock_converse/walk.py` and `dialects/openai_chat/emit.py`.
"""

from __future__ import annotations

from functools import partial

from gateway.contract.flag import ClientRequest, Drop, Target
from gateway_plugins.dialects.bedrock_converse import walk as converse_walk
from gateway_plugins.dialects.openai_chat import emit as chat_emit
from gateway_plugins.dialects.openai_chat import read_options as chat_read_options
from gateway_plugins.mappings import openai_to_converse
from gateway_plugins.shared.reply_events import Translation

api = 1
operations = ("generate",)


def open(ask: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    made = openai_to_converse.request(chat_read_options.read_request(ask.top, drop), target, drop, stream=ask.stream)
    include_usage = chat_read_options.include_usage(ask.top, drop)
    return Translation(
        ask.with_body("bedrock_converse", made.body),
        converse_walk.Reader(made.names, made.schema_tool, target.caps.family, drop),
        chat_emit.Stream(ask.model, drop, include_usage=include_usage),
        partial(chat_emit.Whole, ask.model, drop),
    )
