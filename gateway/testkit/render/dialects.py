"""Renders canned replies in each dialect of the simulated providers, whole and as the events of a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.testkit.render import anthropic, chat, converse, gemini, responses
from gateway.testkit.scenarios import Canned

INPUT_TOKENS: Final = 9

Rendered = tuple[list[tuple[str, Any]], dict[str, Any]]
"""A rendered reply: the events of its stream, each as (event type, data), and its unstreamed body."""


def rendered(dialect: str, canned: Canned, model: str = "m") -> Rendered:
    """Return the events and the unstreamed body of a predefined reply in a dialect.

    Raises `KeyError` for an unknown dialect.
    """
    return _RENDERERS[dialect](canned, model)


def is_rendered(dialect: str) -> bool:
    return dialect in _RENDERERS


def _chat(canned: Canned, model: str) -> Rendered:
    chunks = chat.chunks(canned, model, INPUT_TOKENS, include_usage=True)
    return [("chat.completion.chunk", chunk) for chunk in chunks], chat.completion(canned, model, INPUT_TOKENS)


def _converse(canned: Canned, _model: str) -> Rendered:
    return converse.events(canned, INPUT_TOKENS), converse.whole(canned, INPUT_TOKENS)


def _gemini(canned: Canned, model: str) -> Rendered:
    chunks = gemini.chunks(canned, model, INPUT_TOKENS)
    return [("chunk", chunk) for chunk in chunks], gemini.response(canned, model, INPUT_TOKENS)


def _responses(canned: Canned, model: str) -> Rendered:
    events = responses.events(canned, model, INPUT_TOKENS)
    return [(event["type"], event) for event in events], responses.response(canned, model, INPUT_TOKENS)


def _anthropic(canned: Canned, model: str) -> Rendered:
    events = anthropic.events(canned, model, INPUT_TOKENS)
    return [(event["type"], event) for event in events], anthropic.message(canned, model, INPUT_TOKENS)


_RENDERERS: Final[Mapping[str, Callable[[Canned, str], Rendered]]] = {
    "anthropic_messages": _anthropic,
    "bedrock_converse": _converse,
    "gemini_generate_content": _gemini,
    "openai_chat": _chat,
    "openai_responses": _responses,
}
