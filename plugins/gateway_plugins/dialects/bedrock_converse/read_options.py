"""Readers of the parameters of a Converse request: every field except `messages` and `system`.

Malformed values and unknown fields are treated as in `read.py`.

- `additionalModelRequestFields` has fields of the model's own API. These fields are called extra fields here.
- Several model families have their own extra fields for thinking, effort or top_k. All of them are read here, because
  the client may send the fields of one family while a model of another family answers.
- Each translation has a table of the other extra fields that it passes on.

Sources: botocore's service model; AWS's user guide on each family's parameters; recorded traffic.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.bedrock_converse.read import cache_point, union
from gateway_plugins.shared import numbers
from gateway_plugins.shared.checks import list_of, struct, text_at
from gateway_plugins.shared.fields import decoded, escape_step, member, param
from gateway_plugins.shared.guardrail import read_guardrail, unguarded
from gateway_plugins.shared.offered_tools import Tool, ToolChoice
from gateway_plugins.shared.output_format import JsonFormat
from gateway_plugins.shared.settings import Parameters
from gateway_plugins.shared.thinking import ThinkingRequest
from gateway_plugins.shared.thinking_members import MEMBERS as THINKING_MEMBERS
from gateway_plugins.shared.thinking_members import read_thinking

EXTRAS: Final = "/additionalModelRequestFields"
MEMBERS: Final = frozenset(
    {
        "messages", "system", "inferenceConfig", "toolConfig", "guardrailConfig", "additionalModelRequestFields",
        "promptVariables", "additionalModelResponseFieldPaths", "requestMetadata", "performanceConfig", "serviceTier",
        "outputConfig", "projectIdentifier", "modelId",
    }
)  # fmt: skip
"""Fields of a request in botocore's service model.

`modelId` belongs in the URL, but some clients also send it in the body."""
_READ: Final = (
    frozenset({"output_config", "top_k", "inferenceConfig", "tool_choice", "anthropic_beta"}) | THINKING_MEMBERS
)
"""Fields of `additionalModelRequestFields` that this file reads."""

LIMIT_AT: Final = "/inferenceConfig/maxTokens"
"""JSON pointer of the output limit."""
STOPS_AT: Final = "/inferenceConfig/stopSequences"
"""JSON pointer of the stop sequences."""
_PROJECT: Final = re.compile("[a-zA-Z0-9:/_-]{1,2048}")
"""Pattern for a project's id or ARN. Other characters are refused, because the value may be sent as a header."""
_TIERS: Final = ("default", "priority", "flex", "reserved")
_LATENCIES: Final = ("standard", "optimized")
_EFFORTS: Final = (
    # paths of objects with an `effort`. The first effort takes precedence, also over the extra fields for thinking
    ("outputConfig",),
    (EXTRAS[1:], "output_config"),
)
_SAMPLING: Final[Mapping[str, str]] = {
    "temperature": "/inferenceConfig/temperature",
    "top_p": "/inferenceConfig/topP",
}
_CHECKS: Final[Mapping[str, numbers.Check]] = {
    "temperature": partial(numbers.real, highest=1),
    "top_p": partial(numbers.real, highest=1),
    "top_k": partial(numbers.whole, highest=500),
}
"""The check of each sampling parameter.

The maxima of temperature and top_p are from botocore's service model. The maximum of top_k is from Claude's API."""


def refuse_unservable(top: Members) -> None:
    """Raise `Refused` for a request that has neither messages nor a system prompt, or that has `promptVariables`.

    Only Bedrock could answer a request with `promptVariables`.
    """
    if member(top, "promptVariables"):
        message = "promptVariables: prompts that Bedrock manages are not known here; send messages with the text itself"
        raise invalid(message, "promptVariables")
    if not member(top, "messages") and not member(top, "system"):
        raise invalid("messages: there must be a message", "messages")


def leftovers(top: Members, drop: Drop) -> None:
    """Report as dropped each field of the request that botocore's service model does not have."""
    for name in top:
        if name not in MEMBERS and top.decode(name) is not None:
            drop(f"/{escape_step(name)}")


def refuse_guardrail(top: Members, drop: Drop) -> None:
    """Raise `Refused` if the request names a guardrail. Call this for a provider without guardrails."""
    if read_guardrail(top, drop):
        raise unguarded()


def extras(top: Members) -> dict[str, Any]:
    """Return the non-null extra fields (the fields of `additionalModelRequestFields`)."""
    value = member(top, "additionalModelRequestFields")
    if value is not None and not isinstance(value, dict):
        raise invalid("additionalModelRequestFields must be an object", "additionalModelRequestFields")
    return {name: inner for name, inner in (value or {}).items() if inner is not None}


def parameters(top: Members, extra: Mapping[str, Any], drop: Drop) -> Parameters:
    """Return the output limit, sampling, stop sequences and thinking. Raises `Refused` if a value is malformed."""
    config = _config(top, drop)
    sampling, sampling_at = _sampling(config, extra)
    return Parameters(
        thinking=_thinking(top, extra, drop),
        limit=numbers.whole(config.get("maxTokens"), LIMIT_AT, 1),
        limit_at=LIMIT_AT,
        sampling=sampling,
        stops=_stops(config),
        stops_at=STOPS_AT,
        sampling_at=sampling_at,
    )


def _config(top: Members, drop: Drop) -> dict[str, Any]:
    value = member(top, "inferenceConfig")
    known = ("maxTokens", "temperature", "topP", "stopSequences")
    return {} if value is None else struct(value, "/inferenceConfig", known, drop)


def _stops(config: Mapping[str, Any]) -> list[str]:
    stops = list_of(config.get("stopSequences"), STOPS_AT)
    if not all(isinstance(stop, str) for stop in stops):
        raise invalid("inferenceConfig.stopSequences must be strings", "inferenceConfig.stopSequences")
    return [stop for stop in stops if stop]


def _sampling(config: Mapping[str, Any], extra: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Return the client's temperature, top_p and top_k, and the JSON pointer of each.

    top_k is an extra field: `top_k` for Claude, and `inferenceConfig.topK` for Nova.
    """
    inner = extra.get("inferenceConfig")
    nova = inner.get("topK") if isinstance(inner, dict) else None
    at = {**_SAMPLING, "top_k": f"{EXTRAS}/top_k" if nova is None else f"{EXTRAS}/inferenceConfig/topK"}
    values = {
        "temperature": config.get("temperature"),
        "top_p": config.get("topP"),
        "top_k": extra.get("top_k") if nova is None else nova,
    }
    return numbers.checked(_CHECKS, values, at), at


def _thinking(top: Members, extra: Mapping[str, Any], drop: Drop) -> ThinkingRequest:
    """Return the requested thinking, from Converse's `outputConfig.effort` or from the extra fields of a model family.

    If the request names several different efforts, the first one is used, and the others are reported as dropped.
    """
    efforts = {}
    for steps in _EFFORTS:
        inner: Any = member(top, steps[0])
        for step in steps[1:]:
            inner = inner.get(step) if isinstance(inner, dict) else None
        efforts[f"/{'/'.join(steps)}/effort"] = inner.get("effort") if isinstance(inner, dict) else None
    return read_thinking(extra, EXTRAS, drop, efforts=efforts)


def betas(extra: Mapping[str, Any]) -> list[str]:
    """Return the beta names in the extra field `anthropic_beta`."""
    names = list_of(extra.get("anthropic_beta"), f"{EXTRAS}/anthropic_beta")
    if not all(isinstance(beta, str) for beta in names):
        field = f"{EXTRAS[1:]}.anthropic_beta"
        raise invalid(f"{field} is a list of names of betas, as strings", field)
    return names


def tools(top: Members, drop: Drop) -> list[Tool]:
    """Return the offered tools. Raises `Refused` for a `systemTool`, because only Bedrock can run it."""
    offered: list[Tool] = []
    for index, raw in enumerate(list_of(_tool_config(top, drop).get("tools"), "/toolConfig/tools")):
        at = f"/toolConfig/tools/{index}"
        kind, inner = union(raw, at, ("toolSpec", "systemTool", "cachePoint"))
        if kind == "systemTool":
            name = inner.get("name") if isinstance(inner, dict) else inner
            raise invalid(f'{param(at)}: "{name}" runs on Bedrock only; leave it out', param(at))
        if kind == "toolSpec":
            offered.append(_tool(inner, f"{at}/toolSpec", drop))
            continue
        point = cache_point(inner, at, drop)
        if not offered or offered[-1].ttl is not None:
            drop(point.at)
        else:
            offered[-1] = replace(offered[-1], ttl=point.ttl, ttl_at=point.at)
    return offered


def _tool(value: Any, at: str, drop: Drop) -> Tool:
    inner = struct(value, at, ("name", "description", "inputSchema", "strict"), drop)
    name = text_at(inner, "name", at, needed=True)
    if not name.strip():
        raise invalid(f"{param(at)}.name must not be empty", f"{param(at)}.name")
    schema = inner.get("inputSchema")
    if schema is not None:
        schema = union(schema, f"{at}/inputSchema", ("json",))[1]
    return Tool(
        at=at,
        name=name,
        description=text_at(inner, "description", at),
        schema=schema,
        schema_at=f"{at}/inputSchema/json",
        strict=inner.get("strict") is True,
        strict_at=f"{at}/strict",
    )


def _tool_config(top: Members, drop: Drop) -> dict[str, Any]:
    value = member(top, "toolConfig")
    return {} if value is None else struct(value, "/toolConfig", ("tools", "toolChoice"), drop)


_MODES: Final = ("auto", "any", "tool", "none")


def choice(top: Members, extra: Mapping[str, Any]) -> ToolChoice:
    """Return the tool choice from Converse's `toolChoice`, or from Claude's `tool_choice` among the extra fields.

    Only Claude's `tool_choice` can be "none" or forbid parallel tool calls.
    """
    own_at = f"{EXTRAS}/tool_choice"
    own = extra.get("tool_choice")
    own = {"type": own} if isinstance(own, str) else own or {}
    if not isinstance(own, dict) or own.get("type") not in (None, *_MODES):
        raise invalid(f"{param(own_at)}: its type must be one of {', '.join(_MODES)}", param(own_at))
    mode, name, at = str(own.get("type") or "auto"), text_at(own, "name", own_at), own_at
    config = member(top, "toolConfig")
    value = config.get("toolChoice") if isinstance(config, dict) else None
    if value is not None:
        at = "/toolConfig/toolChoice"
        mode, inner = union(value, at, ("auto", "any", "tool"))
        name = text_at(inner, "name", f"{at}/tool", needed=True) if mode == "tool" and isinstance(inner, dict) else ""
    parallel_at = f"{own_at}/disable_parallel_tool_use"
    return ToolChoice(mode, name, own.get("disable_parallel_tool_use") is not True, at, parallel_at)


def output_format(top: Members, extra: Mapping[str, Any], drop: Drop) -> JsonFormat | None:
    """Return the format in `outputConfig.textFormat` or in Claude's `output_config.format`.

    Return None if the request has neither.
    """
    output = member(top, "outputConfig")
    output = {} if output is None else struct(output, "/outputConfig", ("textFormat", "effort"), drop)
    if (wanted := output.get("textFormat")) is not None:
        return _text_format(wanted, "/outputConfig/textFormat", drop)
    own = extra.get("output_config")
    own = {} if own is None else struct(own, f"{EXTRAS}/output_config", ("effort", "format"), drop)
    if (wanted := own.get("format")) is None:
        return None
    at = f"{EXTRAS}/output_config/format"
    inner = struct(wanted, at, ("type", "schema"), drop)
    if inner.get("type") != "json_schema" or not isinstance(inner.get("schema"), dict):
        raise invalid(f"{param(at)} must be of type json_schema, with a schema", param(at))
    return JsonFormat(inner["schema"], at, at)


def _text_format(value: Any, at: str, drop: Drop) -> JsonFormat:
    inner = struct(value, at, ("type", "structure"), drop)
    structure = inner.get("structure")
    if inner.get("type") != "json_schema" or structure is None:
        raise invalid(f"{param(at)} must be of type json_schema, with a structure", param(at))
    at_schema = f"{at}/structure/jsonSchema"
    defined = struct(
        union(structure, f"{at}/structure", ("jsonSchema",))[1], at_schema, ("schema", "name", "description"), drop
    )
    schema_text = text_at(defined, "schema", at_schema, needed=True)
    try:
        schema = decoded(schema_text)
    except ValueError:
        schema = None
    if not isinstance(schema, dict):
        raise invalid(f"{param(at_schema)}.schema must be a JSON schema, as text", f"{param(at_schema)}.schema")
    name, description = (text_at(defined, key, at_schema) for key in ("name", "description"))
    return JsonFormat(schema, at, at, name, description)


def service_tier(top: Members, drop: Drop) -> str:
    """Return the service tier, or "" if the request names none."""
    return _word(top, "serviceTier", "type", _TIERS, drop)


def latency(top: Members, drop: Drop) -> str:
    """Return the requested latency, "standard" or "optimized". Return "" if the request names none."""
    return _word(top, "performanceConfig", "latency", _LATENCIES, drop)


def _word(top: Members, name: str, key: str, known: tuple[str, ...], drop: Drop) -> str:
    value = member(top, name)
    if value is None:
        return ""
    word = struct(value, f"/{name}", (key,), drop).get(key)
    if word not in (None, *known):
        raise invalid(f'{name}.{key}: "{word}" is not one of {", ".join(known)}', f"{name}.{key}")
    return str(word or "")


def field_paths(top: Members, known: Collection[str], drop: Drop) -> tuple[str, ...]:
    """Return the paths of `additionalModelResponseFieldPaths` that are in `known`. Report other paths as dropped."""
    at = "additionalModelResponseFieldPaths"
    paths = list_of(member(top, at), f"/{at}")
    if not all(isinstance(path, str) for path in paths):
        raise invalid(f"{at} must be strings", at)
    for index, path in enumerate(paths):
        if path not in known:
            drop(f"/{at}/{index}")
    return tuple(path for path in paths if path in known)


def metadata(top: Members) -> dict[str, str]:
    """Return `requestMetadata`. AWS writes it into its logs of model invocations."""
    value = member(top, "requestMetadata")
    if value is not None and not (isinstance(value, dict) and all(isinstance(each, str) for each in value.values())):
        raise invalid("requestMetadata must be an object of strings", "requestMetadata")
    return value or {}


def project(top: Members) -> str:
    """Return `projectIdentifier`, the project to which AWS attributes the request, or "" if it is missing."""
    value = member(top, "projectIdentifier")
    if value is not None and not (isinstance(value, str) and _PROJECT.fullmatch(value)):
        raise invalid("projectIdentifier must be the id or the ARN of a project", "projectIdentifier")
    return value or ""


def report_extras(extra: Mapping[str, Any], carried: Collection[str], drop: Drop) -> None:
    """Report as dropped each extra field that this module does not read and the translation does not pass on.

    `extra` are the fields of `additionalModelRequestFields`. `carried` are the names that the translation passes on.
    """
    for name in extra:
        if name not in _READ and name not in carried:
            drop(f"{EXTRAS}/{escape_step(name)}")


def check_extras(extra: Mapping[str, Any], carried: Collection[str], drop: Drop) -> None:
    """Report as dropped what a model other than Claude cannot use: every Anthropic beta, and what `report_extras`
    reports.

    Raises `Refused` for Anthropic's own tools, because only Claude can call them.
    """
    if extra.get("tools"):
        field = f"{EXTRAS[1:]}.tools"
        raise invalid(f"{field}: these tools are Anthropic's own; leave them out, or use a Claude model", field)
    report_extras(extra, carried, drop)
    for index, _ in enumerate(betas(extra)):
        drop(f"{EXTRAS}/anthropic_beta/{index}")


def report_settings(top: Members, drop: Drop) -> None:
    """Report the metadata, the optimized latency and the project as dropped, because only Bedrock has these fields."""
    if metadata(top):
        drop("/requestMetadata")
    if latency(top, drop) == "optimized":
        drop("/performanceConfig")
    if project(top) not in {"", "default"}:
        drop("/projectIdentifier")
