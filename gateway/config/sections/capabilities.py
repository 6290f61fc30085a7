"""The section `capabilities` of a provider: corrections of the gateway's data about its models.

The keys of `capabilities` are the fields of `gateway.contract.capabilities.Caps`, where each field is explained. A test
compares the two lists. A key that is left out has the value in `contract/capabilities.json`.
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

    family: str | None = Field(None, description='Who made them: "claude", "nova", "llama" or another word.')
    native_dialect: str | None = Field(
        None,
        description='The dialect of their maker\'s own bodies, which InvokeModel takes: "anthropic_messages"; '
        '"opaque" is passed through.',
    )
    anthropic_versions: _Names | None = Field(
        None, description='Values of anthropic_version on InvokeModel, the default first: ["bedrock-2023-05-31"].'
    )
    max_output: _Tokens | None = Field(None, description="Tokens to ask for where a limit is demanded, such as 32000.")
    needs_max_tokens: bool | None = Field(None, description="Whether a limit is always sent: true or false.")
    min_max_tokens: _Tokens | None = Field(None, description="The smallest output limit that is taken, such as 16.")
    max_completion_tokens: bool | None = Field(
        None, description="Whether the limit of a chat is called max_completion_tokens: true or false."
    )
    sampling: Literal["both", "one", "none"] | None = Field(
        None, description='What is taken of temperature and top_p: "both", "one" of them, or "none".'
    )
    top_k: Literal["", "field", "inference_config"] | None = Field(
        None, description='Where Converse takes top_k: "field", "inference_config", or "" for nowhere.'
    )
    stop_sequences: bool | None = Field(None, description="Whether stop sequences are taken: true or false.")
    blank_stops: bool | None = Field(None, description="Whether one may be nothing but spaces: true or false.")
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
    ) = Field(None, description='How thinking is asked for: "none", "budget", "adaptive", "reasoning_effort", ...')
    thinks_by_default: bool | None = Field(
        None, description="Whether they think unless thinking is switched off: true or false."
    )
    thinking_off: Literal["", "disabled", "between_tools"] | None = Field(
        None, description='The type of thinking that switches it off: "disabled", "between_tools", or "" for none.'
    )
    effort_without_thinking: Literal[_Effort, ""] | None = Field(
        None, description='The strongest effort that is taken while thinking is off: "high"; "" for any.'
    )
    efforts: _Efforts | None = Field(None, description='Efforts, weakest first: ["low", "medium", "high"].')
    effort_beta: str | None = Field(
        None, description='The beta under which an effort is taken beside a budget: "effort-2025-11-24"; "" for none.'
    )
    thinking_display: bool | None = Field(
        None, description="Whether thinking is left out of replies unless it is asked for: true or false."
    )
    signed_reasoning: bool | None = Field(None, description="Whether thinking is signed: true or false.")
    redacted_reasoning: bool | None = Field(None, description="Whether hidden thinking is taken back: true or false.")
    portable_signatures: str | None = Field(
        None, description='The family whose signatures every provider takes: "claude"; "" for none.'
    )
    reasoning_content: bool | None = Field(
        None, description="Whether a chat gets earlier thinking back as reasoning_content: true or false."
    )
    needs_reasoning_content: bool | None = Field(
        None, description="Whether a message with calls is refused without reasoning_content: true or false."
    )
    call_signature: str | None = Field(
        None, description='The signature that stands in for a missing one on a call; "" if none is needed.'
    )
    inline_reasoning: _Names | None = Field(
        None, description='Tags between which thinking may stand at the start of the text: ["think"].'
    )
    own_tool_ids: str | None = Field(
        None, description='A glob of ids of calls that go back unchanged: "functions.*:[0-9]*"; "" for none.'
    )
    tools: bool | None = Field(None, description="Whether tools are taken: true or false.")
    strict_tools: bool | None = Field(None, description="Whether strict is taken on a tool: true or false.")
    forced_tool_choice: bool | None = Field(None, description="Whether a tool may be demanded: true or false.")
    forced_tool_choice_with_thinking: bool | None = Field(
        None, description="Whether a tool may be demanded while they think: true or false."
    )
    tool_choice_fields: bool | None = Field(
        None, description="Whether Converse takes Anthropic's tool_choice among the model's own fields: true or false."
    )
    additional_properties: bool | None = Field(
        None, description="Whether additionalProperties is taken in a tool's schema: true or false."
    )
    schema_references: bool | None = Field(
        None, description="Whether definitions and $ref are taken in a tool's schema: true or false."
    )
    plain_properties: bool | None = Field(
        None, description="Whether a tool's properties need names of letters, digits, _, . and -: true or false."
    )
    tool_result_alone: bool | None = Field(
        None, description="Whether results of tools stand alone in their turn: true or false."
    )
    tool_result_status: bool | None = Field(None, description="Whether a result may carry a status: true or false.")
    tool_result_json: bool | None = Field(None, description="Whether results are given as JSON: true or false.")
    tool_result_images: bool | None = Field(None, description="Whether a result may hold images: true or false.")
    tool_result_documents: Literal["all", "text", "none"] | None = Field(
        None, description='The documents that a result may hold: "all", those of "text", or "none".'
    )
    tool_id_alphanumeric: _Tokens | None = Field(
        None, description="The length of a tool's id where only letters and digits are taken, such as 9; 0 for any."
    )
    system: bool | None = Field(None, description="Whether a system prompt is taken: true or false.")
    mid_system: bool | None = Field(
        None, description="Whether a system message may stand between turns: true or false."
    )
    leading_assistant: bool | None = Field(
        None, description="Whether the first turn may be the assistant's: true or false."
    )
    prefill: bool | None = Field(None, description="Whether the last turn may be the assistant's: true or false.")
    images: bool | None = Field(None, description="Whether images are taken: true or false.")
    documents: bool | None = Field(None, description="Whether documents are taken: true or false.")
    citations: bool | None = Field(
        None, description="Whether documents and search results are cited where that is asked for: true or false."
    )
    remote_media: bool | None = Field(
        None, description="Whether the provider reads images and documents by their URL: true or false."
    )
    stop_sequence_named: bool | None = Field(
        None, description="Whether Converse can be asked which stop sequence was met: true or false."
    )
    json_schema: bool | None = Field(None, description="Whether structured output is native: true or false.")
    cache_points: bool | None = Field(None, description="Whether a prompt can be cached: true or false.")
    tool_cache_points: bool | None = Field(None, description="Whether tools can be cached: true or false.")
    cache_ttl: bool | None = Field(None, description="Whether a cache mark may carry a lifetime: true or false.")


def read_capabilities(
    raw: Mapping[str, Any], models: Mapping[str, str], path: Path, reading: Reading
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Return each pattern with the fields that it sets, in the document's order. Patterns with faults are left out.

    `models` maps each of the provider's model names to the real model.
    """
    changes = []
    for pattern, item in raw.items():
        place = (*path, pattern)
        for name in item if isinstance(item, dict) else ():
            if name not in _CAPABILITIES:
                hint = reading.report.hint(name, _CAPABILITIES)
                known = ", ".join(_CAPABILITIES)
                reading.report.error((*place, name), f"is no capability{hint}; there are {known}")
        if reading.report.patient(len(models)) and not any(fits(pattern, *names) for names in models.items()):
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
