"""Readers of the parameters of a generateContent request, and of the whole request.

Every member is read, refused, or reported as dropped. Malformed values are refused as in `read.py`. The safety settings
are reported as dropped, because only Google's models have them.

Sources: Google's API reference (GenerateContentRequest, GenerationConfig, ThinkingConfig), google-genai's types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.gemini_generate_content.answers import in_object
from gateway_plugins.dialects.gemini_generate_content.emit import ReplyOptions
from gateway_plugins.dialects.gemini_generate_content.fields import (
    Fields,
    enum_value,
    fields,
    number,
    repeated,
    request_fields,
    whole_number,
)
from gateway_plugins.dialects.gemini_generate_content.read import messages
from gateway_plugins.dialects.gemini_generate_content.read_schema import json_schema
from gateway_plugins.dialects.gemini_generate_content.read_tools import offered_tools
from gateway_plugins.shared.checks import flag_of, object_of, text_of
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.output_format import JsonFormat
from gateway_plugins.shared.plain_request import Format, PlainRequest
from gateway_plugins.shared.settings import Parameters
from gateway_plugins.shared.thinking import MAX_BUDGET, AnthropicThinking, ThinkingRequest

_REQUEST: Final = frozenset({
    "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "cachedContent", "serviceTier", "model",
})  # fmt: skip
_SAMPLING: Final[Mapping[str, str]] = {"temperature": "temperature", "top_p": "topP", "top_k": "topK"}
"""Google's name of each sampling parameter."""
_SEED: Final = "seed"
_CHAT: Final[Mapping[str, str]] = {
    _SEED: _SEED,
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
"""Google's names of members that, in other dialects, only Chat has."""
_CONFIG: Final = frozenset({
    *_SAMPLING.values(), *_CHAT.values(), "maxOutputTokens", "stopSequences", "candidateCount", "responseMimeType",
    "responseSchema", "responseJsonSchema", "responseModalities", "responseLogprobs", "logprobs", "thinkingConfig",
})  # fmt: skip
_MAX_TEMPERATURE: Final = 2
"""Maximum temperature in Google's API."""
_TIERS: Final[Mapping[str, str]] = {
    "UNSPECIFIED": "",
    "SERVICE_TIER_UNSPECIFIED": "",
    "STANDARD": "",
    "FLEX": "flex",
    "PRIORITY": "priority",
}
_MODALITIES: Final[Mapping[str, str]] = {"TEXT": "text", "MODALITY_UNSPECIFIED": "text"}
_LEVELS: Final[Mapping[str, str]] = {
    "THINKING_LEVEL_UNSPECIFIED": "",
    "MINIMAL": "minimal",
    "LOW": "low",
    "MEDIUM": "medium",
    "HIGH": "high",
}
_DYNAMIC: Final = -1
"""The thinking budget that lets the model decide how much it thinks."""
_TEXT: Final = "text/plain"
_JSON: Final = "application/json"


def read_request(top: Members, drop: Drop) -> tuple[PlainRequest, ReplyOptions]:
    """Return the values of the request, and the facts about it that are needed to write the reply.

    Raises `Refused` for a request that is malformed or cannot be served.
    """
    request = request_fields(top, _REQUEST, drop)
    _refuse_cache(request)
    config = fields(request.get("generationConfig") or {}, request.at("generationConfig"), _CONFIG, drop)
    _refuse_replies(config)
    thinking, include_thoughts = _thinking(config, drop)
    answer, is_wrapped = _format(config, drop)
    values = PlainRequest(
        messages=messages(request, drop),
        tools=offered_tools(request, drop),
        format=answer,
        parameters=Parameters(
            thinking=thinking,
            limit=_limit(config),
            limit_at=config.at("maxOutputTokens"),
            sampling=_sampling(config),
            stops=_stops(config),
            stops_at=config.at("stopSequences"),
            sampling_at={name: config.at(member) for name, member in _SAMPLING.items()},
            max_temperature=_MAX_TEMPERATURE,
        ),
        tier=enum_value(request.get("serviceTier"), request.at("serviceTier"), _TIERS),
        tier_at=request.at("serviceTier"),
        chat_members=_chat_members(config),
        chat_members_at={name: config.at(member) for name, member in _CHAT.items()},
    )
    return values, ReplyOptions(include_thoughts, is_wrapped)


def _refuse_cache(request: Fields) -> None:
    if request.get("cachedContent"):
        field = param(request.at("cachedContent"))
        raise invalid(f"{field}: no contents are stored here; send them in contents", field)


def _refuse_replies(config: Fields) -> None:
    """Raise `Refused` if the client wants a reply that no other dialect can give."""
    if whole_number(config.get("candidateCount"), config.at("candidateCount")) not in (None, 0, 1):
        field = param(config.at("candidateCount"))
        raise invalid(f"{field}: only one candidate can be made; send 1, or the request several times", field)
    for name in ("responseLogprobs", "logprobs"):
        if config.get(name):
            field = param(config.at(name))
            raise invalid(f"{field}: log probabilities are not available from this model; leave it out", field)
    for value, at in repeated(config.get("responseModalities"), config.at("responseModalities")):
        enum_value(value, at, _MODALITIES)


def _limit(config: Fields) -> int | None:
    limit = whole_number(config.get("maxOutputTokens"), config.at("maxOutputTokens"))
    if limit is not None and limit < 1:
        field = param(config.at("maxOutputTokens"))
        raise invalid(f"{field} must be a whole number of at least 1", field)
    return limit


def _sampling(config: Fields) -> dict[str, float]:
    sampling = {}
    for name, member in _SAMPLING.items():
        value, field = number(config.get(member), config.at(member)), param(config.at(member))
        if value is None:
            continue
        if value < 0 or (name == "top_p" and value > 1):
            raise invalid(f"{field} must be a number {'from 0 to 1' if name == 'top_p' else 'of at least 0'}", field)
        sampling[name] = value
    return sampling


def _chat_members(config: Fields) -> dict[str, float]:
    """Return seed and penalties. A penalty of 0 has no effect."""
    given = {name: number(config.get(member), config.at(member)) for name, member in _CHAT.items() if name != _SEED}
    seed = whole_number(config.get(_SEED), config.at(_SEED))
    penalties = {name: value for name, value in given.items() if value}
    return penalties if seed is None else {_SEED: seed, **penalties}


def _stops(config: Fields) -> list[str]:
    """Return the non-empty stop sequences. An empty one has no effect, and providers refuse it."""
    stops = repeated(config.get("stopSequences"), config.at("stopSequences"))
    return [stop for stop in (text_of(value, at) for value, at in stops) if stop]


def _format(config: Fields, drop: Drop) -> tuple[Format, bool]:
    """Return the format of the answer, and whether the answer is put into an object (`answers.py`)."""
    mime = text_of(config.get("responseMimeType"), config.at("responseMimeType")) or _TEXT
    if mime not in (_TEXT, _JSON):
        field = param(config.at("responseMimeType"))
        raise invalid(f'{field}: "{mime}" is not one of {_TEXT}, {_JSON}', field)
    schema, at = config.get("responseJsonSchema"), config.at("responseJsonSchema")
    given = config.get("responseSchema")
    if schema is None:
        schema, at = json_schema(given), config.at("responseSchema")
    elif given is not None:
        drop(config.at("responseSchema"))
    if schema is None:
        return Format("json_object" if mime == _JSON else "text", config.at("responseMimeType")), False
    schema = object_of(schema, at)
    wrapped = in_object(schema)
    return Format("json_schema", at, JsonFormat(wrapped or schema, at, at)), wrapped is not None


def _thinking(config: Fields, drop: Drop) -> tuple[ThinkingRequest, bool]:
    """Return the thinking that the client requests, and whether it wants to see thoughts.

    A client that only wants to see thoughts requests thinking too, because Google's models think by default.
    """
    known = ("includeThoughts", "thinkingBudget", "thinkingLevel")
    thinking = fields(config.get("thinkingConfig") or {}, config.at("thinkingConfig"), known, drop)
    shown = flag_of(thinking.get("includeThoughts"), thinking.at("includeThoughts")) is True
    effort = enum_value(thinking.get("thinkingLevel"), thinking.at("thinkingLevel"), _LEVELS)
    budget_at = thinking.at("thinkingBudget")
    budget = whole_number(thinking.get("thinkingBudget"), budget_at)
    if budget is not None and not _DYNAMIC <= budget <= MAX_BUDGET:
        field = param(budget_at)
        raise invalid(f"{field} must be a whole number from {_DYNAMIC} to {MAX_BUDGET}", field)
    wanted: AnthropicThinking | None = None
    if budget is not None and budget != _DYNAMIC:
        wanted = AnthropicThinking("enabled" if budget else "disabled", budget or None, "")
    elif not effort and (shown or budget is not None):
        wanted = AnthropicThinking("adaptive", None, "")
    asked_at = budget_at if budget is not None else thinking.at("includeThoughts")
    return ThinkingRequest(effort, wanted, thinking.at("thinkingLevel"), asked_at, budget_at), shown
