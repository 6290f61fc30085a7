"""What a model can do, as plain values that plugins read instead of the model's name.

The data are in `capabilities.json`: rules in order, each a glob (or several) over the model's base id and the fields
that it sets, with its source. Later rules win, so the general ones come first. A model that no rule names gets the
defaults below, which permit: a provider's own 400 tells more than our refusal.

A base id is what is left of a model's id without its region, so a rule is written once for all regions. It keeps the
maker (`anthropic.`, `meta.`): globs for Claude and GPT open with `*`, which makes them fit the makers' own ids too.
No model's name is compared anywhere in code; here it is only taken apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

GEOS: Final = ("us", "eu", "apac", "jp", "au", "ca", "in", "global", "us-gov")
"""Region prefixes of Bedrock's inference profiles (pydantic-ai 2.68.0, providers/_bedrock_model_names.py)."""

_GEO: Final = re.compile(rf"({'|'.join(GEOS)})\.(?=[a-z])")
_ARN: Final = re.compile(r"arn:[^:]*:bedrock:[^:]*:[^:]*:(?:foundation-model|inference-profile)/(.+)")
"""ARNs that hold a model's id; those of application profiles, custom and imported models are opaque."""
_CONTEXT: Final = re.compile(r"\[[^\]]*\]$|(?<=:\d):\w+$")
"""`[1m]` of Claude Code, and Bedrock's throughput forms such as `-v1:0:51k`."""
_DATA: Final = Path(__file__).with_name("capabilities.json")
_NO_OVERRIDES: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Caps:
    """The capabilities of one model."""

    family: str = ""
    """Who made it: claude, nova, llama, mistral, openai, qwen, deepseek, ...; "" if unknown."""
    invoke_dialect: str = "opaque"
    """The dialect of its bodies on InvokeModel; `opaque` bodies are passed through and never translated."""
    anthropic_versions: tuple[str, ...] = ()
    """Values of `anthropic_version` that its InvokeModel body takes, the default one first; () if any."""

    max_output: int = 4096
    """Tokens to ask for where the dialect or the model demands a limit and the client gave none."""
    needs_max_tokens: bool = False
    """A limit is to be sent also where the dialect does not demand one."""
    min_max_tokens: int = 1
    """The smallest output limit that it takes."""
    max_completion_tokens: bool = False
    """Chat names the limit so; `max_tokens` is refused."""
    sampling: str = "both"
    """`both`, `one` (temperature or top_p, not together), `none` (neither, and no top_k)."""
    top_k: str = ""
    """Where Converse takes it: `field` (additionalModelRequestFields.top_k), `inference_config` (Nova), "" nowhere."""
    stop_sequences: bool = True
    blank_stops: bool = True
    """A stop sequence may be nothing but white space."""

    reasoning: str = "none"
    """How thinking is asked for: `none`, `always` (nothing to set), `budget` (Anthropic's budget_tokens), `adaptive`
    (Anthropic's adaptive thinking with an effort), `reasoning_effort`, `reasoning.effort`, `reasoning_config` (fields
    of additionalModelRequestFields), `nova` (reasoningConfig)."""
    efforts: tuple[str, ...] = ("low", "medium", "high")
    """Efforts that it takes, weakest first; others are clamped to the nearest."""
    effort_beta: str = ""
    """The beta under which `output_config.effort` is taken beside a budget, or without thinking; "" where none is."""
    thinking_display: bool = False
    """Thinking text is left out unless `display` asks for it."""
    signed_reasoning: bool = False
    """Reasoning carries signatures and must come back unchanged; unsigned reasoning is not taken back."""
    redacted_reasoning: bool = False
    reasoning_content: bool = False
    """Earlier thinking goes back as text on Chat, in the assistant message's `reasoning_content`."""

    tools: bool = True
    strict_tools: bool = False
    """`strict` on a tool is taken."""
    forced_tool_choice: bool = True
    """A tool may be demanded (`any`, or one by name)."""
    tool_choice_fields: bool = False
    """Anthropic's tool_choice goes into additionalModelRequestFields (none, disable_parallel_tool_use)."""
    additional_properties: bool = True
    """`additionalProperties` in a tool's schema is taken."""
    plain_properties: bool = False
    """At a tool's root, names of properties are of [a-zA-Z0-9_.-]{1,64}; one other refuses the whole request."""
    tool_result_alone: bool = False
    """Tool results stand alone in their turn, with no text or image beside them."""
    tool_result_status: bool = True
    tool_result_json: bool = False
    """Tool results are given as `json` rather than `text`."""
    tool_result_images: bool = True
    tool_id_alphanumeric: int = 0
    """Exact length of an alphanumeric tool id; 0 if any of [a-zA-Z0-9_-]{1,64} will do."""

    system: bool = True
    mid_system: bool = False
    """A system message may stand between turns."""
    leading_assistant: bool = False
    """The first turn may be the assistant's."""
    prefill: bool = True
    """The last turn may be the assistant's, to be continued."""
    images: bool = True
    documents: bool = True
    citations: bool = False
    """Documents and search results are cited where that is asked for, and search results are blocks of their own."""
    remote_media: bool = True
    """Images and documents are read from URLs by the provider itself, in dialects that have a place for them."""
    stop_sequence_named: bool = False
    """On Converse the reply names the stop sequence that was met, where `additionalModelResponseFieldPaths` asks it."""
    json_schema: bool = False
    """Structured output is native (outputConfig.textFormat on Converse, output_config.format on Messages)."""

    cache_points: bool = False
    tool_cache_points: bool = False
    cache_ttl: bool = False
    """A cache point may carry a ttl (5m, 1h)."""


def capabilities(model: str, overrides: Mapping[str, Any] = _NO_OVERRIDES) -> Caps:
    """What a model can do; `overrides` replace single fields. Raises `ValueError` for a field that does not exist."""
    if not overrides:
        return _by_rules(model)
    return _caps(_fields(base_id(model)) | dict(overrides))


def fits(pattern: str, model: str, base: str) -> bool:
    """A configuration's pattern means a model by its name, by the model behind it, or by that one's base id."""
    return any(fnmatchcase(name, pattern) for name in (model, base, base_id(base)))


def base_id(model: str) -> str:
    """The id without region, ARN and context suffix; an opaque ARN stays as it is."""
    name = _CONTEXT.sub("", _unwrapped(model))
    prefix = _GEO.match(name)
    return name[prefix.end() :] if prefix else name


def geo(model: str) -> str:
    """The region prefix of an id, such as `us` or `global`; "" if it has none."""
    prefix = _GEO.match(_unwrapped(model))
    return prefix[1] if prefix else ""


def _unwrapped(model: str) -> str:
    arn = _ARN.fullmatch(model)
    return arn[1] if arn else model


@cache
def invoke_dialects() -> tuple[str, ...]:
    """The dialects that any model's bodies have on InvokeModel."""
    named = (values["invoke_dialect"] for _, values in _rules() if "invoke_dialect" in values)
    return tuple(dict.fromkeys([Caps().invoke_dialect, *named]))


@cache
def _rules() -> list[tuple[list[str], dict[str, Any]]]:
    return [(rule["match"], rule["set"]) for rule in json.loads(_DATA.read_bytes())["rules"]]


@lru_cache(maxsize=16384)
def _by_rules(model: str) -> Caps:
    return _caps(_fields(base_id(model)))


def _fields(base: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for globs, values in _rules():
        if any(fnmatchcase(base, glob) for glob in globs):
            found |= values
    return found


def _caps(values: dict[str, Any]) -> Caps:
    known = [field.name for field in fields(Caps)]
    if unknown := [name for name in values if name not in known]:
        raise ValueError(f"{unknown[0]!r} is no capability; there are {', '.join(known)}")
    try:
        return msgspec.convert(values, Caps)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
