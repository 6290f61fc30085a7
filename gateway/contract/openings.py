"""The opening of a chat: its system prompt and its first user message.

- All requests of a chat have the same opening. So the gateway assigns calls with the same opening to one session.
- Only texts are read. Fields such as `cache_control` are ignored, because they change from request to request.
- Before a field is read, its long strings without escapes, such as the base64 of an image, are shortened
  (`long_strings.py`). Then only the first `WINDOW` bytes are read, so reading a large body takes no longer.
- `chat` reads the fields `system` and `messages`. It is the default hook of compatibility flags (plugins of API
  formats). A flag whose API has other fields calls `of_turns`:

    def opening(request):
        return openings.of_turns(request.top, "contents", openings.text_of(request.top, "systemInstruction"))
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from gateway.contract.members import Members

WINDOW: Final = 1024 * 1024
"""Maximum number of bytes of one field in which the opening is searched. Reading them takes less than 30 ms."""
MAX_ITEMS: Final = 1_000
"""Maximum number of messages in which the opening is searched, and of blocks that are read from one message.

In real chats, only a few system messages precede the first user message. Hostile requests could have millions.
"""
MAX_CUT: Final = 64 * 1024
"""Maximum number of characters that are read of a message whose end is not within the first `WINDOW` bytes of its
list."""

_GAP: Final = re.compile(r"[\s,]*")
_DECODER: Final = json.JSONDecoder()

Opening = tuple[str, str]
"""The system prompt and the first user message of a chat."""


def chat(top: Members) -> Opening | None:
    """Return the opening of a chat in OpenAI's Chat API, Anthropic's API or Bedrock's Converse API.

    The system prompt is the field `system` and the first messages with the role `system` or `developer`.

    >>> top = Members(b'{"system": "be brief", "messages": [{"role": "user", "content": "hi"}]}')
    >>> openings.chat(top)
    ('be brief', 'hi')
    """
    return of_turns(top, "messages", text_of(top, "system"))


def of_turns(top: Members, name: str, system: str = "") -> Opening | None:
    """Return the opening of a chat whose messages are in the list `name`, or None if there is no user message.

    `system` is a system prompt that is not in the list. A message without a role counts as a user message.

    >>> openings.of_turns(Members(b'{"contents": [{"parts": [{"text": "hi"}]}]}'), "contents", "be brief")
    ('be brief', 'hi')
    """
    texts = [system]
    for item, source in _items(top, name):
        role = item.get("role", "user") if isinstance(item, dict) else ""
        if role in ("system", "developer"):  # a tuple, not a set: `role` may be any JSON, also a value without a hash
            texts.append(_text(item))
        elif role == "user":
            # a message with an image alone has no text, so its JSON is hashed instead
            return "".join(texts), _text(item) or source
    return None


def text_of(top: Members, name: str) -> str:
    """Return the text of a field of the body. For a field larger than `WINDOW`, return the first bytes of its JSON.

    >>> openings.text_of(Members(b'{"system": [{"type": "text", "text": "be brief"}]}'), "system")
    'be brief'
    """
    if name not in top:
        return ""
    text, is_cut = _window(top, name)
    if is_cut:
        return text
    return _text(_decoded(text, 0)[0])


def _items(top: Members, name: str) -> Iterator[tuple[Any, str]]:
    """Yield the first items of the list in the field `name`. Each item is a pair: the decoded value and its JSON text.

    Only the first `WINDOW` bytes of the list are read. If an item does not end within them, it counts as a user
    message. Its pair is `{"role": "user"}` and the first characters of its JSON.
    """
    text, is_cut = _window(top, name)
    at = _gap(text, 1)
    for _ in range(MAX_ITEMS if text[:1] == "[" else 0):
        if at >= len(text) or text[at] == "]":
            return
        item, end = _decoded(text, at)
        if end <= at:
            if is_cut:
                yield {"role": "user"}, text[at : at + MAX_CUT]
            return
        yield item, text[at:end]
        at = _gap(text, end)


def _window(top: Members, name: str) -> tuple[str, bool]:
    """Return the first `WINDOW` bytes of a field as text, and whether the field is longer."""
    start = top.head(name, WINDOW + 1)
    return start[:WINDOW].decode("utf-8", "replace"), len(start) > WINDOW


def _gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def _decoded(text: str, at: int) -> tuple[Any, int]:
    """Return the JSON value that begins at an offset, and the offset of its end. The end is -1 if the JSON is cut or
    invalid.
    """
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        # the value is cut off, or no parser of this gateway would read it
        return None, -1


def _text(value: Any, depth: int = 4) -> str:
    """Return the joined texts of a message or of its content, in any API format.

    `depth` is the number of levels of lists and objects that are searched. No API format has texts at a deeper level
    than 4.
    """
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join([_text(entry, depth - 1) for entry in value[:MAX_ITEMS]])
    if depth and isinstance(value, dict):
        for name in _TEXTS:
            if name in value:
                return _text(value[name], depth - 1)
    return ""


_TEXTS: Final = ("content", "parts", "text")
"""Names of the fields that may have the text of a message or of a block."""
