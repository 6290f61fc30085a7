"""An answer that must match a JSON schema: the client's format, and the form in which the provider is asked for it.

A format is asked for in one of three forms, which each upstream dialect writes in its own words:

- natively, if the model has structured output;
- by a schema tool, a tool of the gateway whose input is the answer, if the model can be forced to call it;
- by a hint in the system prompt, which nothing enforces; the format is then reported as dropped.

Nothing here knows a dialect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

JSON_HINT: Final = "Answer with one JSON object and nothing else: no other text, no code fence."
"""Hint for `json_object`, which has no other form: a tool without a schema would be called with {} (bedrock.md 3.2)."""


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """A JSON schema that the answer must match."""

    schema: dict[str, Any]
    at: str
    """JSON pointer that is reported as dropped if the format becomes a hint."""
    schema_at: str
    """JSON pointer of the schema."""
    name: str = ""
    description: str = ""
    strict: bool | None = None
    """None if the client leaves it open: as strict as the schema allows."""


@dataclass(frozen=True, slots=True)
class FormattedOutput:
    """The members of a request that ask for a format."""

    body: dict[str, Any]
    """Members of the request, tools and the choice among them included."""
    schema_tool: str = ""
    """Name of the schema tool; "" if there is none."""
    hint: str = ""
    """Text for the system prompt; "" if there is none."""


def schema_hint(schema: Any) -> str:
    """Return the text that asks for an answer that matches the schema."""
    return f"{JSON_HINT} It must match this JSON schema: {orjson.dumps(schema).decode()}"
