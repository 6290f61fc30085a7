"""Readers of the tools and parameters in a Chat Completions request, and the function that reads a complete request.

Every field of the body is read, refused, or reported as dropped. Values without effect (`_NEUTRAL`) are ignored.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.openai import read as openai_read
from gateway_plugins.dialects.openai.custom_tools import CUSTOM, SCHEMA, described
from gateway_plugins.dialects.openai_chat.read import cache_ttl, messages
from gateway_plugins.shared import checks, numbers
from gateway_plugins.shared.fields import escape_step, is_deep, member, param
from gateway_plugins.shared.guardrail import read_guardrail
from gateway_plugins.shared.offered_tools import OfferedTools, Tool
from gateway_plugins.shared.output_format import JsonFormat
from gateway_plugins.shared.plain_request import Format, PlainRequest
from gateway_plugins.shared.settings import Parameters
from gateway_plugins.shared.thinking_members import MEMBERS as THINKING_MEMBERS
from gateway_plugins.shared.thinking_members import read_thinking

_CARRIED: Final = frozenset({
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "tools", "functions",
    "tool_choice", "function_call", "parallel_tool_calls", "stop", "temperature", "top_p", "top_k",
    "response_format", "cache_control", "service_tier", "guardrailConfig", *THINKING_MEMBERS,
    *numbers.CHAT,
})  # fmt: skip
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    # field: values without effect. A field with such a value is left out without a report
    "logit_bias": ({},),
    "metadata": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "store": (False,),
    "verbosity": ("medium",),
}
_REFUSED_MEMBERS: Final = {
    # field that cannot be ignored, because the reply would not be what the client wants: the advice in the error
    "n": "only one choice can be made: send n=1, or the request several times",
    "logprobs": "log probabilities are not available from this model: leave it out",
    "top_logprobs": "log probabilities are not available from this model: leave it out",
    "audio": "this model answers in text only: leave it out",
    "modalities": 'this model answers in text only: send ["text"]',
    "web_search_options": "no search runs on the server's side for this model: leave it out",
}


_CUSTOM_MARK: Final = b'"custom"'
"""Bytes that every list of tools with a custom tool contains, for a quick search before decoding."""
_ALLOWED_MODES: Final = ("auto", "required")
"""Modes of a tool choice that may be combined with a list of allowed tools."""


def read_request(top: Members, drop: Drop) -> PlainRequest:
    """Return the request. Raises `Refused` if it is malformed or cannot be served, such as a request for several
    choices.
    """
    checks.refuse(top, _REFUSED_MEMBERS, _NEUTRAL)
    openai_read.refuse_promises(top)
    checks.leftovers(top, _CARRIED, _NEUTRAL, drop)
    return PlainRequest(
        messages=messages(top, drop),
        tools=_offered_tools(top, drop),
        parameters=_parameters(top, drop),
        format=_format(top),
        tier=openai_read.service_tier(top),
        ttl=cache_ttl({"cache_control": member(top, "cache_control")}, ""),
        chat_members=numbers.members(top, numbers.CHAT),
        guardrail=read_guardrail(top, drop),
    )


def _parameters(top: Members, drop: Drop) -> Parameters:
    limit, limit_at = _limit(top)
    return Parameters(
        thinking=read_thinking({name: member(top, name) for name in THINKING_MEMBERS}, "", drop, efforts={}),
        limit=limit,
        limit_at=limit_at,
        sampling=numbers.members(top, numbers.SAMPLING),
        stops=_stops(top),
        stops_at="/stop",
        max_temperature=openai_read.MAX_TEMPERATURE,
    )


def stream_options(top: Members) -> dict[str, Any]:
    """Return the value of `stream_options`, or {} if it is missing. Raises `Refused` if it is not an object."""
    options = top.small("stream_options")
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise invalid('stream_options must be an object, such as {"include_usage": true}', "stream_options")
    if is_deep(options):
        raise invalid("stream_options is nested too deeply", "stream_options")
    return options


def include_usage(top: Members, drop: Drop) -> bool:
    """Return whether the client requests the usage chunk. Report other stream options as dropped."""
    options = stream_options(top)
    for name, value in options.items():
        if name != "include_usage" and value:
            drop(f"/stream_options/{escape_step(name)}")
    return checks.flag_of(options.get("include_usage"), "/stream_options/include_usage") is True


def _limit(top: Members) -> tuple[int | None, str]:
    """Return the output limit and its JSON pointer, from `max_completion_tokens` or from the older `max_tokens`."""
    newer = numbers.limit(top, "max_completion_tokens")
    return (numbers.limit(top, "max_tokens"), "/max_tokens") if newer is None else (newer, "/max_completion_tokens")


def _stops(top: Members) -> list[str]:
    """Return the stop sequences that are not empty. Providers refuse empty ones."""
    value = member(top, "stop")
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise invalid("stop must be a string or a list of strings", "stop")
    return [stop for stop in stops if stop]


def _format(top: Members) -> Format:
    value = member(top, "response_format")
    if value is None:
        return Format()
    kind = str(value.get("type")) if isinstance(value, dict) else ""
    if kind in {"text", "json_object"}:
        return Format(kind)
    inner = value.get("json_schema") if kind == "json_schema" else None
    if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
        field = "response_format"
        raise invalid(f"{field} must be of type text, json_object, or json_schema with a json_schema.schema", field)
    name, description = str(inner.get("name") or ""), str(inner.get("description") or "")
    at = "/response_format"
    return Format(kind, at, JsonFormat(inner["schema"], at, f"{at}/json_schema/schema", name, description))


def _offered_tools(top: Members, drop: Drop) -> OfferedTools:
    choice, field = _tool_choice(top)
    return openai_read.offer(_tools(top, drop), choice, top, field)


def _tools(top: Members, drop: Drop) -> list[Tool]:
    """Return the tools in `tools` and in the older field `functions`."""
    raws = [(f"/tools/{index}", raw) for index, raw in enumerate(checks.list_of(member(top, "tools"), "/tools"))]
    functions = checks.list_of(member(top, "functions"), "/functions")
    raws += [(f"/functions/{index}", {"type": "function", "function": raw}) for index, raw in enumerate(functions)]
    return [_tool(raw, at, drop) for at, raw in raws]


def _custom_tool(raw: dict[str, Any], at: str, drop: Drop) -> Tool:
    """Return the function that replaces a custom tool.

    In the reply, a call of this function must become a call of the custom tool again (`custom_names`).
    """
    custom, custom_at = raw[CUSTOM], f"{at}/{CUSTOM}"
    form = checks.object_of(custom.get("format"), f"{custom_at}/format")
    description = checks.text_of(custom.get("description"), f"{custom_at}/description")
    return Tool(
        at=at,
        name=_name(custom, custom_at),
        description=described(description, form, f"{custom_at}/format", drop),
        schema=SCHEMA,
        schema_at=at,
        strict=False,
        strict_at=at,
        ttl=cache_ttl(raw, at),
        ttl_at=f"{at}/cache_control",
    )


def custom_names(top: Members) -> frozenset[str]:
    """Return the names of the offered custom tools, whose calls have a form of their own in replies."""
    if _CUSTOM_MARK not in top.get("tools", b""):
        return frozenset()
    raws = checks.list_of(member(top, "tools"), "/tools")
    given = (raw[CUSTOM] for raw in raws if isinstance(raw, dict) and isinstance(raw.get(CUSTOM), dict))
    return frozenset(custom["name"] for custom in given if isinstance(custom.get("name"), str))


def _name(tool: dict[str, Any], at: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not name.strip():
        raise invalid(f"{param(at)}.name must not be empty", f"{param(at)}.name")
    return name


def _tool(raw: Any, at: str, drop: Drop) -> Tool:
    kind = raw.get("type", "function") if isinstance(raw, dict) else None
    if kind == CUSTOM and isinstance(raw.get(CUSTOM), dict):
        return _custom_tool(raw, at, drop)
    function = raw.get("function") if isinstance(raw, dict) else None
    if kind != "function" or not isinstance(function, dict):
        raise invalid(
            f'{param(at)}: a tool of type "{kind}" cannot be offered to this model, only functions and custom tools',
            param(at),
        )
    name = _name(function, f"{at}/function")
    ttl = cache_ttl(raw, at)
    return Tool(
        at=at,
        name=name,
        description=checks.text_of(function.get("description"), f"{at}/function/description"),
        schema=function.get("parameters"),
        schema_at=f"{at}/function/parameters",
        strict=checks.flag_of(function.get("strict"), f"{at}/function/strict") is True,
        strict_at=f"{at}/function/strict",
        ttl=cache_ttl(function, f"{at}/function") if ttl is None else ttl,
        ttl_at=f"{at}/cache_control",
    )


def _tool_choice(top: Members) -> tuple[openai_read.ChoiceMember, str]:
    """Return the choice in `tool_choice` or the older `function_call`, and the name of that field."""
    older = top.decode("tool_choice") is None and "function_call" in top
    field = "function_call" if older else "tool_choice"
    value = member(top, field)
    if value is None:
        return openai_read.ChoiceMember(), field
    if isinstance(value, str) and value in openai_read.MODES:
        return openai_read.ChoiceMember(openai_read.MODES[value]), field
    inner = value if isinstance(value, dict) else {}
    if inner.get("type") == "allowed_tools":
        return _allowed(inner.get("allowed_tools")), field
    function = inner.get("function") or inner.get(CUSTOM) or inner
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise invalid(f"{field} must be auto, none, required, or name one function", field)
    return openai_read.ChoiceMember("tool", name), field


def _allowed(value: Any) -> openai_read.ChoiceMember:
    inner = value if isinstance(value, dict) else {}
    names = tuple(
        str(tool.get("name"))
        for allowed in checks.list_of(inner.get("tools"), "/tool_choice/allowed_tools/tools")
        if isinstance(allowed, dict) and isinstance(tool := allowed.get("function") or allowed.get(CUSTOM), dict)
    )
    mode = inner.get("mode", "auto")
    if mode not in _ALLOWED_MODES:
        field = "tool_choice.allowed_tools.mode"
        raise invalid(f'{field}: "{mode}" is not one of {", ".join(_ALLOWED_MODES)}', field)
    return openai_read.ChoiceMember(openai_read.MODES[mode], allowed=names)
