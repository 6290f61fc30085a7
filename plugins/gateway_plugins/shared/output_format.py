"""The JSON schema that a client demands of an answer, and the request members that demand it from the provider.

The provider is asked for the schema in one of three ways. The form of each way differs by dialect:

- natively, if the model has structured output;
- by a schema tool: the gateway adds a tool with this input schema, and the input of the call is the answer;
- by a hint in the system prompt, which the provider does not enforce. The format is then reported as dropped.

Nothing here knows a dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

JSON_HINT: Final = "Answer with one JSON object and nothing else: no other text, no code fence."
"""Hint for OpenAI's format `json_object`. A schema tool would not work: without a schema, models call it with {}."""


SCHEMA_TOOL: Final = "json_output"
"""Name of the schema tool, in requests of every dialect."""


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """A JSON schema that the answer must match."""

    schema: dict[str, Any]
    at: str
    """JSON pointer of the format in the client's request. The format is reported as dropped if it becomes a hint."""
    schema_at: str
    """JSON pointer of the schema."""
    name: str = ""
    description: str = ""
    strict: bool | None = None
    """Whether the answer must match exactly. None if the client does not say: then strict if the schema allows it."""


@dataclass(frozen=True, slots=True)
class FormattedOutput:
    """The members of a request to a provider that ask for the answer's format."""

    body: dict[str, Any]
    """Members of the request, including the tools and the tool choice."""
    schema_tool: str = ""
    """Name of the schema tool; "" if there is none."""
    hint: str = ""
    """Text for the system prompt; "" if there is none."""


def schema_hint(schema: Any) -> str:
    """Return a hint for the system prompt that asks for an answer that matches the schema."""
    return f"{JSON_HINT} It must match this JSON schema: {orjson.dumps(schema).decode()}"
