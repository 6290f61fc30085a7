"""Readers of a Converse request's parameters: everything but messages and system.

The second half of `read.py`; the same rules hold. `additionalModelRequestFields` holds what a family
has beyond Converse, in its own words: what several families mean alike (thinking, effort, top_k) is read here in all
their forms, since the client does not know which provider answers; all else is the conversion's, by its own table.
Sources: botocore's service model; AWS's user guide on each family's parameters; recorded traffic.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.contract.errors import invalid
from gateway.contract.flag import Drop, Members
from gateway_plugins.dialects.bedrock_converse.read import cache_point, listed, struct, text_at, union
from gateway_plugins.dialects.bedrock_converse.tools import Choice
from gateway_plugins.dialects.openai_chat.options import Format
from gateway_plugins.shared.fields import Ttl, escape_step, is_deep, member, param
from gateway_plugins.shared.settings import EFFORTS, ThinkingRequest, parse_thinking

EXTRAS: Final = "/additionalModelRequestFields"
MEMBERS: Final = frozenset(
    {
        "messages", "system", "inferenceConfig", "toolConfig", "guardrailConfig", "additionalModelRequestFields",
        "promptVariables", "additionalModelResponseFieldPaths", "requestMetadata", "performanceConfig", "serviceTier",
        "outputConfig", "projectIdentifier", "modelId",
    }
)  # fmt: skip
"""What the service model has, with the model's name, which stands in the path and which some clients repeat."""
READ: Final = frozenset(
    {
        "thinking", "output_config", "reasoning_effort", "reasoning", "reasoning_config", "reasoningConfig", "top_k",
        "inferenceConfig", "tool_choice", "anthropic_beta",
    }
)  # fmt: skip
"""Extra fields that are read here."""

_PROJECT: Final = re.compile("[a-zA-Z0-9:/_-]{1,2048}")
"""Letters of an id and of an ARN; the value may become a header."""
_TIERS: Final = ("default", "priority", "flex", "reserved")
_LATENCIES: Final = ("standard", "optimized")
_EFFORTS: Final = (
    # where an effort may stand: pointer, then names from there on; the first that says something counts
    (("outputConfig",), "effort"),
    ((EXTRAS[1:], "output_config"), "effort"),
    ((EXTRAS[1:],), "reasoning_effort"),
    ((EXTRAS[1:], "reasoning"), "effort"),
    ((EXTRAS[1:],), "reasoning_config"),
    ((EXTRAS[1:], "reasoningConfig"), "maxReasoningEffort"),
)
_THINKING: Final = ("type", "budget_tokens", "display")
_SAMPLING: Final[Mapping[str, str]] = {
    "temperature": "/inferenceConfig/temperature",
    "top_p": "/inferenceConfig/topP",
}


_MOST: Final[Mapping[str, int]] = {"temperature": 1, "top_p": 1, "top_k": 500}
"""Largest values: the service model's, and Claude's for top_k."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the client offers; `ttl` and `marked_at` are of the cache point behind it."""

    at: str
    name: str
    description: str
    schema: Any
    strict: bool
    ttl: Ttl = None
    marked_at: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature, top_p and top_k as far as they are given, and where each stands."""

    values: dict[str, float]
    at: dict[str, str]


def refuse_unservable(top: Members) -> None:
    """A 400 for what only Bedrock has and what would change the meaning if it were left out."""
    if member(top, "promptVariables"):
        said = "promptVariables: prompts that Bedrock manages are not known here; send messages with the text itself"
        raise invalid(said, "promptVariables")
    if not member(top, "messages") and not member(top, "system"):
        raise invalid("messages: there must be a message", "messages")


def leftovers(top: Members, drop: Drop) -> None:
    """Report members that the service model does not have."""
    for name in top:
        if name not in MEMBERS and top.decode(name) is not None:
            drop(f"/{escape_step(name)}")


def guardrail(top: Members, drop: Drop) -> dict[str, str]:
    """`guardrailConfig`; {} where none is asked for."""
    config = member(top, "guardrailConfig")
    if config is None:
        return {}
    known = ("guardrailIdentifier", "guardrailVersion", "trace", "streamProcessingMode")
    given = struct(config, "/guardrailConfig", known, drop)
    found = {name: text for name in known if (text := text_at(given, name, "/guardrailConfig"))}
    return found if "guardrailIdentifier" in found else {}


def refuse_guardrail(top: Members, drop: Drop) -> None:
    """For providers that have no guardrails: answers would be unguarded."""
    if guardrail(top, drop):
        raise unguarded()


def unguarded() -> Exception:
    said = "guardrailConfig: this provider has no guardrails; leave it out, or use a provider of Bedrock"
    return invalid(said, "guardrailConfig")


def extras(top: Members) -> dict[str, Any]:
    """`additionalModelRequestFields`, {} where nothing is said."""
    value = member(top, "additionalModelRequestFields")
    if value is not None and not isinstance(value, dict):
        raise invalid("additionalModelRequestFields must be an object", "additionalModelRequestFields")
    return {name: inner for name, inner in (value or {}).items() if inner is not None}


def config(top: Members, drop: Drop) -> dict[str, Any]:
    """`inferenceConfig`."""
    value = member(top, "inferenceConfig")
    known = ("maxTokens", "temperature", "topP", "stopSequences")
    return {} if value is None else struct(value, "/inferenceConfig", known, drop)


def limit(config: Mapping[str, Any]) -> int | None:
    """The output limit of `inferenceConfig`, in tokens."""
    value = config.get("maxTokens")
    if value is not None and (type(value) is not int or value < 1):
        raise invalid("inferenceConfig.maxTokens must be a whole number of at least 1", "inferenceConfig.maxTokens")
    return value


def stops(config: Mapping[str, Any]) -> list[str]:
    found = listed(config.get("stopSequences"), "/inferenceConfig/stopSequences")
    if not all(isinstance(stop, str) for stop in found):
        raise invalid("inferenceConfig.stopSequences must be strings", "inferenceConfig.stopSequences")
    return [stop for stop in found if stop]


def sampling(config: Mapping[str, Any], extra: Mapping[str, Any]) -> Sampling:
    """top_k is Claude's; Nova has it in an `inferenceConfig` of its own."""
    inner = extra.get("inferenceConfig")
    nova = inner.get("topK") if isinstance(inner, dict) else None
    at = {**_SAMPLING, "top_k": f"{EXTRAS}/top_k" if nova is None else f"{EXTRAS}/inferenceConfig/topK"}
    given = {
        "temperature": config.get("temperature"),
        "top_p": config.get("topP"),
        "top_k": extra.get("top_k") if nova is None else nova,
    }
    for name, value in given.items():
        if value is not None and (type(value) not in (int, float) or not 0 <= value <= _MOST[name]):
            raise invalid(f"{param(at[name])} must be a number from 0 to {_MOST[name]}", param(at[name]))
    return Sampling({name: value for name, value in given.items() if value is not None}, at)


def wish(top: Members, extra: Mapping[str, Any], drop: Drop) -> ThinkingRequest:
    """What is said of thinking, in any family's form; of several efforts the first counts."""
    own = parse_thinking(extra.get("thinking"), f"{EXTRAS[1:]}.thinking")
    own_at = f"{EXTRAS}/thinking"
    if own is not None:
        struct(extra["thinking"], own_at, _THINKING, drop)
    found: list[tuple[str, str]] = []
    for steps, name in _EFFORTS:
        inner: Any = member(top, steps[0])
        for step in steps[1:]:
            inner = inner.get(step) if isinstance(inner, dict) else None
        value = inner.get(name) if isinstance(inner, dict) else None
        if value is not None:
            at = f"/{'/'.join((*steps, name))}"
            if value not in EFFORTS:
                raise invalid(f'{param(at)}: "{value}" is not one of {", ".join(EFFORTS)}', param(at))
            found.append((str(value), at))
    nova = extra.get("reasoningConfig")
    if isinstance(nova, dict) and nova.get("type") == "disabled":
        found.insert(0, ("none", f"{EXTRAS}/reasoningConfig"))
    for value, at in found[1:]:
        if value != found[0][0]:
            drop(at)
    effort, effort_at = found[0] if found else ("", "")
    return ThinkingRequest(effort, own, effort_at, own_at)


def betas(extra: Mapping[str, Any]) -> list[str]:
    """Anthropic's betas, by name."""
    found = listed(extra.get("anthropic_beta"), f"{EXTRAS}/anthropic_beta")
    if not all(isinstance(beta, str) for beta in found):
        field = f"{EXTRAS[1:]}.anthropic_beta"
        raise invalid(f"{field} is a list of names of betas, as strings", field)
    return found


def tools(top: Members, drop: Drop) -> list[Tool]:
    """The tools offered. Raises `Refused` for one that only Bedrock can run."""
    found: list[Tool] = []
    for index, raw in enumerate(listed(_tool_config(top, drop).get("tools"), "/toolConfig/tools")):
        at = f"/toolConfig/tools/{index}"
        kind, inner = union(raw, at, ("toolSpec", "systemTool", "cachePoint"))
        if kind == "systemTool":
            name = inner.get("name") if isinstance(inner, dict) else inner
            raise invalid(f'{param(at)}: "{name}" runs on Bedrock only; leave it out', param(at))
        if kind == "toolSpec":
            found.append(_tool(inner, f"{at}/toolSpec", drop))
            continue
        point = cache_point(inner, at, drop)
        if not found or found[-1].ttl is not None:
            drop(point.at)
        else:
            found[-1] = _marked(found[-1], point.ttl, point.at)
    return found


def _marked(tool: Tool, ttl: Ttl, at: str) -> Tool:
    return Tool(tool.at, tool.name, tool.description, tool.schema, tool.strict, ttl, at)


def _tool(value: Any, at: str, drop: Drop) -> Tool:
    inner = struct(value, at, ("name", "description", "inputSchema", "strict"), drop)
    name = text_at(inner, "name", at, needed=True)
    if not name.strip():
        raise invalid(f"{param(at)}.name must not be empty", f"{param(at)}.name")
    schema = inner.get("inputSchema")
    if schema is not None:
        schema = union(schema, f"{at}/inputSchema", ("json",))[1]
    return Tool(at, name, text_at(inner, "description", at), schema, inner.get("strict") is True)


def _tool_config(top: Members, drop: Drop) -> dict[str, Any]:
    value = member(top, "toolConfig")
    return {} if value is None else struct(value, "/toolConfig", ("tools", "toolChoice"), drop)


_MODES: Final = ("auto", "any", "tool", "none")


def choice(top: Members, extra: Mapping[str, Any]) -> Choice:
    """`toolChoice`, and Claude's own `tool_choice` for what Converse has no word for. The name is the client's."""
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
    return Choice(mode, name, own.get("disable_parallel_tool_use") is not True, at, parallel_at)


def check_choice(choice: Choice, offered: list[Tool]) -> None:
    """Raises `Refused` for a demand that no tool can meet."""
    if choice.mode in {"any", "tool"} and not offered:
        raise invalid(f"{param(choice.path)}: a tool is demanded but none is offered; send tools", param(choice.path))
    if choice.mode == "tool" and choice.name not in {tool.name for tool in offered}:
        raise invalid(f'{param(choice.path)}: no tool is named "{choice.name}"', param(choice.path))


def output_format(top: Members, extra: Mapping[str, Any], drop: Drop) -> Format | None:
    """An answer of a JSON schema: Converse's `outputConfig.textFormat`, or Claude's own `output_config.format`."""
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
    return Format(inner["schema"], path=at)


def _text_format(value: Any, at: str, drop: Drop) -> Format:
    inner = struct(value, at, ("type", "structure"), drop)
    structure = inner.get("structure")
    if inner.get("type") != "json_schema" or structure is None:
        raise invalid(f"{param(at)} must be of type json_schema, with a structure", param(at))
    at_schema = f"{at}/structure/jsonSchema"
    defined = struct(
        union(structure, f"{at}/structure", ("jsonSchema",))[1], at_schema, ("schema", "name", "description"), drop
    )
    written = text_at(defined, "schema", at_schema, needed=True)
    try:
        schema = orjson.loads(written)
    except orjson.JSONDecodeError:
        schema = None
    if not isinstance(schema, dict) or is_deep(schema):
        raise invalid(f"{param(at_schema)}.schema must be a JSON schema, as text", f"{param(at_schema)}.schema")
    name, description = (text_at(defined, key, at_schema) for key in ("name", "description"))
    return Format(schema, name, description, path=at)


def service_tier(top: Members, drop: Drop) -> str:
    """The tier; "" where nothing is said."""
    return _word(top, "serviceTier", "type", _TIERS, drop)


def latency(top: Members, drop: Drop) -> str:
    """standard, optimized, or "" where nothing is said."""
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
    """Those of `additionalModelResponseFieldPaths` that are known; others are reported."""
    at = "additionalModelResponseFieldPaths"
    found = listed(member(top, at), f"/{at}")
    if not all(isinstance(path, str) for path in found):
        raise invalid(f"{at} must be strings", at)
    for index, path in enumerate(found):
        if path not in known:
            drop(f"/{at}/{index}")
    return tuple(path for path in found if path in known)


def metadata(top: Members) -> dict[str, str]:
    """`requestMetadata`, which is for AWS's logs of invocations."""
    value = member(top, "requestMetadata")
    if value is not None and not (isinstance(value, dict) and all(isinstance(each, str) for each in value.values())):
        raise invalid("requestMetadata must be an object of strings", "requestMetadata")
    return value or {}


def project(top: Members) -> str:
    """Return `projectIdentifier`, the project that AWS books the call to; "" and "default" say nothing."""
    value = member(top, "projectIdentifier")
    if value is not None and not (isinstance(value, str) and _PROJECT.fullmatch(value)):
        raise invalid("projectIdentifier must be the id or the ARN of a project", "projectIdentifier")
    return value or ""


def report_extras(extra: Mapping[str, Any], carried: Collection[str], drop: Drop) -> None:
    """Extra fields that neither this file reads nor the conversion carries."""
    for name in extra:
        if name not in READ and name not in carried:
            drop(f"{EXTRAS}/{escape_step(name)}")
