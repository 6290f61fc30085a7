"""Mapping of the values of an OpenAI request (`dialects/openai/values.py`) to the body of a Chat Completions request.

It is used only for requests of Responses, because requests of Chat are sent to Chat without a conversion. Rules for
every request to Chat are in `dialects/openai_chat/demand.py` and `dialects/openai_chat/options.py`. Source: OpenAI's
API reference (Chat, Migrate to Responses).
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.openai.values import Call, ConvertedRequest, Message, OpenAIRequest, Part
from gateway_plugins.dialects.openai_chat import options as chat_options
from gateway_plugins.dialects.openai_chat.demand import Conversation, media_part, text
from gateway_plugins.shared import settings
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.reasoning import Reasoning, untagged
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block


def convert(request: OpenAIRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest:
    """Return the body of the Chat request. Raises `Refused` for a request that the model cannot serve."""
    caps, names = target.caps, Names()
    conversation = Conversation(caps, drop)
    for message in request.messages:
        _add_message(message, conversation, names, caps, drop)
    choice = request.tools.choice.renamed(names)
    functions = chat_options.build_tools(request.tools.tools, names, caps, drop)
    output = chat_options.build_output(request.format.json, functions, choice, caps, drop)
    conversation.hint(output.hint)
    decided = settings.decide(request.parameters, caps, chat_options.RULES, drop)
    body: Block = {"model": target.model, "messages": conversation.messages()} | output.body
    body |= chat_options.parameters(decided, caps, drop, stops_at=request.parameters.stops_at)
    if request.tier:
        body["service_tier"] = request.tier
    if request.format.kind == "json_object":
        body["response_format"] = {"type": "json_object"}
    return ConvertedRequest(body | (chat_options.stream_members() if stream else {}), names, output.schema_tool)


def _add_message(message: Message, conversation: Conversation, names: Names, caps: Caps, drop: Drop) -> None:
    parts = [part for part in message.content if isinstance(part, Part)]
    if message.role == "system":
        conversation.system("\n\n".join(part.text for part in parts))
    elif message.role == "assistant":
        calls = [
            (call.id, names.alias(call.name or "unnamed"), call.input)
            for call in message.content
            if isinstance(call, Call)
        ]
        thinking = [_thinking(part, caps, drop) for part in message.content if isinstance(part, Reasoning)]
        answer = "\n\n".join(part.text for part in parts)
        conversation.assistant(answer, calls, message.at, reasoning="".join(thinking))
    elif message.role == "tool":
        conversation.result(message.call_id, _parts(parts, caps), message.at)
    else:
        conversation.user(_parts(parts, caps))


def _parts(parts: Sequence[Part], caps: Caps) -> list[Block]:
    return [text(part.text) if part.media is None else media_part(part.media, caps, param(part.at)) for part in parts]


def _thinking(thinking: Reasoning, caps: Caps, drop: Drop) -> str:
    """Return the text of thinking, or "" if the thinking is reported as dropped.

    Redacted thinking and thinking of another model family are dropped. All thinking is dropped for a model that does
    not read its earlier thinking (`caps.reasoning_content`). Signatures are left out, because Chat has no
    member for them.
    """
    if thinking.data or not caps.reasoning_content or untagged(caps.family, thinking.signature) is None:
        drop(thinking.at)
        return ""
    return thinking.text
