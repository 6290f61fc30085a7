"""Capabilities of models, as plain values that plugins read instead of the model's name.

- The data are in `capabilities.json`: rules in order, each with one or more globs over the model's base id, the fields
  that the rule sets, and its source. A later rule wins, so general rules come first.
- A model that no rule names gets the defaults below. They permit, because a provider's own 400 explains more than a
  refusal of the gateway.
- A base id is a model's id without its region, so that one rule is enough for all regions. It keeps the maker
  (`anthropic.`, `meta.`); globs for Claude and GPT begin with `*`, so that they match the makers' own ids too.
- No code compares a model's name with a literal; this file only parses the name.
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
"""ARNs that hold a model's id; ARNs of application profiles, custom and imported models are opaque."""
_CONTEXT: Final = re.compile(r"\[[^\]]*\]$|(?<=:\d):\w+$")
"""`[1m]` of Claude Code, and Bedrock's throughput forms such as `-v1:0:51k`."""
_DATA: Final = Path(__file__).with_name("capabilities.json")
_NO_OVERRIDES: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Caps:
    """The capabilities of one model."""

    family: str = ""
    """The model's family: claude, nova, llama, mistral, openai, qwen, deepseek, ...; "" if unknown."""
    invoke_dialect: str = "opaque"
    """The dialect of the model's bodies on InvokeModel; `opaque` bodies are passed through and never translated."""
    anthropic_versions: tuple[str, ...] = ()
    """Values of `anthropic_version` that an InvokeModel body may have, the default first; () if any may."""

    max_output: int = 4096
    """Tokens to ask for if the dialect or the model requires a limit and the client sent none."""
    needs_max_tokens: bool = False
    """The model requires a limit even if the dialect does not."""
    min_max_tokens: int = 1
    """The smallest output limit that the model accepts."""
    max_completion_tokens: bool = False
    """Chat calls the limit `max_completion_tokens` and refuses `max_tokens`."""
    sampling: str = "both"
    """`both`, `one` (temperature or top_p, not together), `none` (neither, and no top_k)."""
    top_k: str = ""
    """The place of top_k in Converse: `field` (additionalModelRequestFields.top_k), `inference_config` (Nova), ""."""
    stop_sequences: bool = True
    blank_stops: bool = True
    """A stop sequence may be nothing but white space."""

    reasoning: str = "none"
    """The form in which thinking is requested: `none`, `always` (nothing to set), `budget` (Anthropic's budget_tokens),
    `adaptive` (Anthropic's adaptive thinking with an effort), `reasoning_effort`, `reasoning.effort`,
    `reasoning_config` (fields of additionalModelRequestFields), `nova` (reasoningConfig)."""
    efforts: tuple[str, ...] = ("low", "medium", "high")
    """Efforts that the model accepts, weakest first; any other is clamped to the nearest."""
    effort_beta: str = ""
    """The beta under which `output_config.effort` is accepted beside a budget, or without thinking; "" for none."""
    thinking_display: bool = False
    """The reply has no thinking text unless `display` asks for the text."""
    signed_reasoning: bool = False
    """Reasoning carries signatures and must come back unchanged; unsigned reasoning is not taken back."""
    redacted_reasoning: bool = False
    reasoning_content: bool = False
    """Earlier thinking goes back as text on Chat, in the assistant message's `reasoning_content`."""

    tools: bool = True
    strict_tools: bool = False
    """A tool may have `strict`."""
    forced_tool_choice: bool = True
    """A request may force the use of a tool (`any`, or one tool by name)."""
    tool_choice_fields: bool = False
    """Anthropic's tool_choice goes into additionalModelRequestFields (none, disable_parallel_tool_use)."""
    additional_properties: bool = True
    """A tool's schema may have `additionalProperties`."""
    plain_properties: bool = False
    """Properties at a tool's root must match [a-zA-Z0-9_.-]{1,64}; any other name makes the whole request fail."""
    tool_result_alone: bool = False
    """Tool results stand alone in their turn, with no text or image beside them."""
    tool_result_status: bool = True
    tool_result_json: bool = False
    """Tool results are sent as `json` rather than `text`."""
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
    """The model cites documents and search results on request, and search results are blocks of their own."""
    remote_media: bool = True
    """The provider itself reads images and documents from URLs, in dialects that can carry URLs."""
    stop_sequence_named: bool = False
    """The reply of Converse names the matched stop sequence if `additionalModelResponseFieldPaths` asks for it."""
    json_schema: bool = False
    """Structured output is native (outputConfig.textFormat on Converse, output_config.format on Messages)."""

    cache_points: bool = False
    tool_cache_points: bool = False
    cache_ttl: bool = False
    """A cache point may carry a ttl (5m, 1h)."""


def capabilities(model: str, overrides: Mapping[str, Any] = _NO_OVERRIDES) -> Caps:
    """Return a model's capabilities; `overrides` replace single fields. Raises `ValueError` for an unknown field."""
    if not overrides:
        return _by_rules(model)
    return _caps(_fields(base_id(model)) | dict(overrides))


def fits(pattern: str, model: str, base: str) -> bool:
    """Return whether a configuration's pattern matches a model's name, its base model, or the base model's base id."""
    return any(fnmatchcase(name, pattern) for name in (model, base, base_id(base)))


def base_id(model: str) -> str:
    """Return a model's id without region, ARN and context suffix; an opaque ARN stays unchanged."""
    name = _CONTEXT.sub("", _unwrapped(model))
    prefix = _GEO.match(name)
    return name[prefix.end() :] if prefix else name


def geo(model: str) -> str:
    """Return the region prefix of a model's id, such as `us` or `global`; "" if there is none."""
    prefix = _GEO.match(_unwrapped(model))
    return prefix[1] if prefix else ""


def _unwrapped(model: str) -> str:
    arn = _ARN.fullmatch(model)
    return arn[1] if arn else model


@cache
def invoke_dialects() -> tuple[str, ...]:
    """Return the dialects that any model's bodies have on InvokeModel."""
    named = (values["invoke_dialect"] for _, values in _rules() if "invoke_dialect" in values)
    return tuple(dict.fromkeys([Caps().invoke_dialect, *named]))


@cache
def _rules() -> list[tuple[list[str], dict[str, Any]]]:
    return [(rule["match"], rule["set"]) for rule in json.loads(_DATA.read_bytes())["rules"]]


@lru_cache(maxsize=16384)
def _by_rules(model: str) -> Caps:
    return _caps(_fields(base_id(model)))


def _fields(base: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for globs, values in _rules():
        if any(fnmatchcase(base, glob) for glob in globs):
            merged |= values
    return merged


def _caps(values: dict[str, Any]) -> Caps:
    known = [field.name for field in fields(Caps)]
    if unknown := [name for name in values if name not in known]:
        raise ValueError(f"{unknown[0]!r} is no capability; there are {', '.join(known)}")
    try:
        return msgspec.convert(values, Caps)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
