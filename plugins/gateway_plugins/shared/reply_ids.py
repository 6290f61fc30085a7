"""Ids of replies in the form of the client's API, because some clients check the form.

Only the prefix of the provider's id is replaced, so that the reply can still be found in the provider's logs.
"""

from __future__ import annotations

import re
import uuid
from typing import Final

_PREFIXES: Final = ("msg_", "chatcmpl-", "resp_", "cmpl-", "gen-")
"""Prefixes of reply ids in Messages, Chat, Responses and Completions, and at OpenRouter."""
_UNSAFE: Final = re.compile("[^A-Za-z0-9_-]")
_LONGEST: Final = 100
"""Maximum number of characters that are kept of a provider's reply id, not counting its prefix."""


def reply_id(prefix: str, given: str) -> str:
    """Return the provider's id `given` with another prefix: its own prefix is replaced by `prefix`.

    If nothing follows the prefix in `given`, a random id follows `prefix`.
    """
    other = next((other for other in _PREFIXES if given.startswith(other)), "")
    rest = _UNSAFE.sub("", given.removeprefix(other))[:_LONGEST]
    return f"{prefix}{rest or uuid.uuid4().hex}"
