"""Reads texts, thinking, the finish reason and failures of a Chat reply, for the plugin and for `walk.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.contract import errors
from gateway.contract.errors import Problem
from gateway.contract.provider_errors import reported_problem
from gateway_plugins.shared.lenient import mapping, text

TEXT: Final = "text"
THINKING: Final = "thinking"
_FAILURES: Final = frozenset({"error", "network_error", "insufficient_system_resource", "abort"})
"""Finish reasons of replies that the server could not complete: `error` (OpenRouter and Mistral), `network_error`
(Z.ai), `insufficient_system_resource` (DeepSeek), `abort` (vLLM)."""


def ordered_parts(content: Any) -> list[tuple[str, str]]:
    """Return the parts of a `content` in order, each as a pair.

    A text is (`TEXT`, the text), thinking is (`THINKING`, the text), and any other part is (its type, ""). Normally a
    content is a string, but some servers send a list of parts. In Mistral's replies, a thinking part has a list of
    parts itself.
    """
    if not isinstance(content, list):
        return [(TEXT, text(content))]
    parts = []
    for part in map(mapping, content):
        if THINKING in part:
            inner = part[THINKING]
            thoughts = parts_of(inner)[0] if isinstance(inner, list) else [text(inner)]
            parts += [(THINKING, thought) for thought in thoughts]
        elif TEXT in part:
            parts.append((TEXT, text(part[TEXT])))
        else:
            parts.append((text(part.get("type")) or "part", ""))
    return parts


def parts_of(content: Any) -> tuple[list[str], list[str], list[str]]:
    """Return three lists from a message's `content`: the texts, the texts of thinking, and the types of all other
    parts.
    """
    parts = ordered_parts(content)
    texts = [value for kind, value in parts if kind == TEXT]
    thoughts = [value for kind, value in parts if kind == THINKING]
    return texts, thoughts, [kind for kind, _ in parts if kind not in {TEXT, THINKING}]


def finish_reason(choice: Mapping[str, Any]) -> str:
    """Return the finish reason of a choice, or "" if the choice has not ended.

    Some servers send the text "null" until a choice has ended (AIShell#350).
    """
    reason = text(choice.get("finish_reason"))
    return "" if reason == "null" else reason


def failure(choice: Mapping[str, Any]) -> Problem | None:
    """Return the failure that a choice reports in `error` (OpenRouter) or by its finish reason, or None."""
    if choice.get("error"):
        return reported_problem({"error": choice["error"]}, otherwise=errors.UPSTREAM)
    reason = finish_reason(choice)
    if reason not in _FAILURES:
        return None
    message = f'the provider broke off its reply (finish reason "{reason}")'
    return Problem(errors.UPSTREAM, message, native=reason, retryable=True)
