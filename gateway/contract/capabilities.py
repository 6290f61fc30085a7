"""Capabilities of models. Plugins read these values and never the model's name.

- `capabilities.json` is a list of rules. Each rule has globs for base ids of models, values of `Caps`, and their
  source. A later rule overrides an earlier one, so general rules come first.
- A base id is a model's id without its region, so that one rule matches all regions.
- On Bedrock, a base id begins with a company's name, such as `anthropic.`. Globs for Claude and GPT begin with `*`,
  because other providers leave out the company.
- A model that no rule matches gets the defaults of `Caps`. They permit almost everything, because a provider's own
  error explains more than a refusal by the gateway.
- Only this module parses the region and the ARN in a model's name.
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

_VENDORS: Final = (
    "ai21", "amazon", "anthropic", "cohere", "deepseek", "google", "luma", "meta", "minimax", "mistral", "moonshot",
    "moonshotai", "nvidia", "openai", "qwen", "stability", "twelvelabs", "writer", "xai", "zai",
)  # fmt: skip
"""Vendors at the beginning of the ids of Bedrock's models."""
_GEO: Final = re.compile(rf"({'|'.join(GEOS)})\.(?=[a-z])|([a-z]{{2,6}})\.(?=(?:{'|'.join(_VENDORS)})\.)")
"""Pattern for a region prefix: a known one, or a short word before a vendor.

AWS adds prefixes, such as `amer` (langchain-ai/langchain-aws#607)."""
_ARN: Final = re.compile(r"arn:[^:]*:bedrock:[^:]*:[^:]*:(?:foundation-model|inference-profile)/(.+)")
"""A pattern for ARNs that contain a model's id.

ARNs of application inference profiles, of custom models and of imported models contain no model's id."""
_LISTED: Final = re.compile(r"arn:[a-z-]+:bedrock:::inference-profile/(.+)")
_CONTEXT: Final = re.compile(r"\[[^\]]*\]$|(?<=:\d):\w+$")
"""A pattern for a suffix with the size of the context: `[1m]` of Claude Code, `:51k` in Bedrock's `-v1:0:51k`."""
_DATA: Final = Path(__file__).with_name("capabilities.json")
_NO_OVERRIDES: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Caps:
    """The capabilities of one model: the fields that requests may have, and the form of replies.

    >>> Caps(reasoning="budget", max_output=64000).tools
    True
    """

    family: str = ""
    """The model's family: claude, nova, llama, mistral, openai, qwen, deepseek, .... It is "" if unknown."""
    native_dialect: str = "opaque"
    """The dialect (format of bodies) that the company behind the model has defined, such as `anthropic_messages`.

    Some platforms, such as Bedrock's InvokeModel, pass bodies of this dialect to the model unchanged. `opaque` means
    that no plugin knows the dialect. Such bodies are forwarded and never translated."""
    anthropic_versions: tuple[str, ...] = ()
    """Values of `anthropic_version` that are allowed in an InvokeModel body, the default first.

    If every value is allowed, this is ()."""

    max_output: int = 4096
    """The output limit in tokens that is sent if the request needs a limit and the client sent none."""
    needs_max_tokens: bool = False
    """True if the model requires an output limit, even if the dialect does not."""
    min_max_tokens: int = 1
    """The smallest output limit, in tokens, that the model accepts."""
    max_completion_tokens: bool = False
    """True if the output limit in OpenAI Chat must be `max_completion_tokens`, because `max_tokens` is refused."""
    sampling: str = "both"
    """The sampling parameters that the model accepts.

    - `both`: temperature and top_p. `one`: temperature or top_p, but not both.
    - `none`: neither temperature nor top_p nor top_k."""
    top_k: str = ""
    """The field for top_k in a Converse request. It is "" if top_k cannot be sent.

    - `field`: additionalModelRequestFields.top_k.
    - `inference_config` (Nova): additionalModelRequestFields.inferenceConfig.topK.
    """
    stop_sequences: bool = True
    blank_stops: bool = True
    """True if the model accepts a stop sequence of white space only."""

    reasoning: str = "none"
    """The form in which a request to the model asks for thinking.

    - `none`: the model does not think. `always`: the model always thinks, and no field changes that.
    - `budget`: Anthropic's budget_tokens. `adaptive`: Anthropic's adaptive thinking with an effort.
    - `nova`: reasoningConfig.
    - `reasoning_effort`, `reasoning.effort`, `reasoning_config`: the field with this name in
      additionalModelRequestFields.
    - `thinking.type`, `enable_thinking`, `chat_template_kwargs`: the field with this name in OpenAI Chat. It switches
      thinking on and off.
    """
    thinks_by_default: bool = False
    """True if the model thinks unless the request switches thinking off."""
    thinking_off: str = "disabled"
    """The value of `thinking.type` that switches thinking off, such as `disabled`. It is "" if no value does."""
    effort_without_thinking: str = ""
    """The strongest effort that the model accepts while thinking is off. It is "" if every effort is accepted."""
    efforts: tuple[str, ...] = ("low", "medium", "high")
    """Thinking efforts that the model accepts, weakest first. The value is () if no effort is accepted.

    The gateway replaces any other effort by the nearest of these.
    """
    effort_beta: str = ""
    """The Anthropic beta that allows `output_config.effort` without adaptive thinking. It is "" if there is no such
    beta.
    """
    thinking_display: bool = False
    """True if a request must ask for thinking text with `display`."""
    signed_reasoning: bool = False
    """True if the model signs its reasoning, and accepts earlier reasoning only with its signature."""
    redacted_reasoning: bool = False
    portable_signatures: str = ""
    """The model family, such as `claude`, whose signatures of thinking are valid at every provider. It is "" if there
    is no such family.

    Clients get the signatures of a model of this family unchanged. To the signatures of any other model, the gateway
    adds the name of the model's own `family`.
    """
    reasoning_content: bool = False
    """True if a request may contain the model's earlier thinking as plain text.

    In OpenAI Chat, the text is in `reasoning_content`. In Anthropic Messages, it is a `thinking` block without a
    signature."""
    needs_reasoning_content: bool = False
    """True if each assistant message with tool calls must have `reasoning_content` in OpenAI Chat."""
    call_signature: str = ""
    """A signature that the model accepts on any tool call. It is "" if the model needs no signatures.

    Gemini requires a signature on the first tool call of each turn. If the call has none, the gateway adds this value.
    """
    inline_reasoning: tuple[str, ...] = ()
    """Names of the tags, such as `think`, between which the model may write its thinking at the start of its text."""
    own_tool_ids: str = ""
    """A glob for the ids of the model's tool calls, such as `functions.*:[0-9]*`. It is "" if the ids have no special
    form.

    The model must get these ids back unchanged. Other providers refuse them.
    """

    tools: bool = True
    strict_tools: bool = False
    """True if a tool's definition may have the field `strict`."""
    forced_tool_choice: bool = True
    """True if a request may force the model to call a tool (`any`, or one tool by name)."""
    forced_tool_choice_with_thinking: bool = False
    """True if a request with Anthropic's thinking (`budget` or `adaptive`) may force a tool call."""
    tool_choice_fields: bool = False
    """True if a Converse request may have Anthropic's tool_choice in additionalModelRequestFields.

    Converse's own field lacks the options `none` and `disable_parallel_tool_use`."""
    additional_properties: bool = True
    """True if a tool's schema may have `additionalProperties`."""
    schema_references: bool = True
    """True if a tool's schema may have references (`$ref`).

    If it is False, the gateway replaces each reference by the definition to which the reference points.
    """
    plain_properties: bool = False
    """True if the names of a tool's top-level properties must match [a-zA-Z0-9_.-]{1,64}."""
    tool_result_alone: bool = False
    """True if a turn with tool results must have no other content, such as text or images."""
    tool_result_status: bool = True
    tool_result_json: bool = False
    """True if tool results are sent as `json` instead of `text`."""
    tool_result_images: bool = True
    tool_result_documents: str = "all"
    """The documents that a tool's result may contain: `all`, `text` (only csv, txt, md and html) or `none`."""
    tool_id_alphanumeric: int = 0
    """The required length of a tool call's id, which may have only letters and digits.

    It is 0 if the model accepts any id that matches [a-zA-Z0-9_-]{1,64}."""

    system: bool = True
    mid_system: bool = False
    """True if a request may have system messages between turns."""
    leading_assistant: bool = False
    """True if the first turn may have the role `assistant`."""
    prefill: bool = True
    """True if the last turn may have the role `assistant`. The model then continues its text."""
    images: bool = True
    documents: bool = True
    citations: bool = False
    """True if the model accepts blocks with search results, and can cite search results and documents."""
    remote_media: bool = True
    """True if the provider itself downloads images and documents from URLs in the request."""
    stop_sequence_named: bool = False
    """True if a Converse request may ask for the matched stop sequence (`additionalModelResponseFieldPaths`)."""
    json_schema: bool = False
    """True if a request may have a JSON schema for the output.

    The field is outputConfig.textFormat in Converse and output_config.format in Anthropic Messages."""

    cache_points: bool = False
    tool_cache_points: bool = False
    cache_ttl: bool = False
    """True if a cache point may have a ttl (5m, 1h)."""
    cache_min_tokens: int = 1024
    """The minimum number of tokens before a cache point. The model ignores a cache point after fewer tokens."""


def capabilities(model: str, overrides: Mapping[str, Any] = _NO_OVERRIDES) -> Caps:
    """Return a model's capabilities. The fields in `overrides` replace the fields of the rules.

    Raises `ValueError` for an unknown field or a value of the wrong type.

    >>> capabilities.capabilities("us.anthropic.claude-sonnet-4-5-20250929-v1:0").reasoning
    'budget'
    >>> capabilities.capabilities("acme-1", {"max_output": 100}).max_output
    100
    """
    if not overrides:
        return _by_rules(model)
    return _caps(_fields(base_id(model)) | dict(overrides))


def fits(pattern: str, model: str, base: str) -> bool:
    """Return whether a glob in the configuration matches `model`, `base` or `base_id(base)`.

    Usually `base` equals `model`. But if `model` is a name without the model's id, such as the ARN of an application
    inference profile, `base` is the id.

    >>> model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    >>> capabilities.fits("anthropic.claude-*", model, model), capabilities.fits("nova-*", model, model)
    (True, False)
    """
    return any(fnmatchcase(name, pattern) for name in (model, base, base_id(base)))


def base_id(model: str) -> str:
    """Return a model's id without ARN prefix, region and context suffix. An ARN without a model's id stays unchanged.

    >>> capabilities.base_id("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    'anthropic.claude-sonnet-4-5-20250929-v1:0'
    """
    name = _CONTEXT.sub("", _unwrapped(model))
    prefix = _GEO.match(name)
    return name[prefix.end() :] if prefix else name


def geo(model: str) -> str:
    """Return the region prefix of a model's id, such as `us` or `global`. Return "" if there is none.

    >>> capabilities.geo("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), capabilities.geo("acme-1")
    ('us', '')
    """
    prefix = _GEO.match(_unwrapped(model))
    return (prefix[1] or prefix[2]) if prefix else ""


def listed_name(arn: str) -> str:
    """Return the model's id in an ARN without region and account, as in the gateway's list of inference profiles.

    Return "" for any other text. An ARN with a region and an account means a model of this account.

    >>> capabilities.listed_name("arn:aws:bedrock:::inference-profile/us.amazon.nova-lite-v1:0")
    'us.amazon.nova-lite-v1:0'
    """
    listed = _LISTED.fullmatch(arn)
    return listed[1] if listed else ""


def _unwrapped(model: str) -> str:
    arn = _ARN.fullmatch(model)
    return arn[1] if arn else model


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
