"""Readers of the parameters of a generateContent request, and the function that reads a complete request.

Every field is read, refused, or reported as dropped. The safety settings are dropped, because only Google's models have
them. Malformed values are refused as in `read.py`.

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
    repeated,
    request_fields,
)
from gateway_plugins.dialects.gemini_generate_content.read import messages
from gateway_plugins.dialects.gemini_generate_content.read_schema import json_schema
from gateway_plugins.dialects.gemini_generate_content.read_tools import offered_tools
from gateway_plugins.shared import numbers
from gateway_plugins.shared.checks import flag_of, object_of, text_of
from gateway_plugins.shared.fields import param
from gateway_plugins.shared.output_format import JsonFormat
from gateway_plugins.shared.plain_request import Format, PlainRequest
from gateway_plugins.shared.settings import Parameters
from gateway_plugins.shared.thinking import AnthropicThinking, ThinkingRequest

_REQUEST: Final = frozenset({
    "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "cachedContent", "serviceTier", "model",
})  # fmt: skip
_SAMPLING: Final[Mapping[str, str]] = {"temperature": "temperature", "top_p": "topP", "top_k": "topK"}
"""Google's name of each sampling parameter."""
_CHAT: Final[Mapping[str, str]] = {
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
"""Google's name of each parameter that only Google's API and OpenAI's Chat have. The key is Chat's name."""
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
"""Thinking budget with which the model itself decides how much it thinks."""
_TEXT: Final = "text/plain"
_JSON: Final = "application/json"


def read_request(top: Members, drop: Drop) -> tuple[PlainRequest, ReplyOptions]:
    """Return the values for the provider's request, and those that the writer of the reply needs.

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
            limit=numbers.whole(config.number("maxOutputTokens"), config.at("maxOutputTokens"), 1),
            limit_at=config.at("maxOutputTokens"),
            sampling=_numbers(config, _SAMPLING, numbers.SAMPLING),
            stops=_stops(config),
            stops_at=config.at("stopSequences"),
            sampling_at={name: config.at(member) for name, member in _SAMPLING.items()},
            max_temperature=_MAX_TEMPERATURE,
        ),
        tier=enum_value(request.get("serviceTier"), request.at("serviceTier"), _TIERS),
        tier_at=request.at("serviceTier"),
        chat_members=_numbers(config, _CHAT, numbers.CHAT),
        chat_members_at={name: config.at(member) for name, member in _CHAT.items()},
    )
    return values, ReplyOptions(include_thoughts, is_wrapped)


def _refuse_cache(request: Fields) -> None:
    if request.get("cachedContent"):
        field = param(request.at("cachedContent"))
        raise invalid(f"{field}: no contents are stored here; send them in contents", field)


def _refuse_replies(config: Fields) -> None:
    """Raise `Refused` for several candidates, log probabilities, or an output other than text."""
    if numbers.whole(config.number("candidateCount"), config.at("candidateCount")) not in (None, 0, 1):
        field = param(config.at("candidateCount"))
        raise invalid(f"{field}: only one candidate can be made; send 1, or the request several times", field)
    for name in ("responseLogprobs", "logprobs"):
        if config.get(name):
            field = param(config.at(name))
            raise invalid(f"{field}: log probabilities are not available from this model; leave it out", field)
    for value, at in repeated(config.get("responseModalities"), config.at("responseModalities")):
        enum_value(value, at, _MODALITIES)


def _numbers(config: Fields, names: Mapping[str, str], checks: Mapping[str, numbers.Check]) -> dict[str, float]:
    """Return the checked numbers in `generationConfig`. `names` has Google's name of each number in `checks`."""
    values = {name: config.number(member) for name, member in names.items()}
    return numbers.checked(checks, values, {name: config.at(member) for name, member in names.items()})


def _stops(config: Fields) -> list[str]:
    """Return the stop sequences that are not empty. Providers refuse empty ones."""
    stops = repeated(config.get("stopSequences"), config.at("stopSequences"))
    return [stop for stop in (text_of(value, at) for value, at in stops) if stop]


def _format(config: Fields, drop: Drop) -> tuple[Format, bool]:
    """Return the answer's format. The second value is true if the format demands `{"answer": ...}` (`answers.py`)."""
    mime = text_of(config.get("responseMimeType"), config.at("responseMimeType")) or _TEXT
    if mime not in (_TEXT, _JSON):
        field = param(config.at("responseMimeType"))
        raise invalid(f'{field}: "{mime}" is not one of {_TEXT}, {_JSON}', field)
    schema, at = config.get("responseJsonSchema"), config.at("responseJsonSchema")
    given = config.get("responseSchema")
    if schema is None:
        at = config.at("responseSchema")
        schema = json_schema(given, at)
    elif given is not None:
        drop(config.at("responseSchema"))
    if schema is None:
        return Format("json_object" if mime == _JSON else "text", config.at("responseMimeType")), False
    schema = object_of(schema, at)
    wrapped = in_object(schema)
    return Format("json_schema", at, JsonFormat(wrapped or schema, at, at)), wrapped is not None


def _thinking(config: Fields, drop: Drop) -> tuple[ThinkingRequest, bool]:
    """Return the requested thinking, and the value of `includeThoughts`.

    `includeThoughts` also requests thinking, unless `thinkingBudget` is 0. Google's models think by default, so clients
    need no other field.
    """
    known = ("includeThoughts", "thinkingBudget", "thinkingLevel")
    thinking = fields(config.get("thinkingConfig") or {}, config.at("thinkingConfig"), known, drop)
    shown = flag_of(thinking.get("includeThoughts"), thinking.at("includeThoughts")) is True
    effort = enum_value(thinking.get("thinkingLevel"), thinking.at("thinkingLevel"), _LEVELS)
    budget_at = thinking.at("thinkingBudget")
    budget = numbers.whole(thinking.number("thinkingBudget"), budget_at, _DYNAMIC)
    wanted: AnthropicThinking | None = None
    if budget is not None and budget != _DYNAMIC:
        wanted = AnthropicThinking("enabled" if budget else "disabled", budget or None, "")
    elif not effort and (shown or budget is not None):
        wanted = AnthropicThinking("adaptive", None, "")
    asked_at = budget_at if budget is not None else thinking.at("includeThoughts")
    return ThinkingRequest(effort, wanted, thinking.at("thinkingLevel"), asked_at, budget_at), shown
