"""The capabilities of each model. Plugins read these values instead of parsing the model's name.

- `capabilities.json` is a list of rules. Each rule has globs for base ids of models, values of `Caps`, and the source
  of these values. A later rule overrides an earlier one, so general rules come first.
- A base id is a model's id without its region, so that one rule matches all regions.
- On Bedrock, a base id begins with a company's name, such as `anthropic.`. Other providers leave out the company, so
  the globs for Claude and GPT begin with `*`.
- A model that no rule matches gets the defaults of `Caps`. They permit almost everything, because a provider's own
  error explains more than a refusal by the gateway.
- This is the only module that parses the region and the ARN in a model's name.
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
"""Names of companies at the beginning of Bedrock's model ids, such as `amazon` in `amazon.nova-lite-v1:0`."""
_GEO: Final = re.compile(rf"({'|'.join(GEOS)})\.(?=[a-z])|([a-z]{{2,6}})\.(?=(?:{'|'.join(_VENDORS)})\.)")
"""Pattern for the region prefix of a model id: one of `GEOS`, or any short word before one of `_VENDORS`.

The second form is for prefixes that `GEOS` lacks, because AWS adds prefixes, such as `amer`
(langchain-ai/langchain-aws#607).
"""
_ARN: Final = re.compile(r"arn:[^:]*:bedrock:[^:]*:[^:]*:(?:foundation-model|inference-profile)/(.+)")
"""Pattern for an ARN that contains a model's id: the ARN of a foundation model or of one of AWS's own inference
profiles.

The ARNs of application inference profiles, of custom models and of imported models do not contain the id.
"""
_LISTED: Final = re.compile(r"arn:[a-z-]+:bedrock:::inference-profile/(.+)")
_CONTEXT: Final = re.compile(r"\[[^\]]*\]$|(?<=:\d):\w+$")
"""Pattern for the size of the context at the end of a model's name: `[1m]` in Claude Code's names, and `:51k` in
Bedrock's `-v1:0:51k`."""
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
    """The dialect (format of bodies) that the model's own company has defined, such as `anthropic_messages`.

    Some platforms, such as Bedrock's InvokeModel, pass bodies in this dialect to the model unchanged. The value is
    `opaque` if no plugin knows the dialect. Then the gateway forwards the bodies and never translates them.
    """
    anthropic_versions: tuple[str, ...] = ()
    """Values of `anthropic_version` that are allowed in an InvokeModel body, the default first.

    If every value is allowed, this is ()."""

    max_output: int = 4096
    """The output limit in tokens that the gateway sends if a request needs a limit and the client has set none."""
    needs_max_tokens: bool = False
    """True if requests must have an output limit, even in a dialect (format of bodies) in which the limit is optional.
    """
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
    """The way in which a request asks the model for thinking.

    - `none`: the model does not think. `always`: the model always thinks, and no field changes that.
    - `budget`: Anthropic's budget_tokens. `adaptive`: Anthropic's adaptive thinking with an effort.
    - `nova`: Amazon Nova's reasoningConfig.
    - `reasoning_effort`, `reasoning.effort`, `reasoning_config`: the field with this name in Converse's
      additionalModelRequestFields.
    - `thinking.type`, `enable_thinking`, `chat_template_kwargs`: the field with this name in OpenAI Chat. It switches
      thinking on and off.
    """
    thinks_by_default: bool = False
    """True if the model thinks unless the request switches thinking off."""
    thinking_off: str = "disabled"
    """The value of `thinking.type` that switches thinking off, such as `disabled`. It is "" if no value does."""
    effort_without_thinking: str = ""
    """The strongest effort that the model accepts while thinking is off. It is "" if the model accepts every effort."""
    efforts: tuple[str, ...] = ("low", "medium", "high")
    """Thinking efforts that the model accepts, weakest first. The value is () if no effort is accepted.

    The gateway replaces any other effort by the nearest of these.
    """
    effort_beta: str = ""
    """The Anthropic beta that allows `output_config.effort` without adaptive thinking. It is "" if there is no such
    beta.
    """
    thinking_display: bool = False
    """True if the request must ask for the text of the thinking (with `thinking.display`) to get it in the reply."""
    signed_reasoning: bool = False
    """True if the model signs its reasoning, and accepts earlier reasoning only with its signature."""
    redacted_reasoning: bool = False
    portable_signatures: str = ""
    """The model family, such as `claude`, whose signatures of thinking every provider accepts. It is "" if there is no
    such family.

    Clients get the signatures of a model of this family unchanged. To each signature of any other model, the gateway
    prepends the name of the model's `family`.
    """
    reasoning_content: bool = False
    """True if a request may contain the model's earlier thinking as plain text.

    In OpenAI Chat, the text is in `reasoning_content`. In Anthropic Messages, it is a `thinking` block without a
    signature."""
    needs_reasoning_content: bool = False
    """True if each assistant message with tool calls must have `reasoning_content` in OpenAI Chat."""
    call_signature: str = ""
    """A signature that the model accepts on any tool call. It is "" if the model needs no signatures.

    Gemini requires a signature on the first tool call of each assistant turn. If the client sends none, the gateway
    adds this one.
    """
    inline_reasoning: tuple[str, ...] = ()
    """Names of tags, such as `think`. The model may write its thinking between two such tags at the start of its text.
    """
    own_tool_ids: str = ""
    """A glob for the ids that the model itself gives to tool calls, such as `functions.*:[0-9]*`. It is "" if these ids
    have no special form.

    The gateway sends ids of this form back to the model unchanged. In requests to other models, the gateway replaces
    these ids, because other providers refuse them.
    """

    tools: bool = True
    strict_tools: bool = False
    """True if a tool's definition may have the field `strict`."""
    forced_tool_choice: bool = True
    """True if a request may force the model to call any tool (`any`), or to call a certain tool."""
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
    """True if tool results are sent in the field `json` instead of `text`."""
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
    """True if a Converse request may have `additionalModelResponseFieldPaths`, to learn which stop sequence was
    matched.
    """
    json_schema: bool = False
    """True if a request may have a JSON schema for the output.

    The field is outputConfig.textFormat in Converse and output_config.format in Anthropic Messages."""

    cache_points: bool = False
    tool_cache_points: bool = False
    cache_ttl: bool = False
    """True if a cache point may have a ttl (5m, 1h)."""
    cache_min_tokens: int = 1024
    """The smallest number of prompt tokens that the model caches. A cache point after fewer tokens has no effect."""


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
    """Return whether a glob in the configuration matches one of a model's names: `model`, `base` or `base_id(base)`.

    `model` is the name in requests to the provider, and `base` is the model's id. They are equal if `model` contains
    the id. The ARN of an application inference profile does not contain it.

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
    """Return the model's id from an ARN whose region and account are empty, as in the gateway's own list of inference
    profiles. Return "" for any other text.

    An ARN with a region and an account names a model of that account, so its id is not returned.

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
