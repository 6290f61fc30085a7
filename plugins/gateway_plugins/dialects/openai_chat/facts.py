"""Readers of the usage in a Chat reply, and of the texts and thinking in a `content`.

The flag's meter and the reader in `walk.py` use these functions. Source: OpenAI's API reference (Chat, usage).
"""

from __future__ import annotations

from typing import Any, Final

from gateway.contract.flag import Usage
from gateway_plugins.shared.lenient import count, mapping, text


def usage_of(reported: dict[str, Any]) -> Usage:
    """Return OpenAI's usage as `Usage`, whose input excludes tokens read from the cache and written to it."""
    prompt = mapping(reported.get("prompt_tokens_details"))
    completion = mapping(reported.get("completion_tokens_details"))
    read = count(prompt.get("cached_tokens")) or 0
    written = count(prompt.get("cache_write_tokens")) or count(prompt.get("cache_creation_tokens")) or 0
    return Usage(
        input=max(0, (count(reported.get("prompt_tokens")) or 0) - read - written),
        output=count(reported.get("completion_tokens")) or 0,
        cache_read=read,
        cache_write_5m=written,
        reasoning=count(completion.get("reasoning_tokens")) or 0,
    )


TEXT: Final = "text"
THINKING: Final = "thinking"


def ordered_parts(content: Any) -> list[tuple[str, str]]:
    """Return the parts of a `content` in order, as (`TEXT` or `THINKING`, text) or as (type of another part, "").

    A content is a string, or from some servers a list of parts. Mistral's servers send a part of thinking that itself
    contains a list of parts.
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
    """Return three lists: the texts of a `content`, the texts of its thinking, and the types of all other parts."""
    parts = ordered_parts(content)
    texts = [value for kind, value in parts if kind == TEXT]
    thoughts = [value for kind, value in parts if kind == THINKING]
    return texts, thoughts, [kind for kind, _ in parts if kind not in {TEXT, THINKING}]


def has_tokens(reported: dict[str, Any]) -> bool:
    """Return whether the usage has any tokens. Some servers send usage that is empty, or has only nulls or zeros."""
    return any(count(reported.get(name)) for name in ("prompt_tokens", "completion_tokens"))


_MEDIA: Final = {
    "image_input": ("prompt_tokens_details", "image_tokens"),
    "audio_input": ("prompt_tokens_details", "audio_tokens"),
    "image_output": ("completion_tokens_details", "image_tokens"),
    "audio_output": ("completion_tokens_details", "audio_tokens"),
}


def media_of(reported: dict[str, Any]) -> dict[str, int]:
    """Return the numbers of image and audio tokens, by kind. Prompt and completion tokens include these tokens."""
    counts = {kind: count(mapping(reported.get(part)).get(name)) for kind, (part, name) in _MEDIA.items()}
    return {kind: tokens for kind, tokens in counts.items() if tokens}
