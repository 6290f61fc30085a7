"""Translation of OpenAI Chat Completions requests to Bedrock Converse, and of the replies back."""

from __future__ import annotations

from functools import partial

from gateway.contract.flag import ClientRequest, Drop, Target
from gateway_plugins.dialects.bedrock_converse import walk as converse_walk
from gateway_plugins.dialects.openai_chat import emit as chat_emit
from gateway_plugins.dialects.openai_chat import read_options as chat_read_options
from gateway_plugins.mappings import plain_to_converse
from gateway_plugins.shared.inline_reasoning import reply_reader
from gateway_plugins.shared.reply_events import Translation

api = 1
operations = ("generate",)


def open(request: ClientRequest, target: Target, drop: Drop) -> Translation:  # noqa: A001 (the contract's name)
    values = chat_read_options.read_request(request.top, drop)
    converted = plain_to_converse.convert(values, target, drop, stream=request.stream)
    include_usage = chat_read_options.include_usage(request.top, drop)
    custom = chat_read_options.custom_names(request.top)
    return Translation(
        request.with_body("bedrock_converse", converted.body),
        reply_reader(converse_walk.Reader, converted.names, converted.schema_tool, target, drop),
        chat_emit.Stream(request.model, drop, include_usage=include_usage, custom=custom),
        partial(chat_emit.Whole, request.model, drop, custom),
    )
