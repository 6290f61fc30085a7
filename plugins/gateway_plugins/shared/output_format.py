"""The JSON schema that a client demands for the answer, and the fields of the provider's request that ask for it.

The provider gets the schema in one of three forms:

- Structured output, if the model has it.
- A schema tool: the gateway adds a tool with this input schema, and the input of the tool call is the answer.
- A hint in the system prompt, which the provider does not enforce. The format is then reported as dropped.

The fields for each form differ by dialect. They are written in `dialects/`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.contract import lenient_json

JSON_HINT: Final = "Answer with one JSON object and nothing else: no other text, no code fence."
"""Text for the system prompt if a client requests OpenAI's format `json_object`, which has no schema.

No schema tool is used for this format, because models give the input {} to a tool that has no schema."""


SCHEMA_TOOL: Final = "json_output"
"""Name of the schema tool, the tool whose input is the answer. It is the same in every dialect."""


class JsonFormat(msgspec.Struct, frozen=True):
    """A JSON schema that the answer must match."""

    schema: dict[str, Any]
    at: str
    """JSON pointer of the format in the client's request, to report the format if it becomes only a hint."""
    schema_at: str
    """JSON pointer of the schema."""
    name: str = ""
    description: str = ""
    strict: bool | None = None
    """True if the answer must match the schema exactly. It is None if the client does not say. The gateway then demands
    an exact match if the schema meets the provider's rules for this.
    """


class FormattedOutput(msgspec.Struct, frozen=True):
    """Fields of a request that set the format of the answer."""

    body: dict[str, Any]
    """Fields of the request, including the tools and the tool choice."""
    schema_tool: str = ""
    """Name of the schema tool, the tool whose input is the answer. It is "" if the request has no such tool."""
    hint: str = ""
    """Text for the system prompt. It is "" if there is none."""


def schema_hint(schema: Any) -> str:
    """Return a hint for the system prompt: the answer must match the schema."""
    return f"{JSON_HINT} It must match this JSON schema: {lenient_json.dumps(schema).decode()}"
