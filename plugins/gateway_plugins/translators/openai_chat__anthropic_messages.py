"""Translation of OpenAI Chat Completions requests to Anthropic Messages, and of the replies back.

A guardrail of Bedrock in the client's body is sent to InvokeModel in headers (`mappings/converse_on_invoke.py`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from gateway.contract.flag import ClientRequest, Drop, Target
from gateway_plugins.dialects.anthropic_messages import walk as messages_walk
from gateway_plugins.dialects.openai_chat import emit as chat_emit
from gateway_plugins.dialects.openai_chat import read_options as chat_read_options
from gateway_plugins.mappings import converse_on_invoke, plain_to_messages
from gateway_plugins.shared.inline_reasoning import reply_reader
from gateway_plugins.shared.reply_events import Translation

api = 1
operations = ("generate",)


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    values = chat_read_options.read_request(request.top, drop)
    converted = plain_to_messages.convert(values, target, drop, stream=request.stream)
    include_usage = chat_read_options.include_usage(request.top, drop)
    custom = chat_read_options.custom_names(request.top)
    headers = {**request.headers, **converse_on_invoke.guardrail_headers(values.guardrail, target, drop)}
    return Translation(
        replace(request.with_body("anthropic_messages", converted.body), headers=headers),
        reply_reader(messages_walk.Reader, converted.names, converted.schema_tool, target, drop),
        chat_emit.Stream(request.model, drop, include_usage=include_usage, custom=custom),
        partial(chat_emit.Whole, request.model, drop, custom),
    )
