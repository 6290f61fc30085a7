"""A request of OpenAI's (`dialects/openai/values.py`) as the body of Chat Completions.

For clients of Responses: one of Chat needs no conversion. What Chat demands of everyone is in
`dialects/openai_chat/demand.py` and `dialects/openai_chat/options.py`. Source: OpenAI's API reference (Chat, Migrate to
Responses).
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.contract.flag import Caps, Drop, Target
from gateway_plugins.dialects.openai.values import Call, ConvertedRequest, Format, Message, OpenAIRequest, Part, Tools
from gateway_plugins.dialects.openai_chat import options as chat_options
from gateway_plugins.dialects.openai_chat.demand import Conversation, media_part, text
from gateway_plugins.shared import settings
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.reasoning import Reasoning, untagged
from gateway_plugins.shared.tools import Names
from gateway_plugins.shared.turns import Block


def request(asked: OpenAIRequest, target: Target, drop: Drop, *, stream: bool) -> ConvertedRequest:
    """Raises `Refused` for what the model cannot be asked."""
    caps, names = target.caps, Names()
    told = Conversation(caps, drop)
    for message in asked.messages:
        _tell(message, told, names, caps, drop)
    choice = chat_options.Choice(
        asked.tools.mode, _alias(asked.tools.name, names), asked.tools.parallel, asked.tools.path
    )
    output = chat_options.output(_format(asked.format), _tools(asked.tools, names, caps, drop), choice, caps, drop)
    told.hint(output.hint)
    body: Block = {"model": target.model, "messages": told.messages()}
    body |= output.body | _parameters(asked, caps, drop)
    if asked.format.kind == "json_object":
        body["response_format"] = {"type": "json_object"}
    return ConvertedRequest(body | (chat_options.stream_members() if stream else {}), names, output.schema_tool)


def _alias(name: str, names: Names) -> str:
    return names.alias(name) if name else ""


def _tell(message: Message, told: Conversation, names: Names, caps: Caps, drop: Drop) -> None:
    parts = [part for part in message.content if isinstance(part, Part)]
    if message.role == "system":
        told.system("\n\n".join(part.text for part in parts))
    elif message.role == "assistant":
        calls = [
            (call.id, names.alias(call.name or "unnamed"), call.input)
            for call in message.content
            if isinstance(call, Call)
        ]
        thought = [_thought(each, caps, drop) for each in message.content if isinstance(each, Reasoning)]
        said = "\n\n".join(part.text for part in parts)
        told.assistant(said, calls, message.at, reasoning="".join(thought))
    elif message.role == "tool":
        told.result(message.call_id, _parts(parts, caps), message.at)
    else:
        told.user(_parts(parts, caps), message.at)


def _parts(parts: Sequence[Part], caps: Caps) -> list[Block]:
    return [text(part.text) if part.media is None else media_part(part.media, caps, param(part.at)) for part in parts]


def _thought(given: Reasoning, caps: Caps, drop: Drop) -> str:
    """Its text, where the model made it and reads it again; signatures say nothing to Chat."""
    if given.data or not caps.reasoning_content or untagged(caps.family, given.signature) is None:
        drop(given.at)
        return ""
    return given.text


def _tools(wanted: Tools, names: Names, caps: Caps, drop: Drop) -> list[Block]:
    offered = []
    for tool in wanted.offered:
        made = chat_options.function(names.alias(tool.name), tool.description, tool.schema, tool.schema_at)
        if tool.strict:
            chat_options.make_strict(made, caps, drop, tool.strict_at)
        offered.append(made)
    return offered


def _format(wanted: Format) -> chat_options.Format | None:
    if wanted.kind != "json_schema":
        return None
    return chat_options.Format(wanted.schema, wanted.name, wanted.description, wanted.strict, wanted.at)


def _parameters(asked: OpenAIRequest, caps: Caps, drop: Drop) -> Block:
    limit = settings.allowed_limit(asked.limit, caps, drop, asked.limit_at)
    thought = settings.plan_thinking(asked.thinking, limit, caps, drop, unsigned_loop=False)
    sampled = settings.supported_sampling(asked.sampling, caps, drop, thinks=thought.is_anthropic, max_temperature=2)
    limit = settings.output_limit(limit, thought, caps, demanded=False)
    tier: Block = {"service_tier": asked.tier} if asked.tier else {}
    stops = chat_options.stops(settings.supported_stops(asked.stops, caps, drop, "/stop"), drop, "/stop")
    return (
        chat_options.limit(limit, caps)
        | chat_options.effort(thought, caps)
        | chat_options.sampling(sampled, drop)
        | stops
        | tier
    )
