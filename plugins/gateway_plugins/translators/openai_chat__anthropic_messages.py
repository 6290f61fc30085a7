"""OpenAI Chat Completions to Anthropic Messages, and the replies back.

How the request is read is in `dialects/openai_chat/read.py`, what becomes of it in `mappings/openai_to_messages.py`;
how a reply is read and written in `dialects/anthropic_messages/walk.py` and `dialects/openai_chat/emit.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gateway.contract.flag import ClientRequest, Drop, Target
from gateway_plugins.dialects.anthropic_messages import walk as messages_walk
from gateway_plugins.dialects.openai_chat import emit as chat_emit
from gateway_plugins.dialects.openai_chat import read_options as chat_read_options
from gateway_plugins.mappings import converse_on_invoke, openai_to_messages
from gateway_plugins.shared.reply_events import Translation

api = 1
operations = ("generate",)


def open(ask: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    asked = chat_read_options.read_request(ask.top, drop)
    made = openai_to_messages.request(asked, target, drop, stream=ask.stream)
    include_usage = chat_read_options.include_usage(ask.top, drop)
    headers = {**ask.headers, **converse_on_invoke.guardrail(asked.guardrail, target, drop)}
    return Translation(
        replace(ask.with_body("anthropic_messages", made.body), headers=headers),
        messages_walk.Reader(made.names, made.schema_tool, target.caps.family, drop),
        chat_emit.Stream(ask.model, drop, include_usage=include_usage),
        partial(chat_emit.Whole, ask.model, drop),
    )
