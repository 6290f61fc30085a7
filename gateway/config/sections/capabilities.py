"""The section `capabilities` of a provider: corrections of the gateway's data about its models.

The keys of `capabilities` are the fields of `gateway.contract.capabilities.Caps`, where each field is explained. A test
compares the keys with the fields. A key that is left out has the value from `contract/capabilities.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from gateway.config.document.hujson import Path
from gateway.config.reading import Reading
from gateway.config.section import Section
from gateway.contract.capabilities import Caps, fits

_CAPABILITIES: Final = tuple(field.name for field in fields(Caps))

_Names = Annotated[tuple[str, ...], Field(strict=False)]
_Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_Efforts = Annotated[tuple[_Effort, ...], Field(strict=False)]
_Tokens = Annotated[int, Field(ge=0)]


class CapabilitiesSection(Section):
    """Corrections of what the gateway knows about the models that match a name or pattern."""

    is_open: ClassVar[bool] = True  # `read_capabilities` reports an unknown name as an error

    family: str | None = Field(None, description='The model family: "claude", "nova", "llama" or another word.')
    native_dialect: str | None = Field(
        None,
        description="The dialect that the maker of the models has defined, which InvokeModel accepts: "
        '"anthropic_messages"; "opaque" for bodies that are only passed through.',
    )
    anthropic_versions: _Names | None = Field(
        None,
        description='Values of anthropic_version that InvokeModel accepts, the default first: ["bedrock-2023-05-31"].',
    )
    max_output: _Tokens | None = Field(
        None,
        description="The output limit in tokens that is sent if a limit is needed "
        "and the client sends none, such as 32000.",
    )
    needs_max_tokens: bool | None = Field(
        None, description="Whether a request must have an output limit: true or false."
    )
    min_max_tokens: _Tokens | None = Field(None, description="The smallest output limit that is accepted, such as 16.")
    max_completion_tokens: bool | None = Field(
        None, description="Whether OpenAI Chat calls the output limit max_completion_tokens: true or false."
    )
    sampling: Literal["both", "one", "none"] | None = Field(
        None, description='Which of temperature and top_p are accepted: "both", "one" of them, or "none".'
    )
    top_k: Literal["", "field", "inference_config"] | None = Field(
        None, description='The place of top_k in a Converse request: "field", "inference_config", or "" if it has none.'
    )
    stop_sequences: bool | None = Field(None, description="Whether stop sequences are accepted: true or false.")
    blank_stops: bool | None = Field(
        None, description="Whether a stop sequence may consist of white space only: true or false."
    )
    reasoning: (
        Literal[
            "none",
            "always",
            "budget",
            "adaptive",
            "reasoning_effort",
            "reasoning.effort",
            "reasoning_config",
            "nova",
            "thinking.type",
            "enable_thinking",
            "chat_template_kwargs",
        ]
        | None
    ) = Field(
        None, description='How a request asks for thinking: "none", "budget", "adaptive", "reasoning_effort", ...'
    )
    thinks_by_default: bool | None = Field(
        None, description="Whether the model thinks unless a request switches thinking off: true or false."
    )
    thinking_off: Literal["", "disabled", "between_tools"] | None = Field(
        None,
        description="The value of thinking.type that switches thinking off: "
        '"disabled", "between_tools", or "" if none does.',
    )
    effort_without_thinking: Literal[_Effort, ""] | None = Field(
        None, description='The strongest effort that is accepted while thinking is off: "high"; "" for any.'
    )
    efforts: _Efforts | None = Field(
        None, description='The efforts that are accepted, weakest first: ["low", "medium", "high"].'
    )
    effort_beta: str | None = Field(
        None,
        description="The beta that must be named so that an effort is accepted beside a thinking budget: "
        '"effort-2025-11-24"; "" for none.',
    )
    thinking_display: bool | None = Field(
        None, description="Whether a reply has the text of the thinking only if the request asks for it: true or false."
    )
    signed_reasoning: bool | None = Field(None, description="Whether the model signs its thinking: true or false.")
    redacted_reasoning: bool | None = Field(
        None, description="Whether redacted thinking of earlier turns is accepted: true or false."
    )
    portable_signatures: str | None = Field(
        None,
        description='The model family whose signatures of thinking are valid at every provider: "claude"; "" for none.',
    )
    reasoning_content: bool | None = Field(
        None,
        description="Whether earlier thinking is accepted as text, in OpenAI Chat as reasoning_content: true or false.",
    )
    needs_reasoning_content: bool | None = Field(
        None,
        description="Whether OpenAI Chat refuses an assistant message with tool calls but "
        "without reasoning_content: true or false.",
    )
    call_signature: str | None = Field(
        None,
        description="The signature that OpenAI Chat gets for the first tool call of a turn if "
        'the call has none; "" if none is needed.',
    )
    inline_reasoning: _Names | None = Field(
        None, description='Names of the tags that may enclose thinking at the start of the text: ["think"].'
    )
    own_tool_ids: str | None = Field(
        None,
        description="A glob for ids of tool calls that the model needs back "
        'unchanged: "functions.*:[0-9]*"; "" for none.',
    )
    tools: bool | None = Field(None, description="Whether tools are accepted: true or false.")
    strict_tools: bool | None = Field(
        None, description="Whether the field strict is accepted in a tool's definition: true or false."
    )
    forced_tool_choice: bool | None = Field(None, description="Whether a request may force a tool call: true or false.")
    forced_tool_choice_with_thinking: bool | None = Field(
        None, description="Whether a request with thinking may force a tool call: true or false."
    )
    tool_choice_fields: bool | None = Field(
        None,
        description="Whether Converse accepts Anthropic's tool_choice in additionalModelRequestFields: true or false.",
    )
    additional_properties: bool | None = Field(
        None, description="Whether a tool's schema may have additionalProperties: true or false."
    )
    schema_references: bool | None = Field(
        None, description="Whether a tool's schema may have definitions and $ref: true or false."
    )
    plain_properties: bool | None = Field(
        None,
        description="Whether the names of a tool's properties may have only "
        "letters, digits, _, . and -: true or false.",
    )
    tool_result_alone: bool | None = Field(
        None, description="Whether a turn with tool results must have no other content: true or false."
    )
    tool_result_status: bool | None = Field(None, description="Whether a tool result may have a status: true or false.")
    tool_result_json: bool | None = Field(None, description="Whether tool results are sent as JSON: true or false.")
    tool_result_images: bool | None = Field(
        None, description="Whether a tool result may contain images: true or false."
    )
    tool_result_documents: Literal["all", "text", "none"] | None = Field(
        None,
        description='The documents that a tool result may contain: "all", "text" (csv, txt, md and html), or "none".',
    )
    tool_id_alphanumeric: _Tokens | None = Field(
        None,
        description="The exact length of a tool call's id if only letters and "
        "digits are accepted, such as 9; 0 for any id.",
    )
    system: bool | None = Field(None, description="Whether a system prompt is accepted: true or false.")
    mid_system: bool | None = Field(
        None, description="Whether a system message is accepted between turns: true or false."
    )
    leading_assistant: bool | None = Field(
        None, description="Whether the first turn may be the assistant's: true or false."
    )
    prefill: bool | None = Field(None, description="Whether the last turn may be the assistant's: true or false.")
    images: bool | None = Field(None, description="Whether images are accepted: true or false.")
    documents: bool | None = Field(None, description="Whether documents are accepted: true or false.")
    citations: bool | None = Field(
        None, description="Whether the model cites documents and search results on request: true or false."
    )
    remote_media: bool | None = Field(
        None,
        description="Whether the provider downloads images and documents that a request names by URL: true or false.",
    )
    stop_sequence_named: bool | None = Field(
        None, description="Whether a Converse reply can name the stop sequence that matched: true or false."
    )
    json_schema: bool | None = Field(
        None, description="Whether a JSON schema for the output is supported: true or false."
    )
    cache_points: bool | None = Field(None, description="Whether prompts can be cached: true or false.")
    tool_cache_points: bool | None = Field(None, description="Whether tools can be cached: true or false.")
    cache_ttl: bool | None = Field(None, description="Whether a cache mark may carry a lifetime: true or false.")
    cache_min_tokens: _Tokens | None = Field(
        None, description="The smallest number of tokens that is cached, such as 1024."
    )


def read_capabilities(
    raw: Mapping[str, Any], models: Mapping[str, str] | None, path: Path, reading: Reading
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Return the corrected capabilities: each pattern of model names with the fields to set, in the document's order.

    Patterns with faults are left out. `models` maps each model name of the provider to the id of the model that it
    stands for. It is None if the names are not known yet.
    """
    changes = []
    for pattern, item in raw.items():
        place = (*path, pattern)
        for name in item if isinstance(item, dict) else ():
            if name not in _CAPABILITIES:
                hint = reading.report.hint(name, _CAPABILITIES)
                known = ", ".join(_CAPABILITIES)
                reading.report.error((*place, name), f"is no capability{hint}; there are {known}")
        checked = models if models is not None and reading.report.patient(len(models)) else None
        if checked is not None and not any(fits(pattern, *names) for names in checked.items()):
            reading.report.warn(place, 'fits none of the provider\'s "models"; it has no effect')
        if (section := reading.section(CapabilitiesSection, item, place)) is not None:
            _check_dialect(section.native_dialect, (*place, "native_dialect"), reading)
            changes.append((pattern, MappingProxyType(section.model_dump(exclude_none=True))))
    return tuple(changes)


def _check_dialect(dialect: str | None, path: Path, reading: Reading) -> None:
    known = reading.plugins.dialects
    if dialect is not None and known and dialect not in known:
        there_are = ", ".join(sorted(known))
        reading.report.error(
            path, f'no flag has the dialect "{dialect}"; there are {there_are}{reading.report.hint(dialect, known)}'
        )
