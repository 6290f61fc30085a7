"""Readers of `tools` and `toolConfig` of a generateContent request.

A tool that runs on Google's servers is refused with a 400, because the answer would lack its result. Sources: Google's
API reference (Tool, FunctionDeclaration, FunctionCallingConfig) and the types of google-genai.
"""

from __future__ import annotations

from typing import Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop
from gateway_plugins.dialects.gemini_generate_content.fields import (
    Fields,
    camel_case,
    enum_value,
    fields,
    repeated,
)
from gateway_plugins.dialects.gemini_generate_content.read_schema import json_schema
from gateway_plugins.shared.checks import object_of, text_of
from gateway_plugins.shared.fields import escape_step, param
from gateway_plugins.shared.offered_tools import OfferedTools, Tool, ToolChoice, offer

_FUNCTIONS: Final = "functionDeclarations"
_FUNCTION: Final = ("name", "description", "parameters", "parametersJsonSchema", "behavior")
_BEHAVIORS: Final = {"UNSPECIFIED": "", "BLOCKING": "", "NON_BLOCKING": "non_blocking"}
_CALLING: Final = "functionCallingConfig"
_ALLOWED: Final = "allowedFunctionNames"
_VALIDATED: Final = "validated"
"""Mode of the tool choice in which calls must match the functions' schemas exactly.

No other API has it, so `auto` replaces it, and it is reported as dropped."""
_MODES: Final = {
    "MODE_UNSPECIFIED": "auto", "AUTO": "auto", "ANY": "any", "NONE": "none", "VALIDATED": _VALIDATED,
}  # fmt: skip
"""The gateway's mode of tool choice, for each mode of Google."""


def offered_tools(top: Fields, drop: Drop) -> OfferedTools:
    """Return the tools that may be called, and the tool choice.

    Raises `Refused` for a tool that runs on Google's servers, and for a choice that the offered tools cannot satisfy.
    """
    tools: list[Tool] = []
    for raw, at in repeated(top.get("tools"), top.at("tools")):
        for name, value in object_of(raw, at).items():
            inner_at = f"{at}/{escape_step(name)}"
            if camel_case(name) == _FUNCTIONS:
                declared = repeated(value, inner_at)
                tools += [_function(fields(each, each_at, _FUNCTION, drop), drop) for each, each_at in declared]
            elif value is not None:
                field = param(inner_at)
                raise invalid(f"{field}: this tool runs on Google's servers only; leave it out", field)
    return _offer(tools, top, drop)


def _function(function: Fields, drop: Drop) -> Tool:
    name = text_of(function.get("name"), function.at("name"))
    if not name.strip():
        field = param(function.at("name"))
        raise invalid(f"{field} must not be empty", field)
    if enum_value(function.get("behavior"), function.at("behavior"), _BEHAVIORS):
        drop(function.at("behavior"))
    schema_at = function.at("parameters")
    schema = json_schema(function.get("parameters"), schema_at)
    if (given := function.get("parametersJsonSchema")) is not None:
        if schema is not None:
            drop(schema_at)
        schema, schema_at = given, function.at("parametersJsonSchema")
    description = text_of(function.get("description"), function.at("description"))
    return Tool(function.pointer, name, description, schema, schema_at, strict=False, strict_at="")


def _offer(tools: list[Tool], top: Fields, drop: Drop) -> OfferedTools:
    config = fields(top.get("toolConfig") or {}, top.at("toolConfig"), (_CALLING,), drop)
    calling = fields(config.get(_CALLING) or {}, config.at(_CALLING), ("mode", _ALLOWED), drop)
    at, names_at = calling.at("mode"), calling.at(_ALLOWED)
    mode = enum_value(calling.get("mode"), at, _MODES) or "auto"
    names = [text_of(name, name_at) for name, name_at in repeated(calling.get(_ALLOWED), names_at)]
    if mode == "any" and len(names) == 1:
        return offer(tools, ToolChoice("tool", names[0], at=names_at))
    if names:
        tools = [tool for tool in tools if tool.name in names]
    if mode == _VALIDATED:
        drop(at)
        mode = "auto"
    return offer(tools, ToolChoice(mode, at=at))
