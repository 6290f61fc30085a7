"""Facts of a reply in the Chat dialect: its usage in the gateway's vocabulary.

Source: OpenAI's API reference (Chat, usage). Which chunks carry it is known to the flag's meter and to the reader.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.flag import Usage
from gateway_plugins.parts.lenient import mapping, whole_number


def usage_of(reported: dict[str, Any]) -> Usage:
    """OpenAI's usage in kinds that do not overlap."""
    prompt = mapping(reported.get("prompt_tokens_details"))
    completion = mapping(reported.get("completion_tokens_details"))
    read = whole_number(prompt.get("cached_tokens"))
    written = whole_number(prompt.get("cache_write_tokens")) or whole_number(prompt.get("cache_creation_tokens"))
    return Usage(
        input=max(0, whole_number(reported.get("prompt_tokens")) - read - written),
        output=whole_number(reported.get("completion_tokens")),
        cache_read=read,
        cache_write_5m=written,
        reasoning=whole_number(completion.get("reasoning_tokens")),
    )


_MEDIA: Final = {
    "image_input": ("prompt_tokens_details", "image_tokens"),
    "audio_input": ("prompt_tokens_details", "audio_tokens"),
    "image_output": ("completion_tokens_details", "image_tokens"),
    "audio_output": ("completion_tokens_details", "audio_tokens"),
}


def media_of(reported: dict[str, Any]) -> dict[str, int]:
    """Tokens of images and sound, which are inside of the prompt's and the completion's."""
    counts = {kind: whole_number(mapping(reported.get(part)).get(name)) for kind, (part, name) in _MEDIA.items()}
    return {kind: count for kind, count in counts.items() if count > 0}
